//! Rank correlation of maps, for sanity checks by randomised models (arXiv 1810.03292).

use ndarray::Array3;

use crate::error::{Result, ensure};
use crate::statistics::rank_correlation;

/// [`rank_correlation`] of each image's maps, `[N, G, G]` both.
///
/// # Errors
/// Maps of different shapes.
pub fn rank_correlations(a: &Array3<f32>, b: &Array3<f32>) -> Result<Vec<Option<f64>>> {
    ensure!(a.shape() == b.shape(), "maps {:?} and {:?}: give maps of the same images", a.shape(), b.shape());
    let values = |map: ndarray::ArrayView2<f32>| map.iter().copied().collect::<Vec<f32>>();
    Ok(a.outer_iter().zip(b.outer_iter()).map(|(a, b)| rank_correlation(&values(a), &values(b))).collect())
}
