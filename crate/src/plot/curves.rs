//! Curves: panels side by side, one line per series.

use super::axis::extent;
use super::canvas::{Canvas, Legend, MARGIN, WIDTH, pixels};
use super::text::{Anchor, LABEL, number, style};
use super::{Color, Figure, Panel, Series, chart};
use crate::Result;
use crate::error::ensure;

const PANEL_GAP: f32 = 36.0;
const AXES_HEIGHT: f32 = 286.0;
const Y_LABEL_HEIGHT: f32 = 22.0;
const LEGEND_SAMPLE: f32 = 22.0;

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
            if named[i].scattered {
                canvas.mark(left + LEGEND_SAMPLE / 2.0, middle, color(named[i]));
            } else {
                canvas.line(left, middle, LEGEND_SAMPLE, named[i].dashed, color(named[i]));
            }
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
        let mut drawn: Vec<_> = panel.series.iter().map(|series| (series, values(series))).collect();
        drawn.retain(|(_, values)| !values.is_empty());
        // Curves that share both ends, such as those of a deletion test, differ in between.
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        let share_ends = |a: &[f64], b: &[f64]| near(a[0], b[0]) && near(a[a.len() - 1], b[b.len() - 1]);
        let with_middle = panel.series.len() > 1 && drawn.iter().all(|(_, values)| share_ends(values, &drawn[0].1));
        let text = |y: f64| if panel.percent { format!("{:.1} %", y * 100.0) } else { number(y as f32) };
        let line = |(series, values): &(&Series, Vec<f64>)| {
            let name = &series.name;
            if series.scattered {
                let (low, high) = extent(values.iter().copied());
                return format!("{name} {} points between {} and {}", values.len(), text(low), text(high));
            }
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
