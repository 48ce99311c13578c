//! Repeated measurements, with their median and range.

use serde_json::{Value, json};

#[derive(Default)]
pub struct Sample(pub Vec<f64>);

impl Sample {
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let n = sorted.len();
        (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0
    }

    /// Minimum and maximum.
    pub fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        (sorted[0], sorted[sorted.len() - 1])
    }

    fn sorted(&self) -> Vec<f64> {
        assert!(!self.0.is_empty(), "a sample has at least one measurement");
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Sample(self.0.iter().map(|value| f(*value)).collect())
    }

    /// Divides each measurement by the other sample's of the same round.
    pub fn over(&self, other: &Self) -> Self {
        Sample(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    pub fn json(&self) -> Value {
        let (min, max) = self.range();
        json!({ "median": self.median(), "min": min, "max": max, "all": self.0 })
    }

    /// Formats median and range with `digits` decimals: "4.1 (3.9–4.4)".
    pub fn text(&self, digits: usize) -> String {
        let (min, max) = self.range();
        format!("{:.digits$} ({min:.digits$}–{max:.digits$})", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        let odd = Sample(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.range()), (2.0, (1.0, 3.0)));
        let even = Sample(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!(even.median(), 2.5);
        assert_eq!(even.text(1), "2.5 (1.0–4.0)");
        assert_eq!(odd.over(&Sample(vec![1.0, 2.0, 4.0])).0, [3.0, 0.5, 0.5]);
    }
}
