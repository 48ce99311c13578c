//! Numbers about attention, layer by layer and head by head.

use super::map::side;
use super::rollout::{BLOCK, batched};
use crate::{Error, Result};
use ndarray::{Array1, Array2};
use tch::{Kind, Tensor};

/// Mean entropy in nats of the attention rows, for each layer and head `[L, H]`: 0 where every query looks at one
/// token only, ln S where it looks at all alike. `attention`: `[B, L, H, S, S]` or `[L, H, S, S]`.
///
/// ```
/// use tch::Tensor;
/// use vitlab::explain::attention_entropy;
/// // Two heads: one looks at both tokens alike, the other at one of them.
/// let heads = Tensor::from_slice(&[0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0]).reshape([1, 2, 2, 2]);
/// assert_eq!(attention_entropy(&heads)?, ndarray::arr2(&[[2f64.ln(), 0.0]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn attention_entropy(attention: &Tensor) -> Result<Array2<f64>> {
    per_head(&batched(attention)?, |layer| {
        let surprise = layer.f_xlogy(layer)?; // 0 · ln 0 counts as 0
        Ok(surprise.f_sum_dim_intlist([-1i64].as_slice(), false, None)?.f_neg()?)
    })
}

/// Mean attention distance for each layer and head `[L, H]` (arXiv 2010.11929, appendix D.7 and figure 7): how far,
/// from centre to centre, the patches lie that a patch looks at, weighted by attention, averaged over patches and
/// images. The prefix tokens have no place: they are left out, and the weights over the patches divided by their sum.
///
/// `patch_size` is the unit: a patch's side in pixels (4 here) for pixels, 1 for patches.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use vitlab::explain::attention_distance;
/// // Two heads over 2 × 2 patches: one looks at all alike, the other at the own patch only.
/// let options = (Kind::Double, Device::Cpu);
/// let heads = Tensor::stack(&[Tensor::full([4, 4], 0.25, options), Tensor::eye(4, options)], 0).unsqueeze(0);
/// // From any patch the four are 0, 4, 4 and 4 · √2 pixels away.
/// let expected = (8.0 + 4.0 * 2f64.sqrt()) / 4.0;
/// let distance = attention_distance(&heads, 0, 4.0)?;
/// assert!((distance[[0, 0]] - expected).abs() < 1e-12 && distance[[0, 1]] == 0.0);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn attention_distance(attention: &Tensor, prefix_tokens: i64, patch_size: f64) -> Result<Array2<f64>> {
    let attention = batched(attention)?;
    let tokens = attention.size()[4];
    let side = side(tokens, prefix_tokens)?;
    let count = side * side;
    let place = Tensor::f_arange(count, (Kind::Int64, attention.device()))?;
    let along = |axis: Tensor| -> Result<Tensor> {
        let axis = axis.f_to_kind(Kind::Double)?;
        Ok(axis.f_unsqueeze(1)?.f_sub(&axis.f_unsqueeze(0)?)?.f_square()?) // [N] -> [N, N]
    };
    let rows = along(place.f_floor_divide_scalar(side)?)?;
    let columns = along(place.f_remainder(side)?)?;
    let distance = rows.f_add(&columns)?.f_sqrt()?.f_mul_scalar(patch_size)?;
    per_head(&attention, |layer| {
        let weights = layer.f_narrow(2, prefix_tokens, count)?.f_narrow(3, prefix_tokens, count)?;
        let sum = |t: &Tensor| t.f_sum_dim_intlist([-1i64].as_slice(), false, None);
        // A row without any weight on patches counts as 0, not as 0/0.
        Ok(sum(&weights.f_mul(&distance)?)?.f_div(&sum(&weights)?.f_clamp_min(f64::MIN_POSITIVE)?)?)
    })
}

/// `measure` gives a number per query `[B, H, Q]` from a layer's attention `[B, H, S, S]` (float64); their mean per head.
fn per_head(attention: &Tensor, measure: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Array2<f64>> {
    let (images, layers, heads, _, _) = attention.size5()?;
    let mut means = Array2::zeros([layers as usize, heads as usize]);
    for block in attention.f_split(BLOCK, 0)? {
        let share = block.size()[0] as f64 / images as f64;
        for (layer, mut means) in means.rows_mut().into_iter().enumerate() {
            let heads = measure(&block.f_select(1, layer as i64)?.f_to_kind(Kind::Double)?)?;
            let heads = heads.f_mean_dim([0i64, 2].as_slice(), false, None)?; // [B, H, Q] -> [H]
            means.scaled_add(share, &Array1::from(Vec::<f64>::try_from(heads)?));
        }
    }
    if means.iter().any(|mean: &f64| !mean.is_finite()) {
        return Err(Error::argument(
            "attention: it has entries that are not finite; give the weights after the softmax",
        ));
    }
    Ok(means)
}
