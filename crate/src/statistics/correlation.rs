//! Correlations of two quantities.

use tch::{Kind, Tensor};

use crate::tensor::TensorExt;

/// Pearson's correlation along the last axis, in float64: two `[…, n]` -> `[…]`. NaN where one of the two doesn't vary.
///
/// ```
/// use vitlab::{statistics::correlation, tch::Tensor, tensor::TensorExt};
/// // Deviations from the means −1, 0, 1 and −3, −1, 4: the covariance is 7, the squared deviations sum to 2 and 26.
/// let (a, b) = (Tensor::from_slice2(&[[1.0, 2.0, 3.0]]), Tensor::from_slice2(&[[0.0, 2.0, 7.0]]));
/// assert!((correlation(&a, &b).item() - 7.0 / 52f64.sqrt()).abs() < 1e-12);
/// assert_eq!(correlation(&b, &a.neg()).size(), [1]);
/// ```
///
/// # Panics
/// Panics if the shapes differ or have no axis.
#[track_caller]
pub fn correlation(a: &Tensor, b: &Tensor) -> Tensor {
    let (first, second) = (a.size(), b.size());
    assert!(first == second, "correlation: the tensors are {first:?} and {second:?}; give two of one shape");
    assert!(!first.is_empty(), "correlation: both are single numbers; give at least two values of each");
    let centred = |t: &Tensor| {
        let t = t.to_kind(Kind::Double);
        let mean = t.mean_dim([-1i64].as_slice(), true, Kind::Double);
        t - mean
    };
    let sum = |t: Tensor| t.sum_axis(-1);
    let (a, b) = (centred(a), centred(b));
    sum(&a * &b) / (sum(a.square()) * sum(b.square())).sqrt()
}

/// Spearman's rank correlation of two lists of equal length: the correlation of their ranks, where equal values have the
/// mean of their ranks. `None` if one of them has fewer than two different values, or if a value is NaN.
///
/// ```
/// use vitlab::statistics::rank_correlation;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_of_pearson() {
        let a = Tensor::from_slice2(&[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]);
        let b = Tensor::from_slice2(&[[2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [5.0, 5.0, 5.0]]);
        let [same, opposite, constant] = correlation(&a, &b).to_vec()[..] else { panic!("one for each row") };
        assert!((same - 1.0).abs() < 1e-12 && (opposite + 1.0).abs() < 1e-12 && constant.is_nan());
        // Numbers that float32 can't tell apart once they are squared.
        let c = Tensor::from_slice(&[10000.0f32, 10001.0, 10002.0]);
        assert!((correlation(&c, &a.get(0).to_kind(Kind::Float)).item() - 1.0).abs() < 1e-12);
    }

    #[test]
    #[should_panic(expected = "correlation: the tensors are [2] and [3]; give two of one shape")]
    fn tensors_of_other_shapes_are_refused() {
        correlation(&Tensor::from_slice(&[1.0, 2.0]), &Tensor::from_slice(&[1.0, 2.0, 3.0])).print();
    }
}
