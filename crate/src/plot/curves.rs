//! Curves: panels side by side, one line per series.

use super::axis::extent;
use super::canvas::{Canvas, Legend, MARGIN, WIDTH, pixels};
use super::text::{Anchor, LABEL, number, style};
use super::{Color, Figure, chart};
use crate::Result;
use crate::error::ensure;

const PANEL_GAP: f32 = 36.0;
const AXES_HEIGHT: f32 = 286.0;
const Y_LABEL_HEIGHT: f32 = 22.0;
const LEGEND_SAMPLE: f32 = 22.0;

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

/// One line.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The name in the legend. An empty name has no entry.
    pub name: String,
    /// (x, y); a y that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
    /// `None` for the colour of the network that the name begins with, or else the next colour of the palette. Series with
    /// the same name have the same colour in all panels of a figure.
    pub color: Option<Color>,
    /// (lowest, highest) y of each point, or empty. Drawn as error bars, or as a band if there are many points.
    pub spread: Vec<(f64, f64)>,
}

impl Series {
    /// One value per epoch; the first epoch is 1.
    ///
    /// ```
    /// use vitlab::plot::Series;
    /// assert_eq!(Series::per_epoch("training", [0.9, 0.5]).points, [(1.0, 0.9), (2.0, 0.5)]);
    /// ```
    pub fn per_epoch(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let points = (1..).map(f64::from).zip(values).collect();
        Series { name: name.to_string(), points, ..Series::default() }
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

/// Draws panels from left to right, up to three in a row.
///
/// ```
/// use vitlab::plot::{Panel, Series, curves};
/// let loss = Series::per_epoch("training", [2.1, 1.2, 0.8]);
/// let panel = Panel { x_label: "epoch".into(), y_label: "loss".into(), series: vec![loss], ..Panel::default() };
/// let figure = curves("Learning curves", &[panel])?;
/// assert_eq!(figure.alt(), "Learning curves. loss by epoch: training from 2.10 to 0.80.");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// No panel, a panel without a point that its axes can show, a y range that is not from low to high, or a series whose
/// spread has another length than its points.
pub fn curves(title: &str, panels: &[Panel]) -> Result<Figure> {
    check(panels)?;
    let per_row = panels.len().min(3);
    let width = (WIDTH - 2.0 * MARGIN - PANEL_GAP * (per_row - 1) as f32) / per_row as f32;
    let legend = |panel| Legend::new(named(panel).map(|series| series.name.as_str()), LEGEND_SAMPLE, width);
    let legends: Vec<Legend> = panels.iter().map(legend).collect();
    let above = Y_LABEL_HEIGHT + legends.iter().map(|legend| legend.height).fold(0.0, f32::max) + 10.0;
    let row_height = above + AXES_HEIGHT;
    let rows = panels.len().div_ceil(per_row);

    let names: Vec<&str> = panels.iter().flat_map(|panel| &panel.series).map(|series| series.name.as_str()).collect();
    let colors = Color::of_series(&names);
    let color = |series: &Series| series.color.unwrap_or_else(|| colors[series.name.as_str()]);
    let (mut canvas, top) = Canvas::page(title, row_height * rows as f32);
    for (i, (panel, legend)) in panels.iter().zip(&legends).enumerate() {
        let x = MARGIN + (width + PANEL_GAP) * (i % per_row) as f32;
        let y = top + row_height * (i / per_row) as f32;
        canvas.text(x, y + Y_LABEL_HEIGHT / 2.0, &panel.y_label, style(LABEL, Color::TEXT, Anchor::Left));
        let named: Vec<&Series> = named(panel).collect();
        legend.draw(&mut canvas, (x, y + Y_LABEL_HEIGHT), |canvas, i, left, middle| {
            canvas.line(left, middle, LEGEND_SAMPLE, named[i].dashed, color(named[i]));
        });
        let corner = (pixels(x), pixels(y + above));
        let area = canvas.area().shrink(corner, (pixels(width), pixels(AXES_HEIGHT)));
        chart::draw(&area, panel, width, color);
    }
    Figure::new(canvas, alt(title, panels))
}

/// The series of the legend.
fn named(panel: &Panel) -> impl Iterator<Item = &Series> {
    panel.series.iter().filter(|series| !series.name.is_empty())
}

fn check(panels: &[Panel]) -> Result<()> {
    ensure!(!panels.is_empty(), "curves need at least one panel; give one with a series");
    for panel in panels {
        ensure!(
            panel.series.iter().any(|series| panel.drawn(series).next().is_some()),
            "the panel {:?} has no finite value (on a logarithmic axis: no positive one) to draw; give at least one",
            panel.y_label
        );
        let (low, high) = panel.y_range.unwrap_or((1.0, 2.0));
        ensure!(
            low < high && !(panel.log_y && low <= 0.0),
            "the y range of the panel {:?} goes from {low} to {high}; give (low, high), on a logarithmic axis both positive",
            panel.y_label
        );
    }
    for Series { name, points, spread, .. } in panels.iter().flat_map(|panel| &panel.series) {
        let (n, spreads) = (points.len(), spread.len());
        ensure!(
            [0, n].contains(&spreads),
            "the series {name:?} has {n} points and {spreads} spreads; give one for each or none"
        );
    }
    Ok(())
}

fn alt(title: &str, panels: &[Panel]) -> String {
    let panel = |panel: &Panel| {
        let values = |series| panel.drawn(series).map(|(_, y)| y).collect::<Vec<f64>>();
        let mut drawn: Vec<_> = panel.series.iter().map(|series| (&series.name, values(series))).collect();
        drawn.retain(|(_, values)| !values.is_empty());
        // Curves that share both ends, such as those of a deletion test, differ in between.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        let share_ends = |a: &[f64], b: &[f64]| near(a[0], b[0]) && near(a[a.len() - 1], b[b.len() - 1]);
        let with_middle = panel.series.len() > 1 && drawn.iter().all(|(_, values)| share_ends(values, &drawn[0].1));
        let text = |y: f64| if panel.percent { format!("{:.1} %", y * 100.0) } else { number(y as f32) };
        let line = |(name, values): &(&String, Vec<f64>)| {
            let (first, last) = (text(values[0]), text(values[values.len() - 1]));
            match values.len() {
                1 => format!("{name} {first}"),
                n if with_middle => format!("{name} from {first} over {} to {last}", text(values[n / 2])),
                _ => format!("{name} from {first} to {last}"),
            }
        };
        let lines: Vec<String> = drawn.iter().map(line).collect();
        format!(" {} by {}: {}.", panel.y_label, panel.x_label, lines.join(", "))
    };
    format!("{}.{}", title.trim_end_matches('.'), panels.iter().map(panel).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let panel = |points: Vec<(f64, f64)>, y_range| Panel {
            y_label: "loss".into(),
            series: vec![Series { points, ..Series::default() }],
            y_range,
            ..Panel::default()
        };
        let message = |y, y_range| curves("", &[panel(vec![(1.0, y)], y_range)]).unwrap_err().to_string();
        assert!(curves("", &[]).is_err());
        assert!(message(f64::NAN, None).contains("loss"));
        assert!(message(1.0, Some((1.0, 1.0))).contains("(low, high)"));
    }

    /// Logarithmic axes leave out values that are not positive. Spreads are drawn as bars and as bands.
    #[test]
    fn logarithmic_axes_and_spreads() {
        let runs = |n| Series::of_runs("a", (0..n).map(f64::from).map(|x| (x, vec![x, x * 2.0])));
        let panel =
            |series| Panel { series: vec![series], log_x: true, log_y: true, percent_x: true, ..Panel::default() };
        for (n, last) in [(3, 3.0), (100, 148.5)] {
            let figure = curves("Runs", &[panel(runs(n))]).unwrap();
            assert!(figure.alt().contains(&format!("a from 1.50 to {}", number(last))), "{}", figure.alt());
        }
        let message = |series| curves("", &[panel(series)]).unwrap_err().to_string();
        assert!(message(runs(1)).contains("no positive one"));
        let mut short = runs(5);
        short.spread.pop();
        assert!(message(short).contains("5 points and 4 spreads"));
    }

    /// Curves that share both ends are described with a value in the middle, a single point with its value.
    #[test]
    fn the_alternative_text_tells_curves_apart() {
        let alt = |ys: &[&[f64]]| {
            let series = ys.iter().map(|ys| Series::per_epoch("s", ys.iter().copied())).collect();
            curves("", &[Panel { series, ..Panel::default() }]).unwrap().alt().to_string()
        };
        let told = alt(&[&[1.0, 0.5, 0.0], &[1.0, 0.25, 0.0]]);
        assert!(told.contains("s from 1 over 0.50 to 0, s from 1 over 0.25 to 0"), "{told}");
        assert!(alt(&[&[1.0, 0.5], &[1.0, 0.25]]).contains("s from 1 to 0.50, s from 1 to 0.25"));
        assert!(alt(&[&[0.5]]).contains(": s 0.50."));
    }

    /// One epoch, equal values, a gap and huge values can be drawn.
    #[test]
    fn odd_series() {
        for points in [vec![(1.0, 0.5)], vec![(1.0, 0.0), (2.0, 0.0)], vec![(1.0, 1e9), (2.0, f64::NAN), (3.0, 1e-9)]] {
            let series = vec![Series { name: "a".into(), points, dashed: true, ..Series::default() }];
            let figure = curves("Odd", &[Panel { series, ..Panel::default() }]).unwrap();
            assert!(figure.png().len() > 1000);
        }
    }
}
