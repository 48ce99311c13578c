//! Horizontal bars in groups, with error bars and their values as text.

use super::axis::{Axis, extent};
use super::canvas::{Canvas, Legend, MARGIN, WIDTH};
use super::text::{self, Anchor, LABEL, LEADING, SMALL, style};
use super::{Color, Figure};
use crate::Result;
use crate::error::ensure;

const LABELS_WIDTH: f32 = 180.0;
const VALUES_WIDTH: f32 = 110.0;
const BAR_HEIGHT: f32 = 18.0;
const GROUP_GAP: f32 = 14.0;
const LEGEND_SAMPLE: f32 = 11.0;

/// The bars beside one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub label: String,
    /// (value, error) for each series. The error is half the length of the error bar; 0 draws no error bar.
    pub values: Vec<(f64, f64)>,
}

/// Bars from zero, one per series in each group. `series` are the names of the legend; it may be empty for a single series.
/// With `percent` the values are shares from 0 to 1.
///
/// ```
/// use vitlab::plot::{Group, bars};
/// let group = |label: &str, value, error| Group { label: label.into(), values: vec![(value, error)] };
/// let groups = [group("ViT", 0.79, 0.004), group("DeiT", 0.812, 0.0)];
/// let figure = bars("Accuracy", "test accuracy", &[], &groups, true)?;
/// assert_eq!(figure.alt(), "Accuracy. test accuracy: ViT 79.0 ± 0.4 %; DeiT 81.2 %.");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// No group, a group without one value for each series, or a value that is not finite.
pub fn bars(title: &str, value_label: &str, series: &[&str], groups: &[Group], percent: bool) -> Result<Figure> {
    let per_group = series.len().max(1);
    ensure!(!groups.is_empty(), "bars need at least one group; give one with a value");
    for Group { label, values } in groups {
        let n = values.len();
        ensure!(n == per_group, "the group {label:?} has {n} values for {per_group} series; give one for each");
        let finite = values.iter().all(|(value, error)| value.is_finite() && error.is_finite());
        ensure!(finite, "the group {label:?} has a value that is not finite; leave it out");
    }
    let names = if series.is_empty() { &[""] } else { series };
    let colors = Color::of_series(names);
    let values = groups.iter().flat_map(|group| &group.values);
    let (low, high) = extent(values.flat_map(|(value, error)| [value - error, value + error]).chain([0.0]));
    let axis = Axis::rounded(low, if high > low { high } else { 1.0 }, 6.0);

    let group_height = BAR_HEIGHT * per_group as f32 + GROUP_GAP;
    let (left, right) = (MARGIN + LABELS_WIDTH, WIDTH - MARGIN - VALUES_WIDTH);
    let legend = Legend::new(series.iter().copied(), LEGEND_SAMPLE, WIDTH - MARGIN - left);
    let legend_height = if series.is_empty() { 0.0 } else { legend.height + 4.0 };
    let plot_height = group_height * groups.len() as f32;
    let (mut canvas, top) = Canvas::page(title, legend_height + plot_height + 42.0);
    let at = |value: f64| left + (right - left) * axis.position(value);
    let first = top + legend_height;
    let bottom = first + plot_height;

    legend.draw(&mut canvas, (left, top - 1.5), |canvas, i, x, middle| {
        canvas.rect(x, middle - LEGEND_SAMPLE / 2.0, LEGEND_SAMPLE, LEGEND_SAMPLE, colors[names[i]]);
    });
    for &tick in &axis.ticks {
        canvas.rect(at(tick) - 0.5, first, 1.0, plot_height, Color::GRID_LINE);
        canvas.text(
            at(tick),
            bottom + 12.0,
            &axis.label(tick, percent),
            style(SMALL, Color::AXIS_TEXT, Anchor::Middle),
        );
    }
    for (i, group) in groups.iter().enumerate() {
        let y = first + group_height * i as f32 + GROUP_GAP / 2.0;
        let label = text::wrap(&group.label, LABEL, false, LABELS_WIDTH - 10.0, per_group.clamp(1, 3));
        let start = y + (BAR_HEIGHT * per_group as f32 - label.len() as f32 * LABEL * LEADING) / 2.0;
        canvas.lines(left - 10.0, start, &label, style(LABEL, Color::TEXT, Anchor::Right));
        for (j, &(value, error)) in group.values.iter().enumerate() {
            let (y, middle) = (y + BAR_HEIGHT * j as f32 + 1.0, y + BAR_HEIGHT * (j as f32 + 0.5));
            let (from, to) = (at(value.min(0.0)), at(value.max(0.0)));
            canvas.rect(from, y, to - from, BAR_HEIGHT - 2.0, colors[names[j]]);
            if error > 0.0 {
                let (low, high) = (at(value - error), at(value + error));
                canvas.rect(low, middle - 0.75, high - low, 1.5, Color::TEXT);
                for end in [low, high] {
                    canvas.rect(end - 0.75, middle - 4.0, 1.5, 8.0, Color::TEXT);
                }
            }
            let end = to.max(at(value + error)) + 7.0;
            canvas.text(end, middle, &measured(value, error, percent), style(SMALL, Color::TEXT, Anchor::Left));
        }
    }
    canvas.rect(at(0.0) - 0.5, first, 1.0, plot_height, Color::AXIS);
    canvas.text((left + right) / 2.0, bottom + 31.0, value_label, style(LABEL, Color::AXIS_TEXT, Anchor::Middle));
    Figure::new(canvas, alt(title, value_label, series, groups, percent))
}

/// The text beside a bar.
fn measured(value: f64, error: f64, percent: bool) -> String {
    let (scale, digits, unit) = if percent { (100.0, 1, " %") } else { (1.0, 3, "") };
    let error = if error > 0.0 { format!(" ± {:.digits$}", error * scale) } else { String::new() };
    format!("{:.digits$}{error}{unit}", value * scale).replace('-', "−")
}

fn alt(title: &str, value_label: &str, series: &[&str], groups: &[Group], percent: bool) -> String {
    let group = |group: &Group| {
        let value = |(i, &(value, error)): (usize, &(f64, f64))| {
            let name = series.get(i).map_or(String::new(), |name| format!("{name} "));
            format!("{name}{}", measured(value, error, percent))
        };
        let values: Vec<String> = group.values.iter().enumerate().map(value).collect();
        let colon = if series.is_empty() { "" } else { ":" };
        format!("{}{colon} {}", group.label, values.join(", "))
    };
    let groups: Vec<String> = groups.iter().map(group).collect();
    format!("{}. {value_label}: {}.", title.trim_end_matches('.'), groups.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let group = |values: &[(f64, f64)]| Group { label: "ViT".into(), values: values.to_vec() };
        let message = |groups: &[Group]| bars("", "", &["a", "b"], groups, false).unwrap_err().to_string();
        assert!(message(&[]).contains("at least one group"));
        assert!(message(&[group(&[(1.0, 0.0)])]).contains("1 values for 2 series"));
        assert!(message(&[group(&[(1.0, 0.0), (f64::NAN, 0.0)])]).contains("not finite"));
    }

    #[test]
    fn negative_and_zero_values_are_drawn() {
        let group = |label: &str, value| Group { label: label.into(), values: vec![(value, 0.01)] };
        let figure = bars("Drop", "change", &[], &[group("a", -0.2), group("b", 0.0)], false).unwrap();
        assert_eq!(figure.alt(), "Drop. change: a −0.200 ± 0.010; b 0.000 ± 0.010.");
    }
}
