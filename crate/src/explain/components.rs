//! Principal components of features, for instance of patch tokens as colours.

use tch::{Kind, Tensor};

use crate::error::{Result, ensure};

/// The first principal components of features, the one of the greatest variance first.
#[derive(Debug)]
pub struct PrincipalComponents {
    /// The features along the components, float64 [N, count].
    pub scores: Tensor,
    /// Each component's share of the features' variance, from 0 to 1. NaN if the features don't vary.
    pub variance_shares: Vec<f64>,
}

/// The first `count` principal components of features `[N, E]`.
///
/// The features are centred. The sign of a component is the one that makes its largest weight positive, as in
/// scikit-learn, because the decomposition leaves it open. DINOv2 (arXiv 2304.07193, section 7.5) shows the first three of patch
/// tokens as red, green and blue.
///
/// # Errors
/// Another shape, fewer than `count` rows or columns, values that are not finite.
///
/// ```
/// use vitlab::{explain::principal_components, tch::Tensor};
/// // Around their mean (3, 1), the points differ by 2 along the first axis and by 1 along the second.
/// let points = Tensor::from_slice2(&[[5f32, 1.], [1., 1.], [3., 2.], [3., 0.]]);
/// let expected = Tensor::from_slice2(&[[2f64, 0.], [-2., 0.], [0., 1.], [0., -1.]]);
/// let components = principal_components(&points, 2)?;
/// assert!((components.scores - expected).abs().max().double_value(&[]) < 1e-12);
/// // Sums of squares: 8 along the first axis, 2 along the second.
/// assert!((components.variance_shares[0] - 0.8).abs() < 1e-12);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn principal_components(features: &Tensor, count: i64) -> Result<PrincipalComponents> {
    let size = features.size();
    let fits = size.len() == 2 && count >= 1 && size.iter().all(|&length| length >= count);
    ensure!(fits, "features {size:?}: {count} principal components need [N, E] with at least as many rows and columns");
    let features = features.detach().to_kind(Kind::Double);
    ensure!(
        features.isfinite().all().int64_value(&[]) == 1,
        "features {size:?}: there are values that are NaN or infinite; check the weights and the images"
    );
    let centred = &features - features.mean_dim([0i64].as_slice(), true, Kind::Double); // [N, E]
    let (_, lengths, axes) = centred.f_svd(true, true)?; // lengths [min(N, E)]
    let variances = lengths.square();
    let shares = (&variances / variances.sum(Kind::Double)).narrow(0, 0, count);
    let axes = axes.narrow(1, 0, count); // [E, min(N, E)] -> [E, count]
    let largest = axes.gather(0, &axes.abs().argmax(0, true), false); // [E, count] -> [1, count]
    let scores = centred.matmul(&(axes * largest.sign())); // [N, E] -> [N, count]
    Ok(PrincipalComponents { scores, variance_shares: Vec::try_from(shares)? })
}
