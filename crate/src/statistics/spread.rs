//! Mean ± standard deviation.

use std::fmt;
use std::ops::Mul;

use super::Estimate;
use super::number::{number, signed};

/// Mean and standard deviation of several values. `{:.1}` prints "57.8 ± 14.9", and `{:+.1}` a sign before the mean.
///
/// ```
/// use vitlab::statistics::Spread;
/// // Mean 3, variance (4 + 1 + 9) / 2 = 7.
/// let spread = Spread::of(&[1.0, 2.0, 6.0]);
/// assert!(spread.mean == 3.0 && (spread.deviation.unwrap() - 7f64.sqrt()).abs() < 1e-12);
/// assert_eq!(format!("{spread:.2}"), "3.00 ± 2.65");
/// assert_eq!(format!("{:.1} %", Spread::of(&[0.79, 0.81]) * 100.0), "80.0 ± 1.4 %");
/// assert_eq!(format!("{:+.1}, {:.1}", Spread::of(&[-0.5]), Spread::of(&[])), "−0.5, –");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// NaN without values.
    pub mean: f64,
    /// With n − 1 as divisor; `None` for fewer than two values.
    pub deviation: Option<f64>,
    /// Number of values that count.
    pub count: usize,
    /// Number of values that are NaN or infinite. They don't count.
    pub missing: usize,
}

impl Spread {
    /// The spread of the values that are finite.
    ///
    /// ```
    /// use vitlab::statistics::Spread;
    /// let spread = Spread::of(&[1.0, f64::NAN, 3.0]);
    /// assert_eq!((spread.mean, spread.count, spread.missing), (2.0, 2, 1));
    /// ```
    pub fn of(values: &[f64]) -> Self {
        let finite = Vec::from_iter(values.iter().copied().filter(|value| value.is_finite()));
        let Estimate { mean, error } = Estimate::of(&finite);
        let deviation = error.map(|error| error * (finite.len() as f64).sqrt());
        Spread { mean, deviation, count: finite.len(), missing: values.len() - finite.len() }
    }
}

/// In another unit, such as per cent.
impl Mul<f64> for Spread {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        let deviation = self.deviation.map(|deviation| factor.abs() * deviation);
        Spread { mean: factor * self.mean, deviation, ..self }
    }
}

/// With typographic minus signs; a dash without values, the mean alone for a single value.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.count == 0 {
            return f.pad("–");
        }
        let digits = f.precision().unwrap_or(2);
        let mean = if f.sign_plus() { signed(self.mean, digits) } else { number(self.mean, digits) };
        let deviation = self.deviation.map_or(String::new(), |deviation| format!(" ± {}", number(deviation, digits)));
        f.write_str(&(mean + &deviation))
    }
}
