//! One picture of a grid: an image, a colour map, or a colour map over an image.

use ndarray::Array2;
use tch::Tensor;

use super::canvas::{Canvas, Rect};
use super::{Color, Map, Scale};
use crate::{Error, Result};

/// Opacity of an overlay's highest value. The lowest value is transparent.
const OPACITY: f32 = 0.8;

/// One picture of a grid.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Values [rows, columns], any size.
    pub image: Array2<f32>,
    pub scale: Scale,
    /// A map over the image.
    pub overlay: Option<Overlay>,
    /// Text below the picture, at most two lines.
    pub caption: String,
    /// Colour of the caption and of a frame around the picture, for example for right and wrong predictions.
    pub highlight: Option<Color>,
}

/// A translucent map: opacity grows with the value.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Values [rows, columns], any size.
    pub values: Array2<f32>,
    pub scale: Scale,
}

impl Tile {
    /// A photograph in grey. Its lowest value is black, its highest white.
    pub fn grey(image: Array2<f32>, caption: impl Into<String>) -> Self {
        let scale = Scale::fit(Map::Grey, [&image]);
        Tile::map(image, scale, caption)
    }

    /// Values as colours.
    pub fn map(image: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile { image, scale, overlay: None, caption: caption.into(), highlight: None }
    }

    /// A photograph in grey under a translucent map.
    pub fn overlay(image: Array2<f32>, values: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile { overlay: Some(Overlay { values, scale }), ..Tile::grey(image, caption) }
    }

    /// The same tile with its caption and a frame in `color`.
    pub fn highlighted(self, color: Color) -> Self {
        Tile { highlight: Some(color), ..self }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let (rows, columns) = self.image.dim();
        let (map_rows, map_columns) = self.overlay.as_ref().map_or((0, 0), |overlay| overlay.values.dim());
        // In each direction the finer of the two grids shows both exactly if one size divides the other.
        let (fine_rows, fine_columns) = (rows.max(map_rows), columns.max(map_columns));
        canvas.cells(area, fine_rows, fine_columns, |y, x| {
            let below = self.scale.color(self.image[[y * rows / fine_rows, x * columns / fine_columns]]);
            let Some(overlay) = &self.overlay else { return below };
            let value = overlay.values[[y * map_rows / fine_rows, x * map_columns / fine_columns]];
            below.under(overlay.scale.color(value), OPACITY * overlay.scale.position(value))
        });
        match self.highlight {
            Some(color) => canvas.frame(area, 2.5, color),
            None => canvas.frame(area, 0.5, Color::LINE),
        }
    }
}

/// A one-channel image or a map as an array [H, W]. The tensor has shape [H, W], or dimensions of 1 before these.
///
/// # Errors
/// A tensor of another shape.
pub fn pixels(image: &Tensor) -> Result<Array2<f32>> {
    let size = image.size();
    let Some((_, &[rows, columns])) =
        size.split_last_chunk().filter(|(leading, _)| leading.iter().all(|&dimension| dimension == 1))
    else {
        return Err(Error::argument(format!(
            "a picture has shape [H, W] or [1, H, W], this tensor has {size:?}; pick one image, as with get(0)"
        )));
    };
    let flat = image.detach().to_device(tch::Device::Cpu).to_kind(tch::Kind::Float).contiguous().view([-1]);
    let values = Vec::<f32>::try_from(flat)?;
    Array2::from_shape_vec((rows as usize, columns as usize), values)
        .map_err(|error| Error::argument(format!("a picture of shape {size:?} can't be drawn ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_any_kind_become_arrays() {
        let image = Tensor::from_slice(&[0u8, 1, 2, 3, 4, 5]).view([1, 1, 2, 3]);
        assert_eq!(pixels(&image).unwrap(), ndarray::arr2(&[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]));
        assert_eq!(pixels(&image.transpose(2, 3)).unwrap(), ndarray::arr2(&[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]));
        let shape = pixels(&Tensor::zeros([2, 28, 28], (tch::Kind::Float, tch::Device::Cpu))).unwrap_err().to_string();
        assert!(shape.contains("[2, 28, 28]"), "{shape}");
    }
}
