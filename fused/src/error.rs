//! The engine's error: a sentence for the user.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An argument can't be used. The sentence says which one, why, and the remedy.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(pub(crate) String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prints the same sentence as `Display`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Number of images in `images`, each of which has `image_len` values.
pub(super) fn batch_size(images: &[f32], image_len: usize) -> Result<usize> {
    if images.len().is_multiple_of(image_len) {
        return Ok(images.len() / image_len);
    }
    let problem =
        format!("the images have {} values; give a multiple of {image_len}, the values of an image", images.len());
    Err(Error(problem))
}

/// Checks the length of a flat vector of all parameters.
pub(super) fn check_parameters(parameters: &[f32], expected: usize) -> Result<()> {
    match parameters.len() == expected {
        true => Ok(()),
        false => Err(Error(format!("this network has {expected} parameters, not {}", parameters.len()))),
    }
}
