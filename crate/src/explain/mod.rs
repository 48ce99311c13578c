//! What a model looks at: attention rollout, gradient methods, and their maps over the image.
//!
//! [`rollout`] and [`relevance`] give a matrix `[B, S, S]` per image, tokens by tokens; [`grid`] cuts a query token's
//! row out of it, one number per patch; a [`Heatmap`] makes that a picture of the image's size; [`Faithfulness`] measures
//! whether it points at what the model uses.

mod faithfulness;
mod gradient;
mod heatmap;
mod layers;
mod map;
mod named;
mod rollout;
mod statistics;

pub use faithfulness::{Baseline, Curve, Direction, Faithfulness, random_maps};
pub use gradient::{Target, gradient_attention, relevance};
pub use heatmap::{Heatmap, Scale, Upsample};
pub use layers::Layers;
pub use map::{Query, grid, grid_of_rows, row};
pub(crate) use rollout::not_attention;
pub use rollout::{DiscardPer, Fusion, Normalisation, Rollout, rollout};
pub use statistics::{attention_distance, attention_entropy};
