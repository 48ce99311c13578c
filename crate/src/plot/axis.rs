//! Where an axis has its ticks, and what stands at them.

/// An axis: the values at its ends and the ticks between.
pub struct Axis {
    pub low: f64,
    pub high: f64,
    pub ticks: Vec<f64>,
    step: f64,
}

impl Axis {
    /// Ticks at 1, 2 or 5 times a power of ten, at most `most` steps; `whole` allows integers only.
    pub fn new(low: f64, high: f64, most: f64, whole: bool) -> Self {
        let rough = (high - low).max(1e-12) / most;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|&step| step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let step = if whole { step.ceil().max(1.0) } else { step };
        let first = (low / step - 1e-6).ceil() as i64;
        let last = (high / step + 1e-6).floor() as i64;
        Axis {
            low,
            high,
            ticks: (first..=last).map(|i| i as f64 * step).collect(),
            step,
        }
    }

    /// The same axis with its ends moved out to ticks; moving them may ask for a wider step once more.
    pub fn rounded(low: f64, high: f64, most: f64) -> Self {
        let step = Axis::new(low, high, most, false).step;
        let out = |step: f64| {
            (
                (low / step + 1e-9).floor() * step,
                (high / step - 1e-9).ceil() * step,
            )
        };
        let (wide_low, wide_high) = out(step);
        let (low, high) = out(Axis::new(wide_low, wide_high, most, false).step);
        Axis::new(low, high, most, false)
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
        format!("{value:.digits$}{sign}").replace('-', "−")
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
}
