//! Intervals of means and of their differences, by Student's t distribution.

use std::fmt;
use std::ops::Mul;

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Estimate;
use super::number::{number, signed};

/// A mean with its 95 % interval. `{:.1}` prints its ends as "75.4 to 88.6", and `{:+.1}` with signs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub mean: f64,
    /// Half of the interval's width.
    pub half: f64,
    /// Degrees of freedom of the t distribution.
    pub freedom: f64,
}

impl Interval {
    /// Interval of a mean with a standard error. `None` where the degrees of freedom are not a positive number.
    fn new(mean: f64, error: f64, freedom: f64) -> Option<Self> {
        let half = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(0.975) * error;
        (half.is_finite() && freedom.is_finite()).then_some(Interval { mean, half, freedom })
    }

    /// The interval of the mean of values. For paired values, give their differences. `None` for fewer than two values.
    ///
    /// ```
    /// use vitlab::statistics::Interval;
    /// // Mean 3, standard deviation √7, two degrees of freedom, for which the tables have t = 4.302653.
    /// let interval = Interval::of(&[1.0, 2.0, 6.0]).unwrap();
    /// assert_eq!((interval.mean, interval.freedom), (3.0, 2.0));
    /// assert!((interval.half - 4.302653 * (7.0f64 / 3.0).sqrt()).abs() < 1e-5);
    /// assert_eq!(Interval::of(&[1.0]), None);
    /// ```
    pub fn of(values: &[f64]) -> Option<Self> {
        let Estimate { mean, error } = Estimate::of(values);
        Interval::new(mean, error?, values.len() as f64 - 1.0)
    }

    /// The interval of the mean of `a` minus that of `b`, without pairs and with unequal variances (Welch 1947). The degrees
    /// of freedom are Satterthwaite's (1946). `None` for fewer than two values on either side, or for no spread at all.
    ///
    /// ```
    /// use vitlab::statistics::Interval;
    /// // Squared standard errors 1/3 and 7/3: (8/3)² / ((1/3)²/2 + (7/3)²/2) = 2.56 degrees of freedom.
    /// let interval = Interval::welch(&[4.0, 5.0, 6.0], &[1.0, 2.0, 6.0]).unwrap();
    /// assert!((interval.mean - 2.0).abs() < 1e-12 && (interval.freedom - 2.56).abs() < 1e-12);
    /// assert!((interval.half - 3.515420 * (8.0f64 / 3.0).sqrt()).abs() < 1e-4);
    /// ```
    pub fn welch(a: &[f64], b: &[f64]) -> Option<Self> {
        let [first, second] = [a, b].map(Estimate::of);
        let squares = [first.error?.powi(2), second.error?.powi(2)];
        let sum = squares[0] + squares[1];
        let each = squares[0].powi(2) / (a.len() as f64 - 1.0) + squares[1].powi(2) / (b.len() as f64 - 1.0);
        Interval::new(first.mean - second.mean, sum.sqrt(), sum.powi(2) / each)
    }
}

/// In another unit, such as per cent.
impl Mul<f64> for Interval {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Interval { mean: factor * self.mean, half: factor.abs() * self.half, ..self }
    }
}

/// ```
/// use vitlab::statistics::Interval;
/// let interval = Interval { mean: 0.01, half: 0.03, freedom: 2.0 };
/// assert_eq!(format!("{interval:.2}; {:+.1} points", interval * 100.0), "−0.02 to 0.04; −2.0 to +4.0 points");
/// ```
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let text = if f.sign_plus() { signed } else { number };
        let [low, high] = [-1.0, 1.0].map(|side| text(self.mean + side * self.half, f.precision().unwrap_or(2)));
        write!(f, "{low} to {high}")
    }
}
