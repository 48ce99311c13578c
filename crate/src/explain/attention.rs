//! Checks of the tensors that explanations start from: attention weights after the softmax, and matrices made of them.

use std::ops::RangeInclusive;

use tch::Tensor;

use crate::error::ensure;
use crate::{Error, Result};

/// Images per pass. One layer of 32 images fits into the processor's cache, which makes a pass three times as fast as
/// one over 500 images, and the memory for intermediate results doesn't grow with the batch.
pub(super) const CHUNK: i64 = 32;

/// Attention `[B, L, H, S, S]` or `[L, H, S, S]` as `[B, L, H, S, S]`, detached from its graph.
pub(super) fn batched(attention: &Tensor) -> Result<Tensor> {
    let shapes = "[B, L, H, S, S], or [L, H, S, S] for one image, with nothing empty";
    check_square("attention", attention, 4..=5, shapes)?;
    let attention = attention.detach();
    Ok(if attention.dim() == 4 { attention.unsqueeze(0) } else { attention }) // [L, H, S, S] -> [1, L, H, S, S]
}

/// Checks the number of dimensions, that the last two are equal, and that none is empty.
pub(super) fn check_square(name: &str, tensor: &Tensor, dimensions: RangeInclusive<usize>, shapes: &str) -> Result<()> {
    let size = tensor.size();
    let square = matches!(size[..], [.., rows, columns] if rows == columns);
    ensure!(square && dimensions.contains(&size.len()) && !size.contains(&0), "{name} {size:?}: give {shapes}");
    Ok(())
}

pub(crate) fn invalid_attention() -> Error {
    Error::argument("attention: it has entries that are negative or not finite; give the weights after the softmax")
}
