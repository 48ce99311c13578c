//! One picture of a grid: an image, a map in colour, or one over the other.

use ndarray::Array2;
use tch::Tensor;

use super::canvas::Canvas;
use super::{Color, Map, Scale};
use crate::{Error, Result};

/// How opaque an overlay's highest value is; its lowest is transparent.
const OPACITY: f32 = 0.8;

/// One picture of a grid.
#[derive(Clone, Debug)]
pub struct Tile {
    /// [rows, columns] of values, any size
    pub image: Array2<f32>,
    pub scale: Scale,
    /// A map drawn over the image, of any size.
    pub overlay: Option<Overlay>,
    /// Below the picture, at most two lines.
    pub caption: String,
    /// Of the caption and of a frame around the picture, as for right and wrong.
    pub highlight: Option<Color>,
}

/// A translucent map: the higher the value, the more it covers.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// [rows, columns] of values, any size
    pub values: Array2<f32>,
    pub scale: Scale,
}

impl Tile {
    /// A photograph in grey, from its own darkest to its own lightest value.
    pub fn grey(image: Array2<f32>, caption: impl Into<String>) -> Self {
        let scale = Scale::fit(Map::Grey, [&image]);
        Tile { image, scale, overlay: None, caption: caption.into(), highlight: None }
    }

    /// Values in colour.
    pub fn map(image: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile { image, scale, overlay: None, caption: caption.into(), highlight: None }
    }

    /// A photograph in grey under a translucent map.
    pub fn overlay(image: Array2<f32>, values: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile { overlay: Some(Overlay { values, scale }), ..Tile::grey(image, caption) }
    }

    /// With its caption and a frame in `color`.
    pub fn highlighted(self, color: Color) -> Self {
        Tile { highlight: Some(color), ..self }
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, area: (f32, f32, f32, f32)) {
        let (rows, columns) = self.image.dim();
        match &self.overlay {
            None => canvas.cells(area, rows, columns, |y, x| self.scale.color(self.image[[y, x]])),
            Some(overlay) => {
                let (map_rows, map_columns) = overlay.values.dim();
                // The finer of the two grids in each direction shows both without loss when one divides the other.
                let (fine_rows, fine_columns) = (rows.max(map_rows), columns.max(map_columns));
                canvas.cells(area, fine_rows, fine_columns, |y, x| {
                    let at = |from: usize, fine: usize, i: usize| i * from / fine;
                    let below = self.scale.color(self.image[[at(rows, fine_rows, y), at(columns, fine_columns, x)]]);
                    let value = overlay.values[[at(map_rows, fine_rows, y), at(map_columns, fine_columns, x)]];
                    below.under(overlay.scale.color(value), OPACITY * overlay.scale.share(value))
                });
            }
        }
        let (x, y, width, height) = area;
        match self.highlight {
            Some(color) => canvas.frame(x, y, width, height, 2.5, color),
            None => canvas.frame(x, y, width, height, 0.5, Color::LINE),
        }
    }
}

/// A one-channel image or a map on any device as an array: [H, W], or with leading dimensions of 1.
///
/// # Errors
/// Another shape.
pub fn pixels(image: &Tensor) -> Result<Array2<f32>> {
    let size = image.size();
    let (leading, [rows, columns]) = match size.split_last_chunk::<2>() {
        Some((leading, last)) if leading.iter().all(|&dim| dim == 1) => (leading, *last),
        _ => {
            return Err(Error::argument(format!(
                "a picture has shape [H, W] or [1, H, W], this tensor has {size:?}; pick one image, as with get(0)"
            )));
        }
    };
    debug_assert!(leading.len() + 2 == size.len());
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
