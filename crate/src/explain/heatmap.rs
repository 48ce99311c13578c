//! Heatmaps: a query token's row as a grid of patches, upsampled to the image and scaled.

use std::fmt;
use std::str::FromStr;

use ndarray::{Array3, ArrayD};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::check_square;
use crate::device::on_one_thread;
use crate::error::{Error, Result, ensure};

/// The token whose row of the matrix is read. Its text form is `class`, `dist` or the token's index.
///
/// ```
/// use vitlab::explain::Query;
/// assert_eq!("dist".parse::<Query>()?, Query::Distillation);
/// assert_eq!("17".parse::<Query>()?, Query::Token(17));
/// # Ok::<(), vitlab::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Query {
    /// Token 0.
    #[default]
    Class,
    /// Token 1 of a model that has two prefix tokens.
    Distillation,
    /// Any token, counted from 0 and including the prefix tokens. The patch in row r and column c of a 7 × 7 grid is
    /// token `prefix_tokens + 7 · r + c`.
    Token(i64),
}

string_conversions!(Query);

impl Query {
    /// Index of the token. The first `prefix_tokens` of `tokens` tokens aren't patches.
    pub(crate) fn index(self, tokens: i64, prefix_tokens: i64) -> Result<i64> {
        let (index, exists, missing) = match self {
            Query::Class => (0, prefix_tokens >= 1, "class token; name a token by its number"),
            Query::Distillation => (1, prefix_tokens >= 2, "distillation token; a DeiT has two prefix tokens"),
            Query::Token(token) => {
                let (exists, last) = ((0..tokens).contains(&token), tokens - 1);
                ensure!(exists, "query token {token}: this model has {tokens} tokens, 0 to {last}");
                return Ok(token);
            }
        };
        ensure!(exists, "query {self}: with {prefix_tokens} prefix tokens there is no {missing}");
        Ok(index)
    }
}

impl FromStr for Query {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let problem = |_| Error::argument(format!("query {text:?}: write class, dist or a token's number"));
        match text.trim().to_lowercase().as_str() {
            "class" => Ok(Query::Class),
            "dist" => Ok(Query::Distillation),
            index => index.parse().map(Query::Token).map_err(problem),
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Query::Class => f.write_str("class"),
            Query::Distillation => f.write_str("dist"),
            Query::Token(token) => write!(f, "{token}"),
        }
    }
}

/// The query token's row of each image's matrix: `[B, S, S]` -> `[B, S]`, detached from the graph.
///
/// # Errors
/// Another shape, a number of patches that is not a square, a query token that the model doesn't have.
///
/// ```
/// use vitlab::{explain::{Query, row}, tch::{Device, Kind, Tensor}};
/// // One class token and four patches; row q holds 5q, 5q + 1, …, 5q + 4.
/// let matrix = Tensor::arange(25, (Kind::Double, Device::Cpu)).reshape([1, 5, 5]);
/// let row = row(&matrix, Query::Token(2), 1)?;
/// assert_eq!(Vec::<f64>::try_from(row.get(0))?, [10.0, 11.0, 12.0, 13.0, 14.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn row(matrix: &Tensor, query: Query, prefix_tokens: i64) -> Result<Tensor> {
    check_square("token matrix", matrix, 3..=3, "[B, S, S] with at least one image")?;
    let tokens = matrix.size()[1];
    grid_side(tokens, prefix_tokens)?;
    Ok(matrix.detach().select(1, query.index(tokens, prefix_tokens)?)) // [B, S, S] -> [B, S]
}

/// Patches per side of the grid: √(tokens − prefix_tokens).
pub(super) fn grid_side(tokens: i64, prefix_tokens: i64) -> Result<i64> {
    let patches = tokens - prefix_tokens;
    let side = patches.max(0).isqrt();
    ensure!(
        prefix_tokens >= 0 && patches >= 1 && side * side == patches,
        "prefix tokens {prefix_tokens}: of {tokens} tokens that leaves {patches} patches, which is no square"
    );
    Ok(side)
}

/// The query token's row of each image's matrix `[B, S, S]` over the patches, as a grid: `[B, 7, 7]` for 49 patches.
///
/// # Errors
/// Fails as [`row`] does, and for entries that are not finite.
///
/// ```
/// use vitlab::{explain::{Query, grid}, tch::{Device, Kind, Tensor}};
/// // One class token and four patches; row q holds 5q, 5q + 1, …, 5q + 4.
/// let matrix = Tensor::arange(25, (Kind::Double, Device::Cpu)).reshape([1, 5, 5]);
/// assert_eq!(grid(&matrix, Query::Class, 1)?, ndarray::arr3(&[[[1.0, 2.0], [3.0, 4.0]]]));
/// assert_eq!(grid(&matrix, Query::Token(2), 1)?, ndarray::arr3(&[[[11.0, 12.0], [13.0, 14.0]]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn grid(matrix: &Tensor, query: Query, prefix_tokens: i64) -> Result<Array3<f32>> {
    grid_of_rows(&row(matrix, query, prefix_tokens)?, prefix_tokens)
}

/// [`grid`] for rows `[B, S]` as [`row`] gives them.
///
/// # Errors
/// Another shape, a number of patches that is not a square, entries that are not finite.
///
/// ```
/// use tch::Tensor;
/// // The class token's row over itself and four patches.
/// let rows = Tensor::from_slice(&[0.5, 0.0, 0.25, 0.25, 0.0]).view([1, 5]);
/// let grid = vitlab::explain::grid_of_rows(&rows, 1)?;
/// assert_eq!(grid, ndarray::arr3(&[[[0.0, 0.25], [0.25, 0.0]]]));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn grid_of_rows(rows: &Tensor, prefix_tokens: i64) -> Result<Array3<f32>> {
    Ok(array(&patches(rows, prefix_tokens)?))
}

/// The patches' columns of rows `[B, S]` as grids `[B, 7, 7]`, float64, on the rows' device.
fn patches(rows: &Tensor, prefix_tokens: i64) -> Result<Tensor> {
    let size = rows.size();
    ensure!(size.len() == 2, "rows of token matrices {size:?}: give [B, S]");
    let side = grid_side(size[1], prefix_tokens)?;
    let patches = rows.narrow(1, prefix_tokens, side * side).to_kind(Kind::Double); // [B, S] -> [B, N]
    let finite = patches.isfinite().all().int64_value(&[]) == 1;
    ensure!(finite, "token matrix: the query's row has entries that are not finite");
    Ok(patches.reshape([-1, side, side])) // [B, N] -> [B, 7, 7]
}

/// A tensor of three dimensions, of any type and on any device, as an array.
fn array(tensor: &Tensor) -> Array3<f32> {
    let array: ArrayD<f32> = tensor.try_into().expect("a tensor has as many values as its shape says");
    array.into_dimensionality().expect("the tensor has three dimensions")
}

/// Divisor of a map's values, for each image, after upsampling. A map of zeros stays zero under all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapScale {
    /// Divides by the largest value: a flat map stays flat.
    #[default]
    Max,
    /// Maps the smallest value to 0 and the largest to 1: shows structure, but exaggerates a nearly flat map. A map
    /// that is flat up to rounding (range below a millionth of its largest value) becomes zero.
    MinMax,
    /// Leaves the values unchanged.
    Raw,
}

/// Interpolation of a patch's value over pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upsample {
    /// Linear between the patches' centres, constant beyond the outer ones (PyTorch's `align_corners=False`).
    #[default]
    Bilinear,
    /// Each pixel gets the value of the patch that contains it.
    Nearest,
}

by_serde_name!(MapScale, "scale");
by_serde_name!(Upsample, "upsample");

/// Options of a heatmap. The default fits a ViT on 28 × 28 images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heatmap {
    pub scale: MapScale,
    pub upsample: Upsample,
    pub query: Query,
    /// Tokens before the patches: 1 in a ViT (class), 2 in a DeiT (class, distillation).
    pub prefix_tokens: i64,
    /// Side of the image in pixels.
    pub image_size: i64,
}

impl Default for Heatmap {
    fn default() -> Self {
        let (scale, upsample, query) = (MapScale::Max, Upsample::Bilinear, Query::Class);
        Heatmap { scale, upsample, query, prefix_tokens: 1, image_size: 28 }
    }
}

impl Heatmap {
    /// Maps `[B, 28, 28]` of matrices `[B, S, S]` (from [`rollout`](super::rollout) or
    /// [`relevance`](super::relevance)): the query token's row over the patches, upsampled, then scaled.
    ///
    /// # Errors
    /// Fails as [`grid`] does, and for an image smaller than the grid.
    ///
    /// ```
    /// use vitlab::{explain::{Heatmap, MapScale, Upsample}, tch::Tensor};
    /// // One image, a class token and four patches: 0 1 / 0 4 in the class token's row.
    /// let row = Tensor::from_slice(&[0.5, 0.0, 1.0, 0.0, 4.0]);
    /// let matrix = row.repeat([1, 5, 1]);
    /// let map = Heatmap { image_size: 4, ..Heatmap::default() };
    /// // Columns 0 to 3 lie 0, ¼, ¾ and 1 of the way from the left patches' centres to the right ones'.
    /// let first = |maps: ndarray::Array3<f32>| maps.slice(ndarray::s![0, 0, ..]).to_vec();
    /// assert_eq!(first(Heatmap { scale: MapScale::Raw, ..map.clone() }.maps(&matrix)?), [0.0, 0.25, 0.75, 1.0]);
    /// assert_eq!(first(map.maps(&matrix)?), [0.0, 0.0625, 0.1875, 0.25]);
    /// assert_eq!(first(Heatmap { upsample: Upsample::Nearest, ..map }.maps(&matrix)?), [0.0, 0.0, 0.25, 0.25]);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn maps(&self, matrix: &Tensor) -> Result<Array3<f32>> {
        self.maps_of_rows(&row(matrix, self.query, self.prefix_tokens)?)
    }

    /// [`Heatmap::maps`] for rows `[B, S]`, from [`row`] or [`Learner::rollout`](crate::Learner::rollout).
    ///
    /// # Errors
    /// Fails as [`grid_of_rows`] does, and for an image smaller than the grid.
    pub fn maps_of_rows(&self, rows: &Tensor) -> Result<Array3<f32>> {
        on_one_thread(|| self.maps_of_grids(&patches(rows, self.prefix_tokens)?))
    }

    /// Upsamples and scales grids: `[B, 7, 7]` -> `[B, 28, 28]`.
    pub(super) fn maps_of_grids(&self, grids: &Tensor) -> Result<Array3<f32>> {
        let (side, size) = (grids.size()[1], self.image_size);
        ensure!(side <= size, "image size {size}: a grid of {side} × {side} patches needs at least {side} pixels");
        let grids = grids.unsqueeze(0); // [B, 7, 7] -> [1, B, 7, 7]: libtorch upsamples channels faster than images
        let maps = match self.upsample {
            Upsample::Bilinear => grids.upsample_bilinear2d([size; 2], false, None, None),
            Upsample::Nearest => grids.internal_upsample_nearest_exact2d([size; 2], None, None),
        };
        Ok(array(&self.scaled(maps.squeeze_dim(0)))) // [1, B, 28, 28] -> [B, 28, 28]
    }

    fn scaled(&self, maps: Tensor) -> Tensor {
        let high = maps.amax([1i64, 2].as_slice(), true); // [B, 28, 28] -> [B, 1, 1]
        // Dividing by 1 where `valid` is false leaves a map of zeros unchanged.
        let divided =
            |mut maps: Tensor, by: &Tensor, valid: &Tensor| maps.g_div_(&by.where_self(valid, &by.ones_like()));
        match self.scale {
            MapScale::Raw => maps,
            MapScale::Max => divided(maps, &high, &high.gt(0.0)),
            MapScale::MinMax => {
                let low = maps.amin([1i64, 2].as_slice(), true); // [B, 1, 1]
                let range = &high - &low;
                let flat = range.le_tensor(&(high.abs().maximum(&low.abs()) * 1e-6));
                divided((maps - low).masked_fill(&flat, 0.0), &range, &flat.logical_not())
            }
        }
    }
}
