//! Attention rollout (arXiv 2005.00928): the contribution of each input token to each token of the last layer.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{batched, check_square, images_per_pass, invalid_attention};
use crate::error::{Error, Result, ensure};

/// Reduction of a layer's heads to one matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    #[default]
    Mean,
    Max,
    Min,
}

/// Group that the discard ratio applies to: the S × S entries of a layer's matrix, or the S entries of each row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscardPer {
    #[default]
    Matrix,
    Row,
}

/// Divisor of a layer's matrix after the identity is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Normalisation {
    /// Divides each row by its own sum, so that rows keep summing to 1.
    #[default]
    #[serde(rename = "row")]
    RowSum,
    /// Divides column j by the sum of row j, in each image: vit-explain's `vit_rollout.py` does so for a single image.
    /// For comparison only. With mean fusion and without discarding, all sums and therefore both results are equal.
    #[serde(rename = "compat")]
    Compat,
}

by_serde_name!(Fusion, "fusion");
by_serde_name!(DiscardPer, "discard per");
by_serde_name!(Normalisation, "normalisation");

/// A selection of layers, counted from 0 at the input. Its text form is `all`, `A..B` (B excluded) or `i,j,…`.
///
/// ```
/// use vitlab::explain::Layers;
/// assert_eq!("1..4".parse::<Layers>()?.indices(6)?, [1, 2, 3]);
/// assert_eq!("0,5".parse::<Layers>()?.indices(6)?, [0, 5]);
/// assert_eq!(
///     "4..9".parse::<Layers>()?.indices(6).unwrap_err().to_string(),
///     "layers 4..9: this model has 6 layers, 0 to 5",
/// );
/// # Ok::<(), vitlab::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layers {
    #[default]
    All,
    Range(Range<usize>),
    /// Each layer once, in ascending order.
    List(Vec<usize>),
}

string_conversions!(Layers);

impl Layers {
    /// Indices of the selected layers in a model with `count` layers, in ascending order.
    ///
    /// # Errors
    /// An empty selection, a layer that doesn't exist, a layer named twice or out of order.
    pub fn indices(&self, count: usize) -> Result<Vec<usize>> {
        let indices: Vec<usize> = match self {
            Layers::All => (0..count).collect(),
            // Collecting a mistyped range could exhaust the memory; its last index is enough for the error.
            Layers::Range(range) if range.end > count && !range.is_empty() => vec![range.end - 1],
            Layers::Range(range) => range.clone().collect(),
            Layers::List(list) => list.clone(),
        };
        let last = count.saturating_sub(1);
        ensure!(!indices.is_empty(), "layers {self}: no layer is chosen; name at least one");
        ensure!(indices.iter().all(|&i| i < count), "layers {self}: this model has {count} layers, 0 to {last}");
        ensure!(indices.is_sorted_by(|a, b| a < b), "layers {self}: name each layer once, in ascending order");
        Ok(indices)
    }
}

impl FromStr for Layers {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let problem = || Error::argument(format!("layers {text:?}: write all, a range as 0..3 or a list as 0,2,5"));
        let index = |part: &str| part.trim().parse::<usize>().map_err(|_| problem());
        if text.trim().eq_ignore_ascii_case("all") {
            return Ok(Layers::All);
        }
        match text.split_once("..") {
            Some((first, end)) => Ok(Layers::Range(index(first)?..index(end)?)),
            None => Ok(Layers::List(text.split(',').map(index).collect::<Result<_>>()?)),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Layers::All => f.write_str("all"),
            Layers::Range(range) => write!(f, "{}..{}", range.start, range.end),
            Layers::List(list) => f.write_str(&list.iter().map(usize::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

/// Options of a rollout. The default is the paper's definition.
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

/// Rollout of attention `[B, L, H, S, S]` (or `[L, H, S, S]`, one image): `[B, S, S]` in float64, on the attention's
/// device. Row q holds the contribution of each input token to token q.
///
/// For the selected layers in order: fuse the heads, discard the smallest entries, add the identity, divide each row
/// by its sum, multiply from the left onto the product so far. All steps from the fusion on are computed in float64.
///
/// # Errors
/// A ratio outside [0, 1), layers that don't exist, another shape, entries that are negative or not finite.
///
/// ```
/// use vitlab::{explain::{Rollout, rollout}, tch::Tensor};
/// // One image, two layers, one head, two tokens.
/// let attention = Tensor::from_slice(&[0.5, 0.5, 0.0, 1.0, 1.0, 0.0, 0.5, 0.5]).reshape([2, 1, 2, 2]);
/// // The normalised layers are [[¾, ¼], [0, 1]] and [[1, 0], [¼, ¾]]; the product is the second times the first.
/// let product = rollout(&attention, &Rollout::default())?;
/// assert_eq!(product.size(), [1, 2, 2]);
/// assert_eq!(Vec::<f64>::try_from(product.flatten(0, -1))?, [0.75, 0.25, 0.1875, 0.8125]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rollout(attention: &Tensor, options: &Rollout) -> Result<Tensor> {
    let attention = batched(attention)?;
    let layers = options.layer_indices(attention.size()[1] as usize)?;
    tch::no_grad(|| {
        let chunks = attention.split(images_per_pass(&attention), 0);
        let products = chunks.iter().map(|chunk| options.product(chunk, &layers)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&products, 0))
    })
}

impl Rollout {
    /// Indices of the selected layers in a model with `count` layers, in ascending order, if the options are valid.
    pub(crate) fn layer_indices(&self, count: usize) -> Result<Vec<usize>> {
        self.check_ratio()?;
        self.layers.indices(count)
    }

    fn check_ratio(&self) -> Result<()> {
        let ratio = self.discard_ratio;
        ensure!((0.0..1.0).contains(&ratio), "discard ratio {ratio}: give a share from 0 up to, but not including, 1");
        Ok(())
    }

    /// `[B, L, H, S, S]` -> `[B, S, S]`
    fn product(&self, attention: &Tensor, layers: &[usize]) -> Result<Tensor> {
        let mut factors = layers.iter().map(|&layer| self.factor(&attention.select(1, layer as i64)));
        let first = factors.next().expect("layer_indices refuses an empty selection")?;
        factors.try_fold(first, |product, factor| Ok(factor?.bmm(&product)))
    }

    /// A layer's factor of the product: `[B, H, S, S]` -> `[B, S, S]`, float64.
    pub(crate) fn factor(&self, heads: &Tensor) -> Result<Tensor> {
        let matrix = self.discard(&self.fuse(heads)?)?;
        // The matrix belongs to nobody else: each fusion makes a new one.
        let _ = matrix.diagonal(0, 1, 2).g_add_scalar_(1.0); // [B, S, S] -> [B, S]
        Ok(self.normalised(matrix))
    }

    /// Whether each row of a layer's factor depends only on the same row of the layer's heads.
    pub(crate) fn rows_are_independent(&self) -> bool {
        self.discard_ratio == 0.0 && self.normalisation == Normalisation::RowSum
    }

    /// Row `token` of [`Rollout::factor`]: `[B, H, S, S]` -> `[B, 1, S]`, float64. Heads of the first tokens only,
    /// `[B, H, Q, S]`, suffice if [`Rollout::rows_are_independent`].
    pub(crate) fn factor_row(&self, heads: &Tensor, token: i64) -> Result<Tensor> {
        if !self.rows_are_independent() {
            return Ok(self.factor(heads)?.narrow(1, token, 1));
        }
        let row = self.fused(&heads.narrow(2, token, 1))?; // [B, H, Q, S] -> [B, H, 1, S] -> [B, 1, S]
        let _ = row.narrow(2, token, 1).g_add_scalar_(1.0);
        Ok(self.normalised(row))
    }

    /// Fuses the heads of one layer: `[B, H, S, S]` -> `[B, S, S]`, float64.
    ///
    /// # Errors
    /// Another shape, entries that are negative or not finite.
    ///
    /// ```
    /// use vitlab::{explain::{Fusion, Rollout}, tch::Tensor};
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
        check_square("heads", heads, 4..=4, "[B, H, S, S] with nothing empty")?;
        self.fused(heads)
    }

    /// [`Rollout::fuse`] for some rows only: `[B, H, Q, S]` -> `[B, Q, S]`.
    fn fused(&self, heads: &Tensor) -> Result<Tensor> {
        let fused = match self.fusion {
            // One head at a time: `mean_dim` in float64 would copy all heads first.
            Fusion::Mean => {
                let heads = heads.unbind(1); // [B, H, S, S] -> H × [B, S, S]
                let first = heads[0].to_kind(Kind::Double);
                heads[1..].iter().fold(first, |sum, head| sum + head) / heads.len() as f64
            }
            Fusion::Max => heads.amax([1i64].as_slice(), false),
            Fusion::Min => heads.amin([1i64].as_slice(), false),
        };
        let fused = fused.to_kind(Kind::Double); // [B, H, S, S] -> [B, S, S]
        let (low, high) = fused.aminmax(None, false);
        // Both comparisons are false for NaN.
        let valid = low.double_value(&[]) >= 0.0 && high.double_value(&[]) < f64::INFINITY;
        if valid { Ok(fused) } else { Err(invalid_attention()) }
    }

    /// Sets the smallest entries of each image's fused matrix `[B, S, S]` to zero: `floor(n · discard_ratio)` of the
    /// n = S·S entries of the matrix, or of the n = S entries of each row. Among equal entries, the first in reading
    /// order is discarded first. (class, class) may count among the smallest but is never zeroed, as in vit-explain.
    ///
    /// # Errors
    /// A ratio outside [0, 1), another shape.
    ///
    /// ```
    /// use vitlab::{explain::{DiscardPer, Rollout}, tch::Tensor};
    /// let fused = Tensor::from_slice(&[0.0625, 0.25, 0.125, 0.5, 0.125, 0.25, 0.75, 0.5, 0.375]).reshape([1, 3, 3]);
    /// let discarded = |discard_ratio, discard_per| -> vitlab::Result<Vec<f64>> {
    ///     let options = Rollout { discard_ratio, discard_per, ..Rollout::default() };
    ///     Ok(Vec::try_from(options.discard(&fused)?.flatten(0, -1))?)
    /// };
    /// // Four of nine: 0.0625 (which is (class, class) and keeps its value), both 0.125, and the first 0.25.
    /// assert_eq!(discarded(0.5, DiscardPer::Matrix)?, [0.0625, 0.0, 0.0, 0.5, 0.0, 0.25, 0.75, 0.5, 0.375]);
    /// // One of each three.
    /// assert_eq!(discarded(0.5, DiscardPer::Row)?, [0.0625, 0.25, 0.125, 0.5, 0.0, 0.25, 0.75, 0.5, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self, fused: &Tensor) -> Result<Tensor> {
        self.check_ratio()?;
        check_square("fused attention", fused, 3..=3, "[B, S, S] with nothing empty")?;
        let (images, tokens) = (fused.size()[0], fused.size()[1]);
        let (groups, group) = match self.discard_per {
            DiscardPer::Matrix => (1, tokens * tokens),
            DiscardPer::Row => (tokens, tokens),
        };
        let count = (group as f64 * self.discard_ratio) as i64;
        if count == 0 {
            return Ok(fused.shallow_clone());
        }
        let entries = fused.reshape([images, groups, group]); // [B, S, S] -> [B, 1, S·S] or [B, S, S]
        let (threshold, _) = entries.kthvalue(count, -1, true); // [B, groups, 1]
        let below = entries.lt_tensor(&threshold);
        let equal = entries.eq_tensor(&threshold);
        let missing = count - below.sum_dim_intlist([-1i64].as_slice(), true, Kind::Int64); // [B, groups, 1]
        let first = equal.cumsum(-1, Kind::Int).le_tensor(&missing);
        let smallest = below.logical_or(&equal.logical_and(&first));
        let discarded = entries.masked_fill(&smallest, 0.0).reshape([images, tokens, tokens]); // -> [B, S, S]
        let class = |matrix: &Tensor| matrix.select(2, 0).select(1, 0); // [B, S, S] -> [B]
        class(&discarded).copy_(&class(fused));
        Ok(discarded)
    }

    /// Adds the identity to each image's matrix `[B, S, S]` and normalises the sum.
    ///
    /// # Errors
    /// Another shape.
    ///
    /// ```
    /// use vitlab::{explain::{Normalisation, Rollout}, tch::Tensor};
    /// let matrix = Tensor::from_slice(&[0.0, 1.0, 1.0, 2.0]).reshape([1, 2, 2]);
    /// let normalised = |normalisation| -> vitlab::Result<Vec<f64>> {
    ///     let options = Rollout { normalisation, ..Rollout::default() };
    ///     Ok(Vec::try_from(options.normalise(&matrix)?.flatten(0, -1))?)
    /// };
    /// // [[1, 1], [1, 3]]: the rows sum to 2 and 4.
    /// assert_eq!(normalised(Normalisation::RowSum)?, [0.5, 0.5, 0.25, 0.75]);
    /// assert_eq!(normalised(Normalisation::Compat)?, [0.5, 0.25, 0.5, 0.75]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn normalise(&self, matrix: &Tensor) -> Result<Tensor> {
        check_square("matrix", matrix, 3..=3, "[B, S, S] with nothing empty")?;
        Ok(self.normalised(matrix + Tensor::eye(matrix.size()[1], (matrix.kind(), matrix.device()))))
    }

    /// Divides a matrix with the identity `[B, S, S]` in its memory.
    fn normalised(&self, mut residual: Tensor) -> Tensor {
        let sums = residual.sum_dim_intlist([-1i64].as_slice(), true, None); // [B, S, S] -> [B, S, 1]
        match self.normalisation {
            Normalisation::RowSum => residual.g_div_(&sums),
            Normalisation::Compat => residual.g_div_(&sums.transpose(1, 2)), // [B, S, 1] -> [B, 1, S]
        }
    }
}
