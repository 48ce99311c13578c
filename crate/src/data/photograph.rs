//! Pictures as figures show them, with the place of a model's input in each.

use std::path::PathBuf;

use image::{Rgb, RgbImage, imageops};
use tch::Tensor;

use super::{Picture, Prepared, preprocessing::on_all_processors};
use crate::error::{Result, ensure};

/// The place of a square in a picture, as shares of the picture's width and height: 0 is the left or upper edge, 1 the
/// right or lower one. A square that was padded reaches beyond the picture.
///
/// ```
/// use vitlab::data::{Filter, Fit, Preprocessing};
/// // 400 × 300 pixels become 256 × 192, and a square of 192 is cut out of their middle: 32 pixels are left on each side.
/// let input = Preprocessing { side: 192, fit: Fit::Crop { shorter: 192 }, ..Preprocessing::fashion_mnist() };
/// let place = input.place((400, 300));
/// assert_eq!((place.left, place.width), (32.0 / 256.0, 192.0 / 256.0));
/// assert_eq!((place.top, place.height), (0.0, 1.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Placement {
    /// All of the picture.
    pub const WHOLE: Placement = Placement { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// Whether the square covers all of the picture, but for a thousandth of a side.
    pub fn covers(&self) -> bool {
        let covers = |start: f64, length: f64| start < 1e-3 && start + length > 1.0 - 1e-3;
        covers(self.left, self.width) && covers(self.top, self.height)
    }

    /// A point of the picture as shares of the square's sides; `None` outside of the square.
    pub(crate) fn within(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let (x, y) = ((x - self.left) / self.width, (y - self.top) / self.height);
        ((0.0..1.0).contains(&x) && (0.0..1.0).contains(&y)).then_some((x, y))
    }
}

/// A picture as a figure shows it: in its own colours, upright, not cropped.
#[derive(Debug)]
pub struct Photograph {
    /// Bytes [3, H, W].
    pub image: Tensor,
    /// The place of the model's input in the picture.
    pub place: Placement,
}

impl Photograph {
    /// The longest side in pixels. Larger pictures are scaled down to it by averaging.
    pub const LONGEST: u32 = 800;

    /// The picture that `prepared` was made from. Its transparent parts have the colour that they had for the model.
    pub fn new(picture: &Picture, prepared: &Prepared) -> Self {
        let background = if prepared.channels == 1 && !prepared.inverted { 0 } else { 255 };
        Photograph { image: planes(&reduced(picture.rgb(background))), place: prepared.place }
    }

    /// [`Photograph::new`] for each file, on all processors.
    ///
    /// # Errors
    /// Fails as [`Picture::open`] does, and for another number of files.
    pub fn read(files: &[PathBuf], prepared: &[Prepared]) -> Result<Vec<Self>> {
        let (count, needed) = (files.len(), prepared.len());
        ensure!(
            count == needed,
            "{count} files for {needed} prepared pictures; give the files that they were made from"
        );
        on_all_processors(count, |index| Ok(Photograph::new(&Picture::open(&files[index])?, &prepared[index])))
    }
}

/// The same picture with at most [`Photograph::LONGEST`] pixels a side.
fn reduced(picture: RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height);
    if longer <= Photograph::LONGEST {
        return picture;
    }
    let scaled = |length: u32| (u64::from(length) * u64::from(Photograph::LONGEST)).div_ceil(u64::from(longer)) as u32;
    imageops::thumbnail(&picture, scaled(width), scaled(height))
}

fn planes(picture: &RgbImage) -> Tensor {
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    let plane = |channel: usize| picture.pixels().map(move |&Rgb(color)| color[channel]);
    let bytes: Vec<u8> = (0..3).flat_map(plane).collect();
    Tensor::from_slice(&bytes).view([3, height, width]) // [3 * H * W] -> [3, H, W]
}
