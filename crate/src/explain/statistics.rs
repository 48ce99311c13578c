//! Statistics of attention for each layer and head.

use ndarray::{Array1, Array2};
use tch::{Kind, Tensor};

use super::{batched, grid_side, images_per_pass};
use crate::error::{Result, ensure};

/// Mean entropy in nats of the rows of attention `[B, L, H, S, S]` or `[L, H, S, S]`, for each layer and head:
/// `[L, H]`. It is 0 if every query attends to a single token and ln S if every query attends to all tokens equally.
///
/// # Errors
/// Another shape, entries that are not finite.
///
/// ```
/// use vitlab::{explain::attention_entropy, tch::Tensor};
/// // The first head attends to both tokens equally, the second to one of them.
/// let heads = Tensor::from_slice(&[0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 1.0]).reshape([1, 2, 2, 2]);
/// assert_eq!(attention_entropy(&heads)?, ndarray::arr2(&[[2f64.ln(), 0.0]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn attention_entropy(attention: &Tensor) -> Result<Array2<f64>> {
    // xlogy defines 0 · ln 0 as 0.
    per_head(&batched(attention)?, |layer| -sum_of_rows(&layer.xlogy(layer)))
}

/// [`attention_entropy`] of one query's rows only, that of token `query`: 0 is the class token.
///
/// # Errors
/// Another shape, a token that isn't there, entries that are not finite.
///
/// ```
/// use vitlab::{explain::query_entropy, tch::Tensor};
/// // Token 0 attends to both tokens equally, token 1 to itself.
/// let head = Tensor::from_slice(&[0.5, 0.5, 0.0, 1.0]).reshape([1, 1, 2, 2]);
/// assert_eq!(query_entropy(&head, 0)?, ndarray::arr2(&[[2f64.ln()]]));
/// assert_eq!(query_entropy(&head, 1)?, ndarray::arr2(&[[0.0]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn query_entropy(attention: &Tensor, query: i64) -> Result<Array2<f64>> {
    let attention = batched(attention)?;
    let tokens = attention.size()[4];
    ensure!((0..tokens).contains(&query), "query token {query}: the attention is that of {tokens} tokens");
    per_head(&attention, |layer| {
        let rows = layer.narrow(2, query, 1); // [B, H, S, S] -> [B, H, 1, S]
        -sum_of_rows(&rows.xlogy(&rows))
    })
}

/// Mean attention distance for each layer and head, `[L, H]` (arXiv 2010.11929, appendix D.7 and figure 7): the
/// distance between a patch's centre and those of the patches it attends to, weighted by attention, averaged over
/// patches and images. Prefix tokens are left out, and each patch's weights are divided by their sum over the patches.
///
/// `patch_size` is the unit: a patch's side in pixels (4 here) for pixels, 1 for patches.
///
/// # Errors
/// Another shape, a number of patches that is not a square, entries that are not finite.
///
/// ```
/// use vitlab::{explain::attention_distance, tch::{Device, Kind, Tensor}};
/// // Over 2 × 2 patches, the first head attends to all patches equally, the second to the query's own patch.
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
    let side = grid_side(attention.size()[4], prefix_tokens)?;
    let count = side * side;
    let patch = Tensor::arange(count, (Kind::Int64, attention.device())); // [N]
    let squared_differences = |coordinate: Tensor| {
        let coordinate = coordinate.to_kind(Kind::Double);
        (coordinate.unsqueeze(1) - coordinate.unsqueeze(0)).square() // [N] -> [N, N]
    };
    let (rows, columns) = (patch.floor_divide_scalar(side), patch.remainder(side));
    let distance = (squared_differences(rows) + squared_differences(columns)).sqrt() * patch_size;
    per_head(&attention, |layer| {
        let weights = layer.narrow(2, prefix_tokens, count).narrow(3, prefix_tokens, count); // -> [B, H, N, N]
        // The lower bound makes the distance of a row without any weight on patches 0 instead of 0/0.
        sum_of_rows(&(&weights * &distance)) / sum_of_rows(&weights).clamp_min(f64::MIN_POSITIVE)
    })
}

fn sum_of_rows(matrix: &Tensor) -> Tensor {
    matrix.sum_dim_intlist([-1i64].as_slice(), false, None) // [B, H, S, S] -> [B, H, S]
}

/// Means over images and queries, `[L, H]`, of `measure`: a layer's `[B, H, S, S]` (float64) -> `[B, H, S]`.
fn per_head(attention: &Tensor, measure: impl Fn(&Tensor) -> Tensor) -> Result<Array2<f64>> {
    let size = attention.size();
    let mut means = Array2::zeros([size[1] as usize, size[2] as usize]);
    for chunk in attention.split(images_per_pass(attention), 0) {
        let share = chunk.size()[0] as f64 / size[0] as f64;
        for (layer, mut means) in means.rows_mut().into_iter().enumerate() {
            let values = measure(&chunk.select(1, layer as i64).to_kind(Kind::Double));
            let heads = values.mean_dim([0i64, 2].as_slice(), false, None); // [B, H, S] -> [H]
            means.scaled_add(share, &Array1::from(Vec::<f64>::try_from(heads)?));
        }
    }
    let finite = means.iter().all(|mean: &f64| mean.is_finite());
    ensure!(finite, "attention: it has entries that are not finite; give the weights after the softmax");
    Ok(means)
}
