//! Means with standard errors.

use serde::Serialize;

/// A mean with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub mean: f64,
    /// Standard deviation (with n − 1 as divisor) divided by √n. `None` for a single value.
    pub error: Option<f64>,
}

impl Estimate {
    /// The mean of at least one value.
    ///
    /// ```
    /// use vitlab::statistics::Estimate;
    /// // The variance of 1, 2 and 6 is (4 + 1 + 9) / 2 = 7.
    /// assert_eq!(Estimate::of(&[1.0, 2.0, 6.0]), Estimate { mean: 3.0, error: Some((7.0f64 / 3.0).sqrt()) });
    /// assert_eq!(Estimate::of(&[5.0]), Estimate { mean: 5.0, error: None });
    /// ```
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Estimate { mean, error: (values.len() > 1).then(|| (variance / count).sqrt()) }
    }
}
