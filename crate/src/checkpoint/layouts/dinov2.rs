//! The names of facebookresearch/dinov2: timm's, with `register_tokens` and a `mask_token` that only training needs.
//!
//! The registers are put behind the class token after the positions were added. A training run on several machines
//! numbers its blocks `blocks.CHUNK.BLOCK`. Without a head the model gives the normalised class token.

use super::positions::Interpolation;
use super::{Layout, StateDict, timm};

pub(super) const LAYOUT: Layout = Layout {
    name: "DINOv2",
    signs: &["register_tokens"],
    // The heads that DINOv2 is trained with.
    unused: &["mask_token", "dino_head", "ibot_head"],
    input: timm::IMAGENET,
    prepare: without_chunks,
    interpolation: Interpolation::BicubicAntialias,
    ..timm::LAYOUT
};

/// Without registers, its positions are interpolated in another way.
pub(super) const WITHOUT_REGISTERS: Layout =
    Layout { signs: &["mask_token"], interpolation: Interpolation::BicubicOffset, ..LAYOUT };

/// `blocks.1.7.norm1.weight` -> `blocks.7.norm1.weight`
fn without_chunks(dict: StateDict) -> StateDict {
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let renamed = dict.0.into_iter().map(|(name, tensor)| {
        let parts: Vec<&str> = name.split('.').collect();
        let name = match parts[..] {
            ["blocks", chunk, block, ..] if is_number(&chunk) && is_number(&block) => {
                format!("blocks.{}", parts[2..].join("."))
            }
            _ => name,
        };
        (name, tensor)
    });
    StateDict(renamed.collect())
}
