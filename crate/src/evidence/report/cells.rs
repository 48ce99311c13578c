//! Texts of cells.

use crate::statistics::{Interval, Spread};

/// A cell without a value.
pub const NONE: &str = "–";

/// Text of a row whose numbers don't exist yet.
pub const UNTRAINED: &str = "not trained yet";
pub const UNMEASURED: &str = "not measured yet";

/// Mean ± standard deviation of values times `scale`; the mean alone of a single value.
pub fn spread(values: &[f64], scale: f64, digits: usize) -> String {
    format!("{:.digits$}", Spread::of(values) * scale)
}

/// Mean ± standard deviation of fractions, in percent.
pub fn percent(fractions: &[f64]) -> String {
    spread(fractions, 100.0, 2)
}

/// The two ends of an interval of fractions, in percent.
pub fn percent_interval(interval: Interval) -> String {
    format!("{:.2}", interval * 100.0)
}

/// The two ends of an interval of differences of fractions, in points.
pub fn points_interval(interval: Interval) -> String {
    format!("{:+.2}", interval * 100.0)
}
