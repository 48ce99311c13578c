//! Hand-written CPU engine: training steps, predictions and attention rollouts of a Vision Transformer, a DeiT student
//! and a small CNN. Arguments and results are slices and vectors of `f32`; the package needs no tensor library.
//!
//! | module | content |
//! |---|---|
//! | `vit` | [`Transformer`]: embedding, encoder blocks, heads, rollout |
//! | `cnn` | [`Cnn`]: Winograd convolutions, batch norm, pooling, linear layers |
//! | `layers`, `attention` | linear layer, layer norm, softmax, attention: each backward pass under its forward pass |
//! | `gelu` | GELU, exponential |
//! | `mat` | aligned buffers, matrices with shapes and transposed views, their products |
//! | `cpu` | [`CpuLevel`], its vector registers, operands in bfloat16, and the choice of the level at the top of a pass |
//! | `loss`, `random`, `threads` | loss and its gradient, dropout, jobs on threads |
//!
//! Three decisions make it fast:
//!
//! - One thread takes a few images through the whole network and back, so that their activations stay in its cache.
//! - Matrix products keep their sums in registers. Sizes are multiples of 16, the lanes of the widest register.
//! - Dropout draws its bits again in the backward pass instead of storing masks.
//!
//! `unsafe` is in `cpu/`, `mat/product.rs` and `mat/tile.rs`. A level's instructions need its token, which exists only on a
//! CPU that has them, and matrices check their bounds when they are made. So safe functions are safe whatever they are given.
//!
//! Results don't depend on the number of threads. They agree with libtorch's float32 results to 1e-5 of the largest value.
//!
//! Axis letters in shape comments: B batch, G images of a group, C channels, I image side, N patches, S tokens,
//! E embedding, F hidden width of the MLP, H heads, L layers.

mod attention;
mod cnn;
mod cpu;
mod error;
mod gelu;
mod layers;
mod loss;
mod mat;
mod random;
#[cfg(test)]
mod tests;
mod threads;
mod vit;

pub use cnn::{Cnn, CnnShape, NormStatistics};
pub use cpu::CpuLevel;
pub use error::{Error, Result};
pub use loss::{HeadTarget, StepOutput};
pub use vit::{Fusion, Precision, ResolvedRollout, Shape, Transformer};
