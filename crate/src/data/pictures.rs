//! Picture files as the models' input.

use std::path::Path;

use tch::Tensor;

use super::SIDE;
use crate::{Error, Result};

/// Reads a PNG as bytes [28, 28], 0 for black. Colours become grey, and another size is scaled to 28 × 28.
///
/// # Errors
/// A file that can't be read or is no PNG.
pub fn read_picture(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let mut picture = image::open(path)
        .map_err(|e| Error::file(path, format!("can't be read as a PNG ({e}); give a grey picture")))?
        .into_luma8();
    let side = SIDE as u32;
    if picture.dimensions() != (side, side) {
        picture = image::imageops::resize(&picture, side, side, image::imageops::FilterType::Triangle);
    }
    Ok(Tensor::from_slice(picture.as_raw()).view([SIDE as i64, SIDE as i64]))
}
