//! The axes and lines of one panel of curves.

use plotters::chart::{ChartBuilder, LabelAreaPosition};
use plotters::element::{Circle, EmptyElement, PathElement, Polygon};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::{Color as _, RGBColor, TRANSPARENT, TextStyle};

use super::axis::Axis;
use super::canvas::{Area, SOUND, dashes, pixels, stroke};
use super::text::{self, LABEL, SMALL};
use super::{Color, Panel, Series};

/// Below the axis: the numbers at its ticks and what it measures.
const BELOW: f32 = 46.0;
/// Steps of the y axis.
const MOST_STEPS: f64 = 5.0;
/// A series with at most so many points has them marked.
const MARKED: usize = 30;
/// A series with more points, as one per step, is drawn thinner.
const DENSE: usize = 300;

/// How opaque the band of a spread is.
const BAND: f64 = 0.2;
/// Half the width of an error bar's end in page units.
const CAP: f32 = 4.0;

/// Draws `panel` into `area`, which is `width` page units wide.
pub fn draw(area: &Area, panel: &Panel, width: f32, color: impl Fn(&Series) -> Color) {
    let points: Vec<(f64, f64)> = panel.series.iter().flat_map(|series| panel.drawn(series)).collect();
    let (x_axis, y_axis) = (x_axis(panel, &points, width), y_axis(panel, &points));
    let y_label = |value: &f64| y_axis.label(*value, panel.percent);
    let widths = y_axis.ticks.iter().map(|tick| text::width(&y_label(tick), SMALL, false));
    let left = widths.fold(0.0, f32::max) + 8.0;

    let mut chart = ChartBuilder::on(area)
        .y_label_area_size(pixels(left))
        .x_label_area_size(pixels(BELOW))
        .build_cartesian_2d(x_axis.clone(), y_axis.clone())
        .expect(SOUND);
    let soft = RGBColor::from(Color::SOFT);
    let text_style = |size: f32| {
        let font = text::font(f64::from(size) * f64::from(pixels(1.0)), false);
        TextStyle::from(font).color(&soft)
    };
    // Twice, since the two axes share their style, and the vertical one is not to be seen.
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .max_light_lines(0)
        .bold_line_style(stroke(1.0, Color::LINE))
        .axis_style(TRANSPARENT)
        .set_tick_mark_size(LabelAreaPosition::Left, pixels(3.5))
        .y_label_style(text_style(SMALL))
        .y_label_offset(pixels(text::LOWER * SMALL))
        .y_label_formatter(&y_label)
        .draw()
        .expect(SOUND);
    chart
        .configure_mesh()
        .disable_mesh()
        .disable_y_axis()
        .axis_style(stroke(1.0, Color::AXIS))
        .set_tick_mark_size(LabelAreaPosition::Bottom, pixels(4.5))
        .x_label_style(text_style(SMALL))
        .x_label_formatter(&|value| x_axis.label(*value, panel.percent_x))
        .axis_desc_style(text_style(LABEL))
        .x_desc(&panel.x_label)
        .draw()
        .expect(SOUND);

    let (dash, gap) = dashes();
    for series in &panel.series {
        let color = color(series);
        let thickness = if series.points.len() > DENSE { 1.0 } else { 2.0 };
        let line = stroke(thickness, color);
        let spread: Vec<(f64, (f64, f64))> = (series.points.iter().zip(&series.spread))
            .map(|(&(x, _), &ends)| (x, ends))
            .filter(|&(x, (low, high))| panel.has((x, low)) && panel.has((x, high)))
            .collect();
        if series.points.len() > MARKED {
            let lower = spread.iter().map(|&(x, (low, _))| (x, low));
            let upper = spread.iter().rev().map(|&(x, (_, high))| (x, high));
            let band = Polygon::new(lower.chain(upper).collect::<Vec<_>>(), RGBColor::from(color).mix(BAND).filled());
            chart.draw_series([band]).expect(SOUND);
        } else {
            let caps = vec![(-pixels(CAP), 0), (pixels(CAP), 0)];
            for &(x, (low, high)) in spread.iter().filter(|(_, (low, high))| low < high) {
                let bar = PathElement::new(vec![(x, low), (x, high)], stroke(1.5, color));
                chart.draw_series([bar]).expect(SOUND);
                let cap = |y| EmptyElement::at((x, y)) + PathElement::new(caps.clone(), stroke(1.5, color));
                chart.draw_series([cap(low), cap(high)]).expect(SOUND);
            }
        }
        for run in series.points.split(|&at| !panel.has(at)) {
            if series.dashed {
                let dashed = DashedLineSeries::new(run.iter().copied(), dash, gap, line);
                chart.draw_series(dashed).expect(SOUND);
            } else {
                // One by one with round ends: a joint of plotters shoots far out where a noisy line turns back.
                for ends in run.windows(run.len().clamp(1, 2)) {
                    let part = LineSeries::new(ends.to_vec(), line.filled());
                    let round = part.point_size(line.stroke_width / 2);
                    chart.draw_series(round).expect(SOUND);
                }
            }
            if series.points.len() <= MARKED {
                let mark = |point, radius, color| Circle::new(point, pixels(radius), RGBColor::from(color).filled());
                let marks = run.iter().flat_map(|&at| [mark(at, 4.0, Color::WHITE), mark(at, 3.0, color)]);
                chart.draw_series(marks).expect(SOUND);
            }
        }
    }
}

/// From the lowest to the highest x with a little room, and as many ticks as their labels leave room for, whole where
/// all x are, as epochs are.
fn x_axis(panel: &Panel, points: &[(f64, f64)], width: f32) -> Axis {
    let (low, high) = ends(points.iter().map(|point| point.0));
    if panel.log_x {
        let pad = if high > low { (high / low).powf(0.04) } else { 2.0 };
        let most = f64::from(width / 38.0).clamp(2.0, 12.0);
        return Axis::logarithmic(low / pad, high * pad, most);
    }
    let pad = if high > low { (high - low) * 0.03 } else { 0.5 };
    let room = 14.0 + 7.0 * format!("{:.0}", high.abs()).len() as f32;
    let most = f64::from(width / room).clamp(2.0, 12.0);
    let whole = points.iter().all(|point| point.0.fract() == 0.0);
    Axis::new(low - pad, high + pad, most, whole)
}

/// The range that was asked for, or what the data need.
fn y_axis(panel: &Panel, points: &[(f64, f64)]) -> Axis {
    let spreads = panel.series.iter().flat_map(|series| &series.spread);
    let spreads = spreads.flat_map(|&(low, high)| [low, high]).filter(|&y| panel.has((1.0, y)));
    let (low, high) = ends(points.iter().map(|point| point.1).chain(spreads));
    if panel.log_y {
        let (low, high) = panel.y_range.unwrap_or_else(|| {
            let pad = if high > low { (high / low).powf(0.04) } else { 2.0 };
            (low / pad, high * pad)
        });
        return Axis::logarithmic(low, high, MOST_STEPS + 2.0);
    }
    if let Some((low, high)) = panel.y_range {
        return Axis::new(low, high, MOST_STEPS, false);
    }
    let pad = if high > low { 0.0 } else { 0.05 * low.abs().max(1.0) };
    Axis::rounded(low - pad, high + pad, MOST_STEPS)
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}
