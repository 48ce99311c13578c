//! Statistics of repeated measurements: spread, standard errors, intervals, correlations.

mod correlation;
mod estimate;
mod interval;
mod number;
mod spread;

pub use correlation::{correlation, rank_correlation};
pub use estimate::Estimate;
pub use interval::Interval;
pub use number::{number, signed};
pub use spread::Spread;
