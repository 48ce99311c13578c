//! Where an axis has its ticks, and what stands at them. The ticks that plotters would choose may lack the last one
//! to rounding, or be one only.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;

/// An axis: the values at its ends and the ticks between.
#[derive(Clone)]
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    step: f64,
}

/// 1, 2 or 5 times a power of ten, so that `extent` has at most `most` such steps.
fn round_step(extent: f64, most: f64) -> f64 {
    let rough = extent.max(1e-12) / most;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|factor| factor * power);
    let wide = steps.into_iter().find(|&step| step >= rough * 0.999);
    wide.unwrap_or(10.0 * power)
}

impl Axis {
    /// With ticks at round values, at most `most` steps; `whole` allows integers only.
    pub fn new(low: f64, high: f64, most: f64, whole: bool) -> Self {
        let step = round_step(high - low, most);
        let step = if whole { step.ceil().max(1.0) } else { step };
        Axis::in_steps(low, high, step)
    }

    /// The same axis with its ends moved out to ticks.
    pub fn rounded(low: f64, high: f64, most: f64) -> Self {
        let mut step = round_step(high - low, most);
        loop {
            let first = (low / step + 1e-9).floor();
            let last = (high / step - 1e-9).ceil();
            if last - first > most {
                step = round_step((last - first) * step, most);
                continue;
            }
            return Axis::in_steps(first * step, last * step, step);
        }
    }

    fn in_steps(low: f64, high: f64, step: f64) -> Self {
        let first = (low / step - 1e-6).ceil() as i64;
        let last = (high / step + 1e-6).floor() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step).collect();
        Axis {
            low,
            high,
            ticks,
            step,
        }
    }

    /// Position of `value`, 0 at the low end and 1 at the high one.
    pub fn share(&self, value: f64) -> f32 {
        ((value - self.low) / (self.high - self.low)) as f32
    }

    /// With as many decimals as the distance of the ticks asks for.
    pub fn label(&self, value: f64, percent: bool) -> String {
        let (value, step) = if percent {
            (value * 100.0, self.step * 100.0)
        } else {
            (value, self.step)
        };
        let digits = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let sign = if percent { " %" } else { "" };
        if value != 0.0 && digits > 4 {
            return format!("{value:.0e}").replace('-', "−");
        }
        let value = if value.abs() < step * 1e-3 {
            0.0
        } else {
            value
        }; // no −0
        format!("{value:.digits$}{sign}").replace('-', "−")
    }
}

/// What plotters needs to know of an axis.
impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.low..self.high).map(value, limit)
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

    #[test]
    fn ticks_are_round_and_epochs_whole() {
        assert_eq!(
            Axis::new(0.9, 10.1, 10.0, true).ticks,
            (1..=10).map(f64::from).collect::<Vec<_>>()
        );
        assert_eq!(Axis::new(0.5, 1.5, 10.0, true).ticks, [1.0]);
        assert_eq!(Axis::new(0.97, 2.03, 8.0, true).ticks, [1.0, 2.0]);
        let axis = Axis::rounded(0.61, 2.28, 5.0);
        assert_eq!((axis.low, axis.high), (0.5, 2.5));
        assert_eq!(
            axis.ticks
                .iter()
                .map(|&tick| axis.label(tick, false))
                .collect::<Vec<_>>(),
            ["0.5", "1.0", "1.5", "2.0", "2.5"]
        );
        let axis = Axis::rounded(0.55, 0.65, 5.0);
        assert!(
            ((axis.low - 0.55).abs() < 1e-9 && (axis.high - 0.65).abs() < 1e-9),
            "{} {}",
            axis.low,
            axis.high
        );
        let axis = Axis::new(0.0, 1.0, 5.0, false);
        assert_eq!(
            axis.ticks
                .iter()
                .map(|&tick| axis.label(tick, true))
                .collect::<Vec<_>>(),
            ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
        );
    }

    /// Whatever values a curve may have, the ends have ticks, and there are neither too few nor too many.
    #[test]
    fn every_range_has_its_ticks() {
        for i in 0..4000 {
            let low = f64::from(i % 63) * 0.37 - 9.0;
            let high = low + 10f64.powf(f64::from(i) / 500.0 - 3.0);
            let axis = Axis::rounded(low, high, 5.0);
            let step = axis.ticks[1] - axis.ticks[0];
            let (first, last) = (axis.ticks[0], axis.ticks[axis.ticks.len() - 1]);
            assert!(
                (2..=6).contains(&axis.ticks.len()),
                "{low} {high}: {:?}",
                axis.ticks
            );
            assert!(
                (first - axis.low).abs() < step * 0.01 && (last - axis.high).abs() < step * 0.01,
                "{low} {high}: {:?}",
                axis.ticks
            );
            assert!(
                axis.low <= low + step * 1e-5 && high <= axis.high + step * 1e-5,
                "{low} {high}"
            );
        }
    }
}
