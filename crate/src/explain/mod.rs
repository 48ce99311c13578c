//! Explanations of a model's predictions: attention rollout, gradient methods, and their heatmaps over the image.
//!
//! [`rollout`] and [`relevance`] give a matrix `[B, S, S]`, tokens by tokens, for each image. [`grid`] reads a query
//! token's row over the patches. A [`Heatmap`] upsamples that row to the image. [`Faithfulness`] measures whether the
//! map points at the pixels that the model uses.

mod attention;
mod faithfulness;
mod gradient;
mod heatmap;
mod layers;
mod query;
mod rollout;
mod statistics;
mod text;

pub(crate) use attention::invalid_attention;
pub use faithfulness::{Baseline, Curve, Direction, Faithfulness, random_maps};
pub use gradient::{Target, gradient_attention, relevance};
pub use heatmap::{Heatmap, Scale, Upsample, grid, grid_of_rows};
pub use layers::Layers;
pub use query::{Query, row};
pub use rollout::{DiscardPer, Fusion, Normalisation, Rollout, rollout};
pub use statistics::{attention_distance, attention_entropy};
