//! Learning curves: panels side by side, one line per series.

use std::cmp::Ordering;

use super::canvas::{Canvas, MARGIN, WIDTH, pixels};
use super::chart;
use super::text::{self, Anchor, LABEL, SMALL, number, style};
use super::{Color, Figure};
use crate::{Error, Result};

const GAP: f32 = 36.0;
/// Of the axes with what is below them.
const HEIGHT: f32 = 286.0;
const HEADING: f32 = 22.0;
const LEGEND_LINE: f32 = 20.0;
/// Length of the sample of a line in the legend.
const SAMPLE: f32 = 22.0;

/// One pair of axes.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    pub x_label: String,
    /// Stands above the axis.
    pub y_label: String,
    pub series: Vec<Series>,
    /// Lowest and highest value of the y axis; `None` takes what the data need.
    pub y_range: Option<(f64, f64)>,
    /// The values are shares from 0 to 1, shown as per cent.
    pub percent: bool,
    /// A logarithmic x axis, on which values that are not positive leave gaps.
    pub log_x: bool,
    /// The same for the y axis.
    pub log_y: bool,
    /// The x values are shares, shown as per cent.
    pub percent_x: bool,
}

impl Panel {
    /// Whether the axes have a place for a point.
    pub(super) fn has(&self, (x, y): (f64, f64)) -> bool {
        let fits = |value: f64, log: bool| value.is_finite() && (!log || value > 0.0);
        fits(x, self.log_x) && fits(y, self.log_y)
    }

    pub(super) fn drawn<'a>(&'a self, series: &'a Series) -> impl Iterator<Item = (f64, f64)> + 'a {
        series.points.iter().copied().filter(|&at| self.has(at))
    }
}

/// One line. The same name has the same colour in all panels of a figure.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// In the legend, unless it is empty.
    pub name: String,
    /// (x, y); a y that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
    /// (lowest, highest) y of each point, drawn as error bars, or as a band where there are many points; may be empty.
    pub spread: Vec<(f64, f64)>,
}

impl Series {
    /// One value per epoch, the first at 1.
    ///
    /// ```
    /// use vitlab::plot::Series;
    /// assert_eq!(Series::per_epoch("training", [0.9, 0.5]).points, [(1.0, 0.9), (2.0, 0.5)]);
    /// ```
    pub fn per_epoch(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let points = (1..).map(f64::from).zip(values).collect();
        Series { name: name.to_string(), points, ..Series::default() }
    }

    /// Several runs: for each x the mean of its values, with the lowest and the highest as the spread.
    ///
    /// ```
    /// use vitlab::plot::Series;
    /// let series = Series::of_runs("CNN", [(0.01, vec![0.5, 0.75, 1.0]), (1.0, vec![0.75])]);
    /// assert_eq!(series.points, [(0.01, 0.75), (1.0, 0.75)]);
    /// assert_eq!(series.spread, [(0.5, 1.0), (0.75, 0.75)]);
    /// ```
    pub fn of_runs(name: &str, runs: impl IntoIterator<Item = (f64, Vec<f64>)>) -> Self {
        let mut series = Series { name: name.to_string(), ..Series::default() };
        for (x, values) in runs {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            series.points.push((x, mean));
            series.spread.push((
                values.iter().copied().fold(f64::INFINITY, f64::min),
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ));
        }
        series
    }
}

/// Panels from left to right, up to three in a row.
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
/// No panel, a panel without a finite point, or a y range that is not from low to high.
pub fn curves(title: &str, panels: &[Panel]) -> Result<Figure> {
    check(panels)?;
    let per_row = panels.len().min(3);
    let width = (WIDTH - 2.0 * MARGIN - GAP * (per_row - 1) as f32) / per_row as f32;
    let colors = Colors::new(panels);
    let legend = panels.iter().map(|panel| legend(panel, width).1).fold(0.0, f32::max);
    let above = HEADING + legend + 10.0;
    let row_height = above + HEIGHT;
    let rows = panels.len().div_ceil(per_row);

    let (mut canvas, top) = Canvas::page(title, row_height * rows as f32);
    for (i, panel) in panels.iter().enumerate() {
        let x = MARGIN + (width + GAP) * (i % per_row) as f32;
        let y = top + row_height * (i / per_row) as f32;
        header(&mut canvas, panel, &colors, (x, y, width));
        let corner = (pixels(x), pixels(y + above));
        let area = canvas.area().shrink(corner, (pixels(width), pixels(HEIGHT)));
        chart::draw(&area, panel, width, |series| colors.of(series));
    }
    Figure::new(canvas, alt(title, panels))
}

fn check(panels: &[Panel]) -> Result<()> {
    if panels.is_empty() {
        return Err(Error::argument("curves need at least one panel; give one with a series"));
    }
    for panel in panels {
        if panel.series.iter().all(|series| panel.drawn(series).next().is_none()) {
            let problem = format!(
                "the panel {:?} has no finite value (on a logarithmic axis: no positive one) to draw; give at least one",
                panel.y_label
            );
            return Err(Error::argument(problem));
        }
        if let Some((low, high)) = panel
            .y_range
            .filter(|(low, high)| low.partial_cmp(high) != Some(Ordering::Less) || panel.log_y && *low <= 0.0)
        {
            let problem = format!(
                "the y range of the panel {:?} goes from {low} to {high}; give (low, high), on a logarithmic axis both positive",
                panel.y_label
            );
            return Err(Error::argument(problem));
        }
    }
    for series in panels.iter().flat_map(|panel| &panel.series) {
        if !series.spread.is_empty() && series.spread.len() != series.points.len() {
            return Err(Error::argument(format!(
                "the series {:?} has {} points and {} spreads; give one for each or none",
                series.name,
                series.points.len(),
                series.spread.len()
            )));
        }
    }
    Ok(())
}

/// The names of all series in order of appearance.
struct Colors(Vec<String>);

impl Colors {
    fn new(panels: &[Panel]) -> Self {
        let mut names: Vec<String> = Vec::new();
        for series in panels.iter().flat_map(|panel| &panel.series) {
            if !names.contains(&series.name) {
                names.push(series.name.clone());
            }
        }
        Colors(names)
    }

    fn of(&self, series: &Series) -> Color {
        let place = self.0.iter().position(|name| *name == series.name).unwrap_or(0);
        Color::SERIES[place % Color::SERIES.len()]
    }
}

/// Where each entry of the legend goes, from the panel's corner, and the height of all.
fn legend(panel: &Panel, width: f32) -> (Vec<(f32, f32)>, f32) {
    let (mut x, mut y) = (0.0, 0.0);
    let mut places = Vec::new();
    for series in panel.series.iter().filter(|series| !series.name.is_empty()) {
        let entry = SAMPLE + 6.0 + text::width(&series.name, SMALL, false);
        if x > 0.0 && x + entry > width {
            (x, y) = (0.0, y + LEGEND_LINE);
        }
        places.push((x, y));
        x += entry + 18.0;
    }
    (places, y + LEGEND_LINE)
}

/// Above the axes: what the panel shows, and the names of its series.
fn header(canvas: &mut Canvas, panel: &Panel, colors: &Colors, (x, y, width): (f32, f32, f32)) {
    let ink = |size| style(size, Color::INK, Anchor::Left);
    canvas.text(x, y + HEADING / 2.0, &panel.y_label, ink(LABEL));
    let named = panel.series.iter().filter(|series| !series.name.is_empty());
    for (series, (dx, dy)) in named.zip(legend(panel, width).0) {
        let (left, middle) = (x + dx, y + HEADING + dy + LEGEND_LINE / 2.0);
        canvas.sample(left, middle, SAMPLE, series.dashed, colors.of(series));
        canvas.text(left + SAMPLE + 6.0, middle, &series.name, ink(SMALL));
    }
}

fn alt(title: &str, panels: &[Panel]) -> String {
    let value = |panel: &Panel, y: f64| {
        if panel.percent { format!("{:.1} %", y * 100.0) } else { number(y as f32) }
    };
    // Curves that share both ends, as those of a deletion test, differ in between.
    let ends_alike = |panel: &Panel| {
        let ends = |series: &Series| panel.drawn(series).next().zip(panel.drawn(series).last());
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        let mut all = panel.series.iter().filter_map(ends);
        let first = all.next();
        panel.series.len() > 1
            && first.is_some_and(|(start, end)| all.all(|(other, last)| near(other.1, start.1) && near(last.1, end.1)))
    };
    let line = |panel: &Panel, series: &Series, middle: bool| {
        let drawn: Vec<f64> = panel.drawn(series).map(|(_, y)| y).collect();
        let text = |y: f64| value(panel, y);
        let (name, first, last) = (&series.name, text(*drawn.first()?), text(*drawn.last()?));
        Some(match drawn.len() {
            1 => format!("{name} {first}"),
            n if middle => format!("{name} from {first} over {} to {last}", text(drawn[n / 2])),
            _ => format!("{name} from {first} to {last}"),
        })
    };
    let panels = panels.iter().map(|panel| {
        let middle = ends_alike(panel);
        let lines: Vec<String> = panel.series.iter().filter_map(|series| line(panel, series, middle)).collect();
        format!(" {} by {}: {}.", panel.y_label, panel.x_label, lines.join(", "))
    });
    format!("{}.{}", title.trim_end_matches('.'), panels.collect::<String>())
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
        assert!(curves("", &[]).is_err());
        assert!(curves("", &[panel(vec![(1.0, f64::NAN)], None)]).unwrap_err().to_string().contains("loss"));
        assert!(
            curves("", &[panel(vec![(1.0, 1.0)], Some((1.0, 1.0)))]).unwrap_err().to_string().contains("(low, high)")
        );
    }

    /// Logarithmic axes leave out what they have no place for; spreads are drawn as bars and as bands.
    #[test]
    fn logarithmic_axes_and_spreads() {
        let runs = |n: i32| {
            let x = (0..n).map(f64::from);
            Series::of_runs("a", x.map(|x| (x, vec![x, x * 2.0])))
        };
        let panel =
            |series| Panel { series: vec![series], log_x: true, log_y: true, percent_x: true, ..Panel::default() };
        for n in [3, 100] {
            let figure = curves("Runs", &[panel(runs(n))]).unwrap();
            let alt = format!("a from 1.50 to {}", number((n - 1) as f32 * 1.5));
            assert!(figure.alt().contains(&alt), "{}", figure.alt());
        }
        let message = |series| curves("", &[panel(series)]).unwrap_err().to_string();
        assert!(message(runs(1)).contains("no positive one"));
        let mut short = runs(5);
        short.spread.pop();
        assert!(message(short).contains("5 points and 4 spreads"));
    }

    /// Curves that share both ends are told apart by their middle; a single point has no course.
    #[test]
    fn the_alternative_text_tells_curves_apart() {
        let panel = |ys: &[&[f64]]| Panel {
            series: ys
                .iter()
                .map(|ys| Series {
                    name: "s".into(),
                    points: ys.iter().enumerate().map(|(i, y)| (i as f64, *y)).collect(),
                    ..Series::default()
                })
                .collect(),
            ..Panel::default()
        };
        let alt = |ys: &[&[f64]]| curves("", &[panel(ys)]).unwrap().alt().to_string();
        let told = alt(&[&[1.0, 0.5, 0.0], &[1.0, 0.25, 0.0]]);
        assert!(told.contains("s from 1 over 0.50 to 0, s from 1 over 0.25 to 0"), "{told}");
        assert!(alt(&[&[1.0, 0.5], &[1.0, 0.25]]).contains("s from 1 to 0.50, s from 1 to 0.25"));
        assert!(alt(&[&[0.5]]).contains(": s 0.50."));
    }

    /// One epoch, one value for all, a gap and huge values are drawn like anything else.
    #[test]
    fn odd_series() {
        for points in [vec![(1.0, 0.5)], vec![(1.0, 0.0), (2.0, 0.0)], vec![(1.0, 1e9), (2.0, f64::NAN), (3.0, 1e-9)]] {
            let series = vec![Series { name: "a".into(), points, dashed: true, ..Series::default() }];
            let figure = curves("Odd", &[Panel { series, ..Panel::default() }]).unwrap();
            assert!(figure.png().len() > 1000);
        }
    }
}
