//! Where an axis begins and ends, and what stands at its ticks, which plotters chooses.

use std::ops::Range;

use plotters::coord::ranged1d::{BoldPoints, Ranged};
use plotters::coord::types::RangedCoordf64;

/// An axis: its ends and the ticks between.
pub struct Axis {
    pub low: f64,
    pub high: f64,
    /// How many ticks plotters is asked for.
    pub most: usize,
    pub ticks: Vec<f64>,
}

impl Axis {
    pub fn new(low: f64, high: f64, most: usize) -> Self {
        let slack = (high - low) * 1e-6; // so that rounding loses no tick at an end
        let (low, high) = (low - slack, high + slack);
        let ticks = RangedCoordf64::from(low..high).key_points(BoldPoints(most));
        Axis {
            low,
            high,
            most,
            ticks,
        }
    }

    /// The same axis with its ends moved out to ticks; moving them may ask for wider steps once more.
    pub fn rounded(low: f64, high: f64, most: usize) -> Self {
        let out = |axis: Axis| {
            let step = axis.ticks[1] - axis.ticks[0];
            let low = (axis.low / step + 1e-4).floor() * step;
            Axis::new(low, (axis.high / step - 1e-4).ceil() * step, most)
        };
        out(out(Axis::new(low, high, most)))
    }

    pub fn range(&self) -> Range<f64> {
        self.low..self.high
    }

    /// Position of `value`, 0 at the low end and 1 at the high one.
    pub fn share(&self, value: f64) -> f32 {
        ((value - self.low) / (self.high - self.low)) as f32
    }

    /// With as many decimals as the distance of the ticks asks for.
    pub fn label(&self, value: f64, percent: bool) -> String {
        let (factor, sign) = if percent { (100.0, " %") } else { (1.0, "") };
        let step = self
            .ticks
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(1.0 / factor, f64::min)
            * factor;
        let digits = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let value = value * factor;
        let text = if value != 0.0 && (digits > 4 || value.abs() >= 1e6) {
            format!("{value:.0e}{sign}")
        } else {
            format!("{value:.digits$}{sign}")
        };
        text.replace('-', "−")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_ticks() {
        let labels = |axis: &Axis, percent| -> Vec<String> {
            axis.ticks
                .iter()
                .map(|&tick| axis.label(tick, percent))
                .collect()
        };
        let axis = Axis::rounded(0.61, 2.28, 6);
        assert_eq!(labels(&axis, false), ["0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert!((axis.low - 0.5).abs() < 1e-4 && (axis.high - 2.5).abs() < 1e-4);
        let axis = Axis::rounded(0.25, 0.79, 6);
        assert_eq!(labels(&axis, true), ["20 %", "40 %", "60 %", "80 %"]);
        let axis = Axis::new(0.0, 1.0, 6);
        assert_eq!(
            labels(&axis, true),
            ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
        );
        let axis = Axis::rounded(-0.21, 0.01, 7);
        assert_eq!(
            labels(&axis, false),
            ["−0.25", "−0.20", "−0.15", "−0.10", "−0.05", "0.00", "0.05"]
        );
    }

    /// Whatever the values, the ends have ticks, and there are neither too few nor too many.
    #[test]
    fn every_range_has_its_ticks() {
        for i in 0..4000 {
            let low = f64::from(i % 63) * 0.37 - 9.0;
            let high = low + 10f64.powf(f64::from(i) / 400.0 - 5.0);
            let axis = Axis::rounded(low, high, 6);
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
            assert!(axis.low <= low && high <= axis.high, "{low} {high}");
        }
    }
}
