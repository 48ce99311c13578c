//! Axes with their ticks and labels. plotters can miss the last tick because of rounding, or draw a single one.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;

#[derive(Clone)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    /// Distance of the ticks. `None` on a logarithmic axis: equal distances are equal factors, and both ends are positive.
    step: Option<f64>,
}

/// The smallest and the largest of `values`; (∞, −∞) if empty.
pub fn extent(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    values.into_iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The smallest of 1, 2 or 5 times a power of ten that divides `extent` into at most `max_steps` steps.
fn round_step(extent: f64, max_steps: f64) -> f64 {
    let rough = extent.max(1e-12) / max_steps;
    let power = 10f64.powf(rough.log10().floor());
    let mut steps = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power);
    steps.find(|&step| step >= rough * 0.999).unwrap_or(10.0 * power)
}

impl Axis {
    /// An axis with ticks at round values and at most `max_steps` steps. With `integers` the ticks are integers.
    pub fn new(low: f64, high: f64, max_steps: f64, integers: bool) -> Self {
        let step = round_step(high - low, max_steps);
        let step = if integers { step.ceil().max(1.0) } else { step };
        Axis::in_steps(low, high, step)
    }

    /// An axis from the last tick below `low` to the first tick above `high`, with at most `max_steps` steps.
    pub fn rounded(low: f64, high: f64, max_steps: f64) -> Self {
        let mut step = round_step(high - low, max_steps);
        loop {
            let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
            if last - first <= max_steps {
                return Axis::in_steps(first * step, last * step, step);
            }
            step = round_step((last - first) * step, max_steps);
        }
    }

    fn in_steps(low: f64, high: f64, step: f64) -> Self {
        let first = (low / step - 1e-6).ceil() as i64;
        let last = (high / step + 1e-6).floor() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step).collect();
        Axis { low, high, ticks, step: Some(step) }
    }

    /// A logarithmic axis between positive ends with at most `max_ticks` ticks: at powers of ten and at as many round
    /// multiples of them as possible. If the powers alone are too many, at every second, third or further power.
    pub fn logarithmic(low: f64, high: f64, max_ticks: f64) -> Self {
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let ticks_of = |factors: &[f64], every: usize| -> Vec<f64> {
            let powers = (first..=last).filter(|power| power.rem_euclid(every as i32) == 0);
            let ticks = powers.flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)));
            ticks.filter(|tick| (low * 0.999..=high * 1.001).contains(tick)).collect()
        };
        let dense: [&[f64]; 3] = [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &[1.0, 2.0, 5.0], &[1.0, 3.0]];
        let sparse = (1..=(last - first).max(1) as usize).map(|every| ticks_of(&[1.0], every));
        let ticks = (dense.into_iter().map(|factors| ticks_of(factors, 1)).chain(sparse))
            .find(|ticks| ticks.len() as f64 <= max_ticks)
            .filter(|ticks| ticks.len() > 1)
            .unwrap_or_else(|| Axis::new(low, high, max_ticks, false).ticks);
        Axis { low, high, ticks, step: None }
    }

    /// Position of `value` from 0 at the low end to 1 at the high end.
    pub fn position(&self, value: f64) -> f32 {
        let [value, low, high] = [value, self.low, self.high].map(|value| self.linear(value));
        ((value - low) / (high - low)) as f32
    }

    /// A value in the unit of equal distances: its logarithm on a logarithmic axis.
    fn linear(&self, value: f64) -> f64 {
        if self.step.is_none() { value.ln() } else { value }
    }

    pub fn label(&self, value: f64, percent: bool) -> String {
        let (factor, unit) = if percent { (100.0, " %") } else { (1.0, "") };
        let value = value * factor;
        let text = self.step.map_or_else(|| log_label(value), |step| linear_label(value, step * factor));
        format!("{text}{unit}").replace('-', "−")
    }
}

/// The shortest label that tells ticks at a distance of `step` apart.
fn linear_label(value: f64, step: f64) -> String {
    let digits = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    if value != 0.0 && digits > 4 {
        return format!("{value:.0e}");
    }
    let value = if value.abs() < step * 1e-3 { 0.0 } else { value }; // no −0
    format!("{value:.digits$}")
}

/// The shortest label of a tick with one or two significant digits.
fn log_label(value: f64) -> String {
    let power = (value.log10() + 1e-9).floor();
    if !(-3.0..5.0).contains(&power) {
        return format!("{value:.0e}");
    }
    let digits = (-power).max(0.0) as usize;
    let remainder = (value * 10f64.powi(digits as i32)).fract();
    format!("{value:.*}", digits + usize::from((0.01..0.99).contains(&remainder)))
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.linear(self.low)..self.linear(self.high)).map(&self.linear(*value), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, percent: bool) -> Vec<String> {
        axis.ticks.iter().map(|&tick| axis.label(tick, percent)).collect()
    }

    #[test]
    fn ticks_are_round_and_epochs_whole() {
        assert_eq!(Axis::new(0.9, 10.1, 10.0, true).ticks, (1..=10).map(f64::from).collect::<Vec<_>>());
        assert_eq!(Axis::new(0.5, 1.5, 10.0, true).ticks, [1.0]);
        assert_eq!(Axis::new(0.97, 2.03, 8.0, true).ticks, [1.0, 2.0]);
        let axis = Axis::rounded(0.61, 2.28, 5.0);
        assert_eq!((axis.low, axis.high), (0.5, 2.5));
        assert_eq!(labels(&axis, false), ["0.5", "1.0", "1.5", "2.0", "2.5"]);
        let axis = Axis::rounded(0.55, 0.65, 5.0);
        assert!(((axis.low - 0.55).abs() < 1e-9 && (axis.high - 0.65).abs() < 1e-9), "{} {}", axis.low, axis.high);
        let percent = labels(&Axis::new(0.0, 1.0, 5.0, false), true);
        assert_eq!(percent, ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]);
    }

    #[test]
    fn logarithmic_ticks() {
        let axis = Axis::logarithmic(4.0, 900.0, 8.0);
        assert_eq!(labels(&axis, false), ["5", "10", "20", "50", "100", "200", "500"]);
        assert!((axis.position(60.0) - 0.5).abs() < 1e-6);
        assert_eq!(axis.map(&60.0, (0, 100)), 50);
        assert_eq!(labels(&Axis::logarithmic(0.01, 1.0, 6.0), true), ["1 %", "3 %", "10 %", "30 %", "100 %"]);
        assert_eq!(labels(&Axis::logarithmic(1e-6, 3.0, 5.0), false), ["1e−6", "1e−4", "0.01", "1"]);
        for i in 0..2000 {
            let low = 10f64.powf(f64::from(i % 37) / 3.0 - 6.0);
            let axis = Axis::logarithmic(low, low * 10f64.powf(1.0 + f64::from(i) / 100.0), 6.0);
            assert!((1..=6).contains(&axis.ticks.len()), "{:?}", axis.ticks);
        }
        assert_eq!(labels(&Axis::logarithmic(2.1, 2.9, 5.0), false), ["2.2", "2.4", "2.6", "2.8"]);
    }

    /// For every range both ends have ticks, and there are two to six ticks.
    #[test]
    fn every_range_has_its_ticks() {
        for i in 0..4000 {
            let low = f64::from(i % 63) * 0.37 - 9.0;
            let high = low + 10f64.powf(f64::from(i) / 500.0 - 3.0);
            let axis = Axis::rounded(low, high, 5.0);
            assert!((2..=6).contains(&axis.ticks.len()), "{low} {high}: {:?}", axis.ticks);
            let (first, last, step) = (axis.ticks[0], axis.ticks[axis.ticks.len() - 1], axis.ticks[1] - axis.ticks[0]);
            let at_ends = [first - axis.low, last - axis.high].iter().all(|gap| gap.abs() < step * 0.01);
            assert!(at_ends, "{low} {high}: {:?}", axis.ticks);
            assert!(axis.low <= low + step * 1e-5 && high <= axis.high + step * 1e-5, "{low} {high}");
        }
    }
}
