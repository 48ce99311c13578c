//! Explanations of a model's predictions: attention rollout, gradient methods, and their heatmaps over the image.
//!
//! [`rollout`] and [`relevance`] give a matrix `[B, S, S]`, tokens by tokens, for each image. [`row`] reads a query
//! token's row. [`grad_cam`] and [`attn_lrp`] give one value per token, `[B, S]`, in place of a row. A [`Heatmap`] upsamples
//! the row's patches to the image. [`Faithfulness`] measures whether the map points at the pixels that the model uses,
//! [`compare`] measures it against random order, and [`choose`] selects the map that does best.

/// Implements `FromStr` and `Display` for an enum of unit variants, by their serde names in any case.
macro_rules! by_serde_name {
    ($kind:ident, $option:literal) => {
        impl std::str::FromStr for $kind {
            type Err = crate::Error;
            fn from_str(name: &str) -> crate::Result<Self> {
                use serde::de::{Deserialize, IntoDeserializer, value};
                let name = name.trim().to_lowercase();
                let variant: Result<Self, value::Error> = Self::deserialize(name.as_str().into_deserializer());
                variant.map_err(|problem| crate::Error::argument(format!("{}: {problem}", $option)))
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        }
    };
}

/// Implements the conversions that `#[serde(try_from = "String", into = "String")]` calls, by `FromStr` and `Display`.
macro_rules! string_conversions {
    ($kind:ident) => {
        impl TryFrom<String> for $kind {
            type Error = crate::Error;
            fn try_from(text: String) -> crate::Result<Self> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> String {
                value.to_string()
            }
        }
    };
}

mod attn_lrp;
mod choose;
mod comparison;
mod components;
mod exchange;
mod explorer;
mod faithfulness;
mod grad_cam;
mod gradient;
mod heatmap;
mod rollout;
mod rollout_rows;
mod sanity;
mod statistics;

use std::ops::RangeInclusive;

use tch::Tensor;

use crate::error::{Error, Result, ensure};
pub use attn_lrp::{GAMMA, Relevances, attn_lrp};
pub use choose::{Choice, choose, halves};
pub use comparison::{Candidate, Comparison, Trial, compare};
pub use components::{PrincipalComponents, principal_components};
pub use explorer::{Exploration, Explorer};
pub use faithfulness::{Baseline, Curve, Direction, Faithfulness, Score, random_maps};
pub use grad_cam::grad_cam;
pub use gradient::{Target, gradient_attention, relevance};
use heatmap::grid_side;
pub use heatmap::{Heatmap, MapScale, Query, Upsample, grid, grid_of_rows, row};
pub use rollout::{DiscardPer, Fusion, Layers, Normalisation, Rollout, rollout};
pub(crate) use rollout_rows::rollout_rows;
pub use sanity::rank_correlations;
pub use statistics::{attention_distance, attention_entropy, query_entropy};

/// Images per pass. One layer of 32 images fits into the processor's cache, which makes a pass three times as fast as
/// one over 500 images, and the memory for intermediate results doesn't grow with the batch.
const CHUNK: i64 = 32;

/// [`CHUNK`], or fewer images of models with more tokens and heads, so that a layer in float64 takes at most 32 MiB.
fn images_per_pass(attention: &Tensor) -> i64 {
    let size = attention.size(); // [B, L, H, S, S]
    ((1 << 22) / (size[2] * size[3] * size[4])).clamp(1, CHUNK)
}

/// Attention `[B, L, H, S, S]` or `[L, H, S, S]` as `[B, L, H, S, S]`, detached from its graph.
fn batched(attention: &Tensor) -> Result<Tensor> {
    let shapes = "[B, L, H, S, S], or [L, H, S, S] for one image, with nothing empty";
    check_square("attention", attention, 4..=5, shapes)?;
    let attention = attention.detach();
    Ok(if attention.dim() == 4 { attention.unsqueeze(0) } else { attention }) // [L, H, S, S] -> [1, L, H, S, S]
}

/// Checks the number of dimensions, that the last two are equal, and that none is empty.
fn check_square(name: &str, tensor: &Tensor, dimensions: RangeInclusive<usize>, shapes: &str) -> Result<()> {
    let size = tensor.size();
    let square = matches!(size[..], [.., rows, columns] if rows == columns);
    ensure!(square && dimensions.contains(&size.len()) && !size.contains(&0), "{name} {size:?}: give {shapes}");
    Ok(())
}

pub(crate) fn invalid_attention() -> Error {
    Error::argument("attention: it has entries that are negative or not finite; give the weights after the softmax")
}
