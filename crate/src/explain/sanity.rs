//! Rank correlation of maps, for sanity checks by randomised models (arXiv 1810.03292).

use ndarray::Array3;

use crate::error::{Result, ensure};

/// Spearman's rank correlation of two lists of equal length: the correlation of their ranks, where equal values have the
/// mean of their ranks. `None` if one of them has fewer than two different values, or if a value is NaN.
///
/// ```
/// use vitlab::explain::rank_correlation;
/// // Without ties it is 1 − 6 Σd² / (n (n² − 1)): two neighbours of four exchanged give 1 − 6 · 2 / 60.
/// assert!((rank_correlation(&[1.0, 2.0, 3.0, 4.0], &[10.0, 30.0, 20.0, 40.0]).unwrap() - 0.8).abs() < 1e-12);
/// // The ranks are 1, 2.5, 2.5, 4 and 1, 2, 3, 4: the covariance is 4.5, the squared deviations sum to 4.5 and 5.
/// let tied = rank_correlation(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
/// assert!((tied - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
/// assert_eq!(rank_correlation(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
/// ```
///
/// # Panics
/// Panics if the lengths differ.
pub fn rank_correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "both lists have one value per item");
    if a.iter().chain(b).any(|value| value.is_nan()) {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = product(&a, &a) * product(&b, &b);
    (spread > 0.0).then(|| product(&a, &b) / spread.sqrt())
}

/// The rank of each value, counted from 1. Equal values have the mean of their ranks.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|&index| ranks[index] = rank);
        before += equal.len();
    }
    ranks
}

/// [`rank_correlation`] of each image's maps, `[N, G, G]` both.
///
/// # Errors
/// Maps of different shapes.
pub fn rank_correlations(a: &Array3<f32>, b: &Array3<f32>) -> Result<Vec<Option<f64>>> {
    ensure!(a.shape() == b.shape(), "maps {:?} and {:?}: give maps of the same images", a.shape(), b.shape());
    let values = |map: ndarray::ArrayView2<f32>| map.iter().copied().collect::<Vec<f32>>();
    Ok(a.outer_iter().zip(b.outer_iter()).map(|(a, b)| rank_correlation(&values(a), &values(b))).collect())
}
