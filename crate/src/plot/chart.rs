//! The axes and lines of one panel of curves.

use plotters::chart::{ChartBuilder, ChartContext, LabelAreaPosition};
use plotters::coord::cartesian::Cartesian2d;
use plotters::element::{Circle, EmptyElement, PathElement, Polygon};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::{Color as _, RGBColor, TRANSPARENT, TextStyle};
use plotters_bitmap::BitMapBackend;

use super::axis::{Axis, extent};
use super::canvas::{Area, DASH, IN_MEMORY, MARK, pixels, stroke};
use super::text::{self, LABEL, SMALL};
use super::{Color, Panel, Series};

const X_LABELS_HEIGHT: f32 = 46.0;
const MAX_Y_STEPS: f64 = 5.0;
/// A line with at most this many points has a mark on each. So have points that no line shows.
const MARKED: usize = 30;
/// A series with more points than this, such as one per step, is drawn thinner.
const DENSE: usize = 300;
const BAND_OPACITY: f64 = 0.2;
/// Half the width of the ends of an error bar.
const CAP: f32 = 4.0;

type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws `panel` into `area`, which is `width` page units wide.
pub fn draw(area: &Area, panel: &Panel, width: f32, color: impl Fn(&Series) -> Color) {
    let points: Vec<(f64, f64)> = panel.series.iter().flat_map(|series| panel.drawn(series)).collect();
    let mut chart = axes(area, panel, x_axis(panel, &points, width), y_axis(panel, &points));
    for series in &panel.series {
        let color = color(series);
        draw_spread(&mut chart, panel, series, color);
        for run in series.points.split(|&point| !panel.has(point)) {
            if !series.scattered {
                draw_line(&mut chart, series, run, color);
            }
            if series.scattered || series.points.len() <= MARKED || run.len() == 1 {
                draw_marks(&mut chart, run, color);
            }
        }
    }
}

fn axes<'a, 'b>(area: &'a Area<'b>, panel: &Panel, x_axis: Axis, y_axis: Axis) -> Chart<'a, 'b> {
    let x_label = |value: &f64| x_axis.label(*value, panel.percent_x);
    let y_label = |value: &f64| y_axis.label(*value, panel.percent);
    let widths = y_axis.ticks.iter().map(|tick| text::width(&y_label(tick), SMALL, false));
    let left = widths.fold(0.0, f32::max) + 8.0;
    let mut chart = ChartBuilder::on(area)
        .y_label_area_size(pixels(left))
        .x_label_area_size(pixels(X_LABELS_HEIGHT))
        .build_cartesian_2d(x_axis.clone(), y_axis.clone())
        .expect(IN_MEMORY);
    let soft = RGBColor::from(Color::AXIS_TEXT);
    let text_style =
        |size: f32| TextStyle::from(text::font(f64::from(size) * f64::from(pixels(1.0)), false)).color(&soft);
    // Two meshes, because the two axes of a mesh share their style, and only the horizontal axis is visible.
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .max_light_lines(0)
        .bold_line_style(stroke(1.0, Color::GRID_LINE))
        .axis_style(TRANSPARENT)
        .set_tick_mark_size(LabelAreaPosition::Left, pixels(3.5))
        .y_label_style(text_style(SMALL))
        .y_label_offset(pixels(text::CENTRED_OFFSET * SMALL))
        .y_label_formatter(&y_label)
        .draw()
        .expect(IN_MEMORY);
    chart
        .configure_mesh()
        .disable_mesh()
        .disable_y_axis()
        .axis_style(stroke(1.0, Color::AXIS))
        .set_tick_mark_size(LabelAreaPosition::Bottom, pixels(4.5))
        .x_label_style(text_style(SMALL))
        .x_label_formatter(&x_label)
        .axis_desc_style(text_style(LABEL))
        .x_desc(&panel.x_label)
        .draw()
        .expect(IN_MEMORY);
    chart
}

/// The spread of a series as a band, or as error bars if its points have marks.
fn draw_spread(chart: &mut Chart, panel: &Panel, series: &Series, color: Color) {
    let spread: Vec<(f64, (f64, f64))> = (series.points.iter().zip(&series.spread))
        .map(|(&(x, _), &ends)| (x, ends))
        .filter(|&(x, (low, high))| panel.has((x, low)) && panel.has((x, high)))
        .collect();
    if series.points.len() > MARKED {
        let lower = spread.iter().map(|&(x, (low, _))| (x, low));
        let upper = spread.iter().rev().map(|&(x, (_, high))| (x, high));
        let band =
            Polygon::new(lower.chain(upper).collect::<Vec<_>>(), RGBColor::from(color).mix(BAND_OPACITY).filled());
        chart.draw_series([band]).expect(IN_MEMORY);
        return;
    }
    let line = stroke(1.5, color);
    for &(x, (low, high)) in spread.iter().filter(|(_, (low, high))| low < high) {
        chart.draw_series([PathElement::new(vec![(x, low), (x, high)], line)]).expect(IN_MEMORY);
        let ends = vec![(-pixels(CAP), 0), (pixels(CAP), 0)];
        let cap = |y| EmptyElement::at((x, y)) + PathElement::new(ends.clone(), line);
        chart.draw_series([cap(low), cap(high)]).expect(IN_MEMORY);
    }
}

/// The line through `run`, which are consecutive points of `series`.
fn draw_line(chart: &mut Chart, series: &Series, run: &[(f64, f64)], color: Color) {
    let line = stroke(if series.points.len() > DENSE { 1.0 } else { 2.0 }, color);
    if series.dashed {
        let [dash, gap] = DASH.map(pixels);
        chart.draw_series(DashedLineSeries::new(run.iter().copied(), dash, gap, line)).expect(IN_MEMORY);
    } else {
        // Draws segments singly with round ends, because plotters' joints overshoot at sharp turns.
        for ends in run.windows(run.len().clamp(1, 2)) {
            let section = LineSeries::new(ends.to_vec(), line.filled()).point_size(line.stroke_width / 2);
            chart.draw_series(section).expect(IN_MEMORY);
        }
    }
}

fn draw_marks(chart: &mut Chart, points: &[(f64, f64)], color: Color) {
    let mark = |point, radius, color| Circle::new(point, pixels(radius), RGBColor::from(color).filled());
    let marks = points.iter().flat_map(|&point| [mark(point, MARK + 1.0, Color::WHITE), mark(point, MARK, color)]);
    chart.draw_series(marks).expect(IN_MEMORY);
}

/// From the lowest to the highest x with a margin. There are as many ticks as their labels have room for, at integers if
/// all x are integers, such as epochs.
fn x_axis(panel: &Panel, points: &[(f64, f64)], width: f32) -> Axis {
    let (low, high) = extent(points.iter().map(|point| point.0));
    if panel.log_x {
        return logarithmic(low, high, f64::from(width / 38.0).clamp(2.0, 12.0));
    }
    let margin = if high > low { (high - low) * 0.03 } else { 0.5 };
    let label = 14.0 + 7.0 * format!("{:.0}", high.abs()).len() as f32;
    let integers = points.iter().all(|point| point.0.fract() == 0.0);
    Axis::new(low - margin, high + margin, f64::from(width / label).clamp(2.0, 12.0), integers)
}

fn y_axis(panel: &Panel, points: &[(f64, f64)]) -> Axis {
    let spreads = panel.series.iter().flat_map(|series| &series.spread);
    let spreads = spreads.flat_map(|&(low, high)| [low, high]).filter(|&y| panel.has((1.0, y)));
    let (low, high) = extent(points.iter().map(|point| point.1).chain(spreads));
    match panel.y_range {
        Some((low, high)) if panel.log_y => Axis::logarithmic(low, high, MAX_Y_STEPS + 2.0),
        Some((low, high)) => Axis::new(low, high, MAX_Y_STEPS, false),
        None if panel.log_y => logarithmic(low, high, MAX_Y_STEPS + 2.0),
        None => {
            let margin = if high > low { 0.0 } else { 0.05 * low.abs().max(1.0) };
            Axis::rounded(low - margin, high + margin, MAX_Y_STEPS)
        }
    }
}

/// A logarithmic axis that extends beyond its values by a factor.
fn logarithmic(low: f64, high: f64, max_ticks: f64) -> Axis {
    let margin = if high > low { (high / low).powf(0.04) } else { 2.0 };
    Axis::logarithmic(low / margin, high * margin, max_ticks)
}
