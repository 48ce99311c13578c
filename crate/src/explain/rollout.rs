//! Attention rollout (arXiv 2005.00928): how much of each token's input reaches each token of the last layer.

use super::layers::Layers;
use super::named::by_name;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How a layer's heads become one matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    #[default]
    Mean,
    Max,
    Min,
}

/// What the discarded share is counted over: the S × S entries of a layer's matrix, or the S entries of each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscardPer {
    #[default]
    Matrix,
    Row,
}

/// What a layer's matrix is divided by after the identity joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Normalisation {
    /// Each row by its own sum, so that rows keep summing to 1.
    #[default]
    #[serde(rename = "row")]
    RowSum,
    /// Column j by the sum of row j, in each image alike: what vit-explain's `vit_rollout.py` does with a single
    /// image. For comparison only; without discarding and with mean fusion all sums are equal and so are the results.
    #[serde(rename = "compat")]
    Compat,
}

by_name!(Fusion, "fusion");
by_name!(DiscardPer, "discard per");
by_name!(Normalisation, "normalisation");

/// The options of a rollout; the default is the plain one of the paper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    pub fusion: Fusion,
    /// Share of the smallest entries that become zero, in [0, 1).
    pub discard_ratio: f64,
    pub discard_per: DiscardPer,
    pub layers: Layers,
    pub normalisation: Normalisation,
}

/// The rollout of attention `[B, L, H, S, S]` (or `[L, H, S, S]`, one image): `[B, S, S]` in float64, on the
/// attention's device; row q holds how much each input token contributes to token q.
///
/// For the chosen layers in order: heads fused, smallest entries discarded, identity added, rows divided by their
/// sums, multiplied from the left onto the product so far. From the fusion on everything is float64.
///
/// Errors: a ratio outside [0, 1), layers that don't exist, another shape, entries that are negative or not finite.
///
/// ```
/// use tch::Tensor;
/// use vitlab::explain::{Rollout, rollout};
/// // One image, two layers, one head, two tokens.
/// let attention = Tensor::from_slice(&[0.5, 0.5, 0.0, 1.0, 1.0, 0.0, 0.5, 0.5]).reshape([2, 1, 2, 2]);
/// // With the identity and divided: [[¾, ¼], [0, 1]], then [[1, 0], [¼, ¾]] times the former.
/// let product = rollout(&attention, &Rollout::default())?;
/// assert_eq!(product.size(), [1, 2, 2]);
/// assert_eq!(Vec::<f64>::try_from(product.flatten(0, -1))?, [0.75, 0.25, 0.1875, 0.8125]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rollout(attention: &Tensor, options: &Rollout) -> Result<Tensor> {
    let attention = batched(attention)?;
    let layers = options.chosen(attention.size()[1] as usize)?;
    tch::no_grad(|| {
        let blocks = attention.f_split(BLOCK, 0)?;
        let products = blocks.iter().map(|block| options.product(block, &layers)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&products, 0)?)
    })
}

/// Images at a time: what a layer of them takes stays in the processor's cache, which makes it three times faster
/// than 500 at once, and memory doesn't grow with the number of images.
pub(super) const BLOCK: i64 = 32;

impl Rollout {
    /// The chosen ones of `count` layers, in ascending order, if the options can work.
    pub(crate) fn chosen(&self, count: usize) -> Result<Vec<usize>> {
        self.check()?;
        self.layers.indices(count)
    }

    fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.discard_ratio) {
            let ratio = self.discard_ratio;
            return Err(Error::argument(format!(
                "discard ratio {ratio}: give a share from 0 up to, but not including, 1"
            )));
        }
        Ok(())
    }

    fn product(&self, attention: &Tensor, layers: &[usize]) -> Result<Tensor> {
        let mut product: Option<Tensor> = None;
        for &layer in layers {
            let fused = self.fuse(&attention.f_select(1, layer as i64)?)?;
            let step = self.normalise(&self.discard(&fused)?)?;
            product = Some(match product {
                None => step,
                Some(before) => step.f_bmm(&before)?,
            });
        }
        Ok(product.expect("at least one layer, or choosing them failed"))
    }

    /// One layer's heads fused: `[B, H, S, S]` -> `[B, S, S]`, float64.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::explain::{Fusion, Rollout};
    /// // Two heads: [[0.25, 0.75], [0.5, 0.5]] and [[0.75, 0.25], [1, 0]].
    /// let heads = Tensor::from_slice(&[0.25, 0.75, 0.5, 0.5, 0.75, 0.25, 1.0, 0.0]).reshape([1, 2, 2, 2]);
    /// let fused = |fusion| -> vitlab::Result<Vec<f64>> {
    ///     let fused = Rollout { fusion, ..Rollout::default() }.fuse(&heads)?;
    ///     Ok(Vec::try_from(fused.flatten(0, -1))?)
    /// };
    /// assert_eq!(fused(Fusion::Mean)?, [0.5, 0.5, 0.75, 0.25]);
    /// assert_eq!(fused(Fusion::Max)?, [0.75, 0.75, 1.0, 0.5]);
    /// assert_eq!(fused(Fusion::Min)?, [0.25, 0.25, 0.5, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fuse(&self, heads: &Tensor) -> Result<Tensor> {
        let fused = match self.fusion {
            Fusion::Mean => heads.f_mean_dim([1i64].as_slice(), false, Kind::Double)?,
            Fusion::Max => heads.f_amax([1i64].as_slice(), false)?,
            Fusion::Min => heads.f_amin([1i64].as_slice(), false)?,
        };
        let fused = fused.f_to_kind(Kind::Double)?; // [B, H, S, S] -> [B, S, S]
        let (low, high) = fused.f_aminmax(None, false)?;
        // Written so that NaN, which is neither, is refused too.
        if low.double_value(&[]) >= 0.0 && high.double_value(&[]) < f64::INFINITY {
            return Ok(fused);
        }
        Err(not_attention())
    }

    /// The smallest entries of each image's fused matrix `[B, S, S]` set to zero: `floor(n · discard_ratio)` of the
    /// n = S·S entries of the matrix or the n = S of each row. Among equal entries the earlier in reading order go
    /// first. The entry (class, class) counts like the others but stays, as in vit-explain.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::explain::{DiscardPer, Rollout};
    /// let fused = Tensor::from_slice(&[0.0625, 0.25, 0.125, 0.5, 0.125, 0.25, 0.75, 0.5, 0.375]).reshape([1, 3, 3]);
    /// let kept = |discard_ratio, discard_per| -> vitlab::Result<Vec<f64>> {
    ///     let options = Rollout { discard_ratio, discard_per, ..Rollout::default() };
    ///     Ok(Vec::try_from(options.discard(&fused)?.flatten(0, -1))?)
    /// };
    /// // Four of nine: 0.0625 (it is (class, class) and stays), both 0.125, and the first 0.25.
    /// assert_eq!(kept(0.5, DiscardPer::Matrix)?, [0.0625, 0.0, 0.0, 0.5, 0.0, 0.25, 0.75, 0.5, 0.375]);
    /// // One of each three.
    /// assert_eq!(kept(0.5, DiscardPer::Row)?, [0.0625, 0.25, 0.125, 0.5, 0.0, 0.25, 0.75, 0.5, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self, fused: &Tensor) -> Result<Tensor> {
        self.check()?;
        let (images, tokens, _) = fused.size3()?;
        let (groups, group) = match self.discard_per {
            DiscardPer::Matrix => (1, tokens * tokens),
            DiscardPer::Row => (tokens, tokens),
        };
        let count = (group as f64 * self.discard_ratio) as i64;
        if count == 0 {
            return Ok(fused.shallow_clone());
        }
        let entries = fused.f_reshape([images, groups, group])?; // [B, S, S] -> [B, 1, S·S] or [B, S, S]
        let (threshold, _) = entries.f_kthvalue(count, -1, true)?;
        let below = entries.f_lt_tensor(&threshold)?;
        let equal = entries.f_eq_tensor(&threshold)?;
        let missing = below.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Int64)?.f_neg()?.f_add_scalar(count)?;
        let first = equal.f_cumsum(-1, Kind::Int)?.f_le_tensor(&missing)?;
        let gone = below.f_logical_or(&equal.f_logical_and(&first)?)?;
        let kept = entries.f_masked_fill(&gone, 0.0)?.f_reshape([images, tokens, tokens])?;
        let class = |matrix: &Tensor| matrix.f_select(2, 0)?.f_select(1, 0);
        class(&kept)?.f_copy_(&class(fused)?)?;
        Ok(kept)
    }

    /// The identity added to each image's matrix `[B, S, S]`, and the sum normalised.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::explain::{Normalisation, Rollout};
    /// let kept = Tensor::from_slice(&[0.0, 1.0, 1.0, 2.0]).reshape([1, 2, 2]);
    /// let divided = |normalisation| -> vitlab::Result<Vec<f64>> {
    ///     let options = Rollout { normalisation, ..Rollout::default() };
    ///     Ok(Vec::try_from(options.normalise(&kept)?.flatten(0, -1))?)
    /// };
    /// // [[1, 1], [1, 3]]: the rows sum to 2 and 4.
    /// assert_eq!(divided(Normalisation::RowSum)?, [0.5, 0.5, 0.25, 0.75]);
    /// assert_eq!(divided(Normalisation::Compat)?, [0.5, 0.25, 0.5, 0.75]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn normalise(&self, kept: &Tensor) -> Result<Tensor> {
        let tokens = kept.size3()?.1;
        let residual = kept.f_add(&Tensor::f_eye(tokens, (kept.kind(), kept.device()))?)?;
        let sums = residual.f_sum_dim_intlist([-1i64].as_slice(), true, None)?; // [B, S, S] -> [B, S, 1]
        Ok(match self.normalisation {
            Normalisation::RowSum => residual.f_div(&sums)?,
            Normalisation::Compat => residual.f_div(&sums.f_transpose(1, 2)?)?,
        })
    }
}

pub(crate) fn not_attention() -> Error {
    Error::argument("attention: it has entries that are negative or not finite; give the weights after the softmax")
}

/// Attention as `[B, L, H, S, S]`, without its graph.
pub(super) fn batched(attention: &Tensor) -> Result<Tensor> {
    let size = attention.size();
    let square = size.len() >= 2 && size[size.len() - 1] == size[size.len() - 2];
    if !matches!(size.len(), 4 | 5) || !square || size.contains(&0) {
        return Err(Error::argument(format!(
            "attention {size:?}: give [B, L, H, S, S], or [L, H, S, S] for one image, with nothing empty"
        )));
    }
    let attention = attention.f_detach()?;
    Ok(if size.len() == 4 { attention.f_unsqueeze(0)? } else { attention })
}
