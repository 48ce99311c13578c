//! From a matrix of tokens by tokens to a map of the image's size.

use super::map::{Query, array, patches, row};
use super::named::by_name;
use crate::device::on_one_thread;
use crate::{Error, Result};
use ndarray::Array3;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a map's values are scaled by, image by image, after upsampling. A map of zeros stays one under all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Divided by the largest value: a flat map stays flat.
    #[default]
    Max,
    /// The smallest value to 0, the largest to 1: shows structure, but exaggerates a nearly flat map. A map that is
    /// flat but for rounding (range below a millionth of its largest value) becomes zero.
    MinMax,
    /// As it is.
    Raw,
}

/// How a patch's value is spread over pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upsample {
    /// Linear between the centres of the patches, constant outside of them (PyTorch's `align_corners=False`).
    #[default]
    Bilinear,
    /// Each pixel the value of the patch it lies in.
    Nearest,
}

by_name!(Scale, "scale");
by_name!(Upsample, "upsample");

/// How a map is made; the default is that of a ViT on 28 × 28 images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heatmap {
    pub scale: Scale,
    pub upsample: Upsample,
    pub query: Query,
    /// Tokens before the patches: 1 in a ViT (class), 2 in a DeiT (class, distillation).
    pub prefix_tokens: i64,
    /// Side of the image in pixels.
    pub image_size: i64,
}

impl Default for Heatmap {
    fn default() -> Self {
        Heatmap {
            scale: Scale::Max,
            upsample: Upsample::Bilinear,
            query: Query::Class,
            prefix_tokens: 1,
            image_size: 28,
        }
    }
}

impl Heatmap {
    /// Maps `[B, 28, 28]` of matrices `[B, S, S]` (from [`rollout`](super::rollout) or
    /// [`relevance`](super::relevance)): the query's row over the patches, upsampled, then scaled.
    ///
    /// Errors: those of [`grid`](super::grid), and an image smaller than the grid.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::explain::{Heatmap, Scale, Upsample};
    /// // One image, a class token and four patches: 0 1 / 0 4 in the class token's row.
    /// let row = Tensor::from_slice(&[0.5, 0.0, 1.0, 0.0, 4.0]);
    /// let matrix = row.repeat([1, 5, 1]);
    /// let map = Heatmap { image_size: 4, ..Heatmap::default() };
    /// // Columns 0 to 3 lie 0, ¼, ¾ and 1 of the way from the left patches' centres to the right ones'.
    /// let first = |maps: ndarray::Array3<f32>| maps.slice(ndarray::s![0, 0, ..]).to_vec();
    /// assert_eq!(first(Heatmap { scale: Scale::Raw, ..map.clone() }.maps(&matrix)?), [0.0, 0.25, 0.75, 1.0]);
    /// assert_eq!(first(map.maps(&matrix)?), [0.0, 0.0625, 0.1875, 0.25]);
    /// assert_eq!(first(Heatmap { upsample: Upsample::Nearest, ..map }.maps(&matrix)?), [0.0, 0.0, 0.25, 0.25]);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn maps(&self, matrix: &Tensor) -> Result<Array3<f32>> {
        self.maps_of_rows(&row(matrix, self.query, self.prefix_tokens)?)
    }

    /// The same of the query's rows `[B, S]`, from [`row`] or
    /// [`Fused::rollout`](crate::fused::Fused::rollout).
    ///
    /// Errors: those of [`grid_of_rows`](super::grid_of_rows), and an image smaller than the grid.
    pub fn maps_of_rows(&self, rows: &Tensor) -> Result<Array3<f32>> {
        on_one_thread(|| self.of_grids(&patches(rows, self.prefix_tokens)?))
    }

    /// The maps of grids `[B, 7, 7]`.
    pub(super) fn of_grids(&self, grid: &Tensor) -> Result<Array3<f32>> {
        let side = grid.size()[1];
        if self.image_size < side {
            return Err(Error::argument(format!(
                "image size {}: a grid of {side} × {side} patches needs at least {side} pixels",
                self.image_size
            )));
        }
        let size = [self.image_size, self.image_size];
        let grid = grid.f_unsqueeze(0)?; // [B, 7, 7] -> [1, B, 7, 7]: libtorch upsamples channels faster than images
        let maps = match self.upsample {
            Upsample::Bilinear => grid.f_upsample_bilinear2d(size, false, None, None)?,
            Upsample::Nearest => grid.f_internal_upsample_nearest_exact2d(size, None, None)?,
        };
        array(&self.scaled(maps.f_squeeze_dim(0)?)?) // [1, B, 28, 28] -> [B, 28, 28]
    }

    fn scaled(&self, maps: Tensor) -> Result<Tensor> {
        let high = maps.f_amax([1i64, 2].as_slice(), true)?;
        // Where there is nothing to divide by, the map is divided by 1.
        let divided = |mut maps: Tensor, by: &Tensor, possible: &Tensor| {
            maps.f_div_(&by.f_where_self(possible, &by.f_ones_like()?)?)
        };
        Ok(match self.scale {
            Scale::Raw => maps,
            Scale::Max => divided(maps, &high, &high.f_gt(0.0)?)?,
            Scale::MinMax => {
                let low = maps.f_amin([1i64, 2].as_slice(), true)?;
                let range = high.f_sub(&low)?;
                let largest = high.f_abs()?.f_maximum(&low.f_abs()?)?;
                let flat = range.f_le_tensor(&largest.f_mul_scalar(1e-6)?)?;
                let raised = maps.f_sub(&low)?.f_masked_fill(&flat, 0.0)?;
                divided(raised, &range, &flat.f_logical_not()?)?
            }
        })
    }
}
