//! Cells and tables in Markdown.

use crate::evidence::Interval;
use crate::explain::Estimate;

/// A cell without a value.
pub const NONE: &str = "–";

/// Text of a row whose numbers don't exist yet.
pub const UNTRAINED: &str = "not trained yet";
pub const UNMEASURED: &str = "not measured yet";

/// A table with a header. Short rows are filled with empty cells.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", Vec::from_iter(cells).join(" | "));
    let mut text = line(&mut header.iter().copied()) + &line(&mut header.iter().map(|_| "---"));
    for row in rows {
        text += &line(&mut (0..header.len()).map(|column| row.get(column).map_or("", String::as_str)));
    }
    text
}

/// A number with a typographic minus sign.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let zero = text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
    if zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "−") }
}

/// A number that always has a sign.
pub fn signed(value: f64, digits: usize) -> String {
    let text = number(value, digits);
    if text.starts_with('−') { text } else { format!("+{text}") }
}

/// Mean ± standard deviation of values times `scale`; the mean alone of a single value.
pub fn spread(values: &[f64], scale: f64, digits: usize) -> String {
    if values.is_empty() {
        return NONE.to_string();
    }
    let Estimate { mean, error } = Estimate::of(values);
    let deviation = error.map(|error| scale * error * (values.len() as f64).sqrt());
    let deviation = deviation.map_or(String::new(), |deviation| format!(" ± {}", number(deviation, digits)));
    number(scale * mean, digits) + &deviation
}

/// Mean ± standard deviation of fractions, in percent.
pub fn percent(fractions: &[f64]) -> String {
    spread(fractions, 100.0, 2)
}

/// The two ends of an interval of fractions, in percent.
pub fn percent_interval(interval: Interval) -> String {
    let [low, high] = [-1.0, 1.0].map(|side| number(100.0 * (interval.mean + side * interval.half), 2));
    format!("{low} to {high}")
}

/// The two ends of an interval of differences of fractions, in points.
pub fn points_interval(interval: Interval) -> String {
    let [low, high] = [-1.0, 1.0].map(|side| signed(100.0 * (interval.mean + side * interval.half), 2));
    format!("{low} to {high}")
}
