//! One picture of a grid, and its map.

use ndarray::{Array2, Array3};
use tch::{Device, Kind, Tensor};

use super::canvas::{Canvas, Rect, pixels as pixels_of};
use super::{Color, Map, Overlay, Scale};
use crate::{Error, Result};

/// One picture of a grid.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Values [rows, columns], any size.
    pub image: Array2<f32>,
    pub scale: Scale,
    /// The image's colours [rows, columns, 3] in place of `scale`'s, for a photograph.
    pub colors: Option<Array3<u8>>,
    /// A map over the image.
    pub overlay: Option<Overlay>,
    /// Text below the picture, at most two lines.
    pub caption: String,
    /// Colour of the caption and of a frame around the picture, for example for right and wrong predictions.
    pub highlight: Option<Color>,
}

impl Tile {
    /// A photograph in grey. Its lowest value is black, its highest white.
    pub fn grey(image: Array2<f32>, caption: impl Into<String>) -> Self {
        let scale = Scale::fit(Map::Grey, [&image]);
        Tile::map(image, scale, caption)
    }

    /// Values as colours.
    pub fn map(image: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile { image, scale, colors: None, overlay: None, caption: caption.into(), highlight: None }
    }

    /// A photograph of bytes: [3, H, W] in red, green, blue, or in grey [H, W] or [1, H, W].
    ///
    /// # Errors
    /// A tensor of another shape.
    pub fn picture(image: &Tensor, caption: impl Into<String>) -> Result<Self> {
        let [3, rows, columns] = image.size()[..] else { return Ok(Tile::grey(pixels(image)?, caption)) };
        let bytes = image.detach().to_device(Device::Cpu).to_kind(Kind::Uint8);
        let interleaved = bytes.permute([1, 2, 0]).contiguous().view([-1]); // [3, H, W] -> [H, W, 3] -> [H * W * 3]
        let size = (rows as usize, columns as usize, 3);
        let colors = Array3::from_shape_vec(size, Vec::<u8>::try_from(interleaved)?).ok();
        let image = pixels(&bytes.to_kind(Kind::Float).mean_dim([0i64].as_slice(), false, Kind::Float))?;
        Ok(Tile { colors, ..Tile::grey(image, caption) })
    }

    /// The same picture under a translucent map.
    pub fn under(self, values: Array2<f32>, scale: Scale) -> Self {
        Tile { overlay: Some(Overlay::new(values, scale)), ..self }
    }

    /// A photograph in grey under a translucent map.
    pub fn overlay(image: Array2<f32>, values: Array2<f32>, scale: Scale, caption: impl Into<String>) -> Self {
        Tile::grey(image, caption).under(values, scale)
    }

    /// The same tile with its caption and a frame in `color`.
    pub fn highlighted(self, color: Color) -> Self {
        Tile { highlight: Some(color), ..self }
    }

    /// The tile's height in a box of this width and height.
    pub(super) fn height_in(&self, (width, height): (f32, f32)) -> f32 {
        let (rows, columns) = self.image.dim();
        inscribed((0.0, 0.0, width, height), rows, columns).3
    }

    /// Draws the tile into `area`, in the middle and in its own shape.
    pub(super) fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let (rows, columns) = self.image.dim();
        let area = inscribed(area, rows, columns);
        let (high, wide) = (pixels_of(area.3) as usize, pixels_of(area.2) as usize);
        let mut picture = Array2::from_shape_fn((high, wide), |(y, x)| {
            let (row, column) = (y * rows / high, x * columns / wide);
            match &self.colors {
                Some(colors) => Color(colors[[row, column, 0]], colors[[row, column, 1]], colors[[row, column, 2]]),
                None => self.scale.color(self.image[[row, column]]),
            }
        });
        if let Some(overlay) = &self.overlay {
            overlay.paint(&mut picture);
        }
        canvas.has_photographs |= self.colors.is_some();
        canvas.cells(area, high, wide, |y, x| picture[[y, x]]);
        let (thickness, color) = self.highlight.map_or((0.5, Color::GRID_LINE), |color| (2.5, color));
        canvas.frame(area, thickness, color);
    }
}

/// The largest area of `rows` × `columns` squares in the middle of `area`.
fn inscribed((x, y, width, height): Rect, rows: usize, columns: usize) -> Rect {
    let cell = (width / columns as f32).min(height / rows as f32);
    let (inner_width, inner_height) = (cell * columns as f32, cell * rows as f32);
    (x + (width - inner_width) / 2.0, y + (height - inner_height) / 2.0, inner_width, inner_height)
}

/// A one-channel image or a map as an array [H, W]. The tensor has shape [H, W], or dimensions of 1 before these.
///
/// # Errors
/// A tensor of another shape.
pub fn pixels(image: &Tensor) -> Result<Array2<f32>> {
    let size = image.size();
    let picture = match size[..] {
        [ref leading @ .., rows, columns] if leading.iter().all(|&dimension| dimension == 1) => {
            let flat = image.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
            Array2::from_shape_vec((rows as usize, columns as usize), Vec::<f32>::try_from(flat)?).ok()
        }
        _ => None,
    };
    picture.ok_or_else(|| {
        Error::argument(format!(
            "a picture has shape [H, W] or [1, H, W], this tensor has {size:?}; pick one image, as with get(0)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_any_kind_become_arrays() {
        let image = Tensor::from_slice(&[0u8, 1, 2, 3, 4, 5]).view([1, 1, 2, 3]);
        assert_eq!(pixels(&image).unwrap(), ndarray::arr2(&[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]));
        assert_eq!(pixels(&image.transpose(2, 3)).unwrap(), ndarray::arr2(&[[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]));
        let shape = pixels(&Tensor::zeros([2, 28, 28], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(shape.contains("[2, 28, 28]"), "{shape}");
    }

    #[test]
    fn a_picture_keeps_its_shape() {
        assert_eq!(inscribed((10.0, 20.0, 100.0, 100.0), 50, 100), (10.0, 45.0, 100.0, 50.0));
        assert_eq!(inscribed((10.0, 20.0, 100.0, 100.0), 7, 7), (10.0, 20.0, 100.0, 100.0));
    }
}
