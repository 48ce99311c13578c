//! Position embeddings for other image sizes than a model was trained on.

use tch::{Kind, Tensor};

use crate::error::{Result, ensure};

/// The way in which a library interpolates position embeddings. They differ, and so do the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Bicubic: transformers' ViT, DeiT and Dinov2; facebookresearch's DeiT.
    Bicubic,
    /// Bicubic with a low-pass filter where the grid shrinks: timm, DINOv2 with registers in both libraries.
    BicubicAntialias,
    /// Bicubic, with scale factors a little larger than the ratio of the grids (by 0.1 rows): DINOv2 without registers.
    BicubicOffset,
    /// Bicubic between the centres of the outer patches: torchvision.
    BicubicCorners,
    /// Bilinear between the centres of the outer patches: Google, which zooms with SciPy.
    BilinearCorners,
}

impl Interpolation {
    /// For messages.
    pub(super) fn description(self) -> &'static str {
        match self {
            Interpolation::Bicubic => "bicubic",
            Interpolation::BicubicAntialias => "bicubic with antialiasing",
            Interpolation::BicubicOffset => "bicubic with an offset of 0.1",
            Interpolation::BicubicCorners => "bicubic with aligned corners",
            Interpolation::BilinearCorners => "bilinear with aligned corners",
        }
    }

    /// Position embeddings [1, rows, E] whose last rows are a square grid of patches, for a grid of `side` × `side`.
    /// The rows before the patches stay as they are.
    ///
    /// ```
    /// use vitlab::{checkpoint::layouts::Interpolation, tch::Tensor};
    /// // A class token's row, then 2 × 2 patches with the values 0 and 2 in the columns.
    /// let rows = Tensor::from_slice(&[9f32, 0., 2., 0., 2.]).view([1, 5, 1]);
    /// let three = Interpolation::BilinearCorners.resized(&rows, 1, 3)?;
    /// assert_eq!(three.flatten(0, -1), Tensor::from_slice(&[9f32, 0., 1., 2., 0., 1., 2., 0., 1., 2.]));
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// Rows that are no square grid.
    pub fn resized(self, positions: &Tensor, prefix_rows: i64, side: i64) -> Result<Tensor> {
        let size = positions.size();
        let old = size.get(1).map_or(0, |rows| (rows - prefix_rows).max(0).isqrt());
        let square = size.len() == 3 && old > 0 && old * old + prefix_rows == size[1];
        ensure!(square && side > 0, "position embeddings {size:?}: after {prefix_rows} rows there is no square grid");
        let embed = size[2];
        let positions = positions.to_kind(Kind::Float);
        let grid = positions.narrow(1, prefix_rows, old * old).view([1, old, old, embed]);
        let grid = grid.permute([0, 3, 1, 2]); // [1, N, E] -> [1, E, √N, √N]
        let to = [side, side];
        let grid = match self {
            Interpolation::Bicubic => grid.f_upsample_bicubic2d(to, false, None, None)?,
            Interpolation::BicubicAntialias => grid.f_internal_upsample_bicubic2d_aa(to, false, None, None)?,
            Interpolation::BicubicOffset => {
                let scale = (side as f64 + 0.1) / old as f64;
                grid.f_upsample_bicubic2d(to, false, scale, scale)?
            }
            Interpolation::BicubicCorners => grid.f_upsample_bicubic2d(to, true, None, None)?,
            Interpolation::BilinearCorners => grid.f_upsample_bilinear2d(to, true, None, None)?,
        };
        let patches = grid.flatten(2, 3).transpose(1, 2); // [1, E, side, side] -> [1, side², E]
        Ok(Tensor::cat(&[positions.narrow(1, 0, prefix_rows), patches], 1))
    }
}
