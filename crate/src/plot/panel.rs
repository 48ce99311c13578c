//! The data of curves: panels of series.

use super::Color;
use super::axis::extent;

/// One pair of axes with its series.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    pub x_label: String,
    /// Written above the axis.
    pub y_label: String,
    pub series: Vec<Series>,
    /// Lowest and highest value of the y axis; `None` for the range of the data.
    pub y_range: Option<(f64, f64)>,
    /// Labels the y axis in per cent; the values are shares from 0 to 1.
    pub percent: bool,
    pub percent_x: bool,
    /// Makes the x axis logarithmic. Values that are not positive leave gaps.
    pub log_x: bool,
    pub log_y: bool,
}

impl Panel {
    /// Series on linear axes.
    ///
    /// ```
    /// use vitlab::plot::{Panel, Series};
    /// let line = Series::new("head 0", [(0.0, 0.5), (1.0, 0.25)]);
    /// let panel = Panel { log_y: true, ..Panel::new("layer", "entropy (nats)", [line]) };
    /// assert_eq!((panel.x_label.as_str(), panel.series[0].points[1]), ("layer", (1.0, 0.25)));
    /// ```
    pub fn new(x_label: &str, y_label: &str, series: impl IntoIterator<Item = Series>) -> Self {
        let series = series.into_iter().collect();
        Panel { x_label: x_label.to_string(), y_label: y_label.to_string(), series, ..Panel::default() }
    }

    /// Whether the axes can show a point.
    pub(super) fn has(&self, (x, y): (f64, f64)) -> bool {
        let fits = |value: f64, log: bool| value.is_finite() && (!log || value > 0.0);
        fits(x, self.log_x) && fits(y, self.log_y)
    }

    /// The points of `series` that the axes can show.
    pub(super) fn drawn<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = (f64, f64)> + 'a {
        series.points.iter().copied().filter(|&point| self.has(point))
    }
}

/// One line, or points.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The name in the legend. An empty name has no entry.
    pub name: String,
    /// (x, y); a y that is not finite leaves a gap in the line.
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
    /// Points without a line between them.
    pub scattered: bool,
    /// `None` for the colour of the network that the name begins with, or else the next colour of the palette. Series with
    /// the same name have the same colour in all panels of a figure.
    pub color: Option<Color>,
    /// (lowest, highest) y of each point, or empty. Drawn as error bars, or as a band if there are many points.
    pub spread: Vec<(f64, f64)>,
}

impl Series {
    /// A solid line through (x, y).
    pub fn new(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Series { name: name.to_string(), points: points.into_iter().collect(), ..Series::default() }
    }

    /// Points (x, y) without a line between them.
    ///
    /// ```
    /// use vitlab::plot::{Panel, Series, curves};
    /// let heads = Series::scatter("heads", [(0.0, 3.5), (0.0, 3.0), (1.0, 4.0)]);
    /// let figure = curves("Distances", &[Panel::new("layer", "pixels", [heads])])?;
    /// assert_eq!(figure.alt(), "Distances. pixels by layer: heads 3 points between 3 and 4.");
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn scatter(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Series { scattered: true, ..Series::new(name, points) }
    }

    /// One value per epoch; the first epoch is 1.
    ///
    /// ```
    /// use vitlab::plot::Series;
    /// assert_eq!(Series::per_epoch("training", [0.9, 0.5]).points, [(1.0, 0.9), (2.0, 0.5)]);
    /// ```
    pub fn per_epoch(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        Series::new(name, (1..).map(f64::from).zip(values))
    }

    /// Several runs: for each x the mean of their values, and the lowest and the highest value as the spread.
    ///
    /// ```
    /// use vitlab::plot::Series;
    /// let series = Series::of_runs("CNN", [(0.01, vec![0.5, 0.75, 1.0]), (1.0, vec![0.75])]);
    /// assert_eq!(series.points, [(0.01, 0.75), (1.0, 0.75)]);
    /// assert_eq!(series.spread, [(0.5, 1.0), (0.75, 0.75)]);
    /// ```
    pub fn of_runs(name: &str, runs: impl IntoIterator<Item = (f64, Vec<f64>)>) -> Self {
        let summary = |(x, values): (f64, Vec<f64>)| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            ((x, mean), extent(values))
        };
        let (points, spread) = runs.into_iter().map(summary).unzip();
        Series { name: name.to_string(), points, spread, ..Series::default() }
    }
}
