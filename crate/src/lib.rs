//! A small Vision Transformer on FashionMNIST: models, training, attention maps and distillation on tch (libtorch).
//!
//! | module | what it holds | notebooks |
//! |---|---|---|
//! | [`config`] | the homework's constants | all |
//! | [`data`] | FashionMNIST: finding, reading, augmenting, batching | all |
//! | [`model`] | ViT, DeiT student, CNN teacher | all |
//! | [`checkpoint`] | PyTorch and safetensors files, names and shapes checked | all |
//! | [`train`] | optimizer, schedule, epochs, history, checkpoints | 0, 1, 3 |
//! | [`fused`] | the same training steps by hand, several times as fast on a CPU | 0, 1, 3 |
//! | [`learner`] | a model with weights and the fastest way to run it | all |
//! | [`distill`] | hard and soft distillation losses | 3 |
//! | [`metrics`] | accuracy, confusion matrix | 0, 3 |
//! | [`explain`] | attention rollout, gradient methods, heatmaps | 2, 3 |
//! | [`plot`] | figures | all |
//! | [`file`] | files written whole or not at all | – |
//! | [`notebook`] | what talks to the kernel: display of figures and tables, source listings | all |
//!
//! Axis letters in shape comments: B batch, S tokens, E embedding, H heads, P patch, L layers, I image side.

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod distill;
pub mod error;
pub mod explain;
pub mod fused;
pub mod learner;
pub mod metrics;
pub mod model;
pub mod notebook;
pub mod plot;
pub mod train;

/// The versions that this crate's types come from, for notebooks that import only this crate.
pub use vitlab_dataset::file;
pub use {ndarray, tch};

pub use config::Config;
pub use error::{Error, Result};
pub use learner::Learner;
