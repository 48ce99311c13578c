//! Vision Transformers on FashionMNIST: models, training, attention maps and distillation on tch (libtorch).
//!
//! Load a model, predict, and explain the prediction:
//!
//! ```
//! use vitlab::Learner;
//! use vitlab::data::{CLASSES, Dataset, Source, Split};
//! use vitlab::explain::{Heatmap, Query, Rollout};
//! use vitlab::tch::{Device, Kind, Tensor};
//!
//! let vit = Learner::read("../models/ViT_model.pt", Device::Cpu)?;
//! let data = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu)?;
//! let image = data.normalised(&Tensor::from_slice(&[3i64])); // [1, 1, 28, 28]
//! let (row, logits) = vit.rollout(&image, &Rollout::default(), Query::Class)?; // [1, 50], [1, 10]
//! let class = logits.argmax(1, false).int64_value(&[0]) as usize;
//! let map = Heatmap::default().maps_of_rows(&row)?; // [1, 28, 28]
//! assert_eq!(CLASSES[class], "Trouser");
//! let probability = logits.softmax(1, Kind::Float).max().double_value(&[]);
//! assert_eq!(format!("{probability:.3} {:.3}", map.mean().unwrap()), "0.988 0.476");
//! # Ok::<(), vitlab::Error>(())
//! ```
//!
//! | module | contents | notebooks |
//! |---|---|---|
//! | [`config`] | the homework's constants | all |
//! | [`data`] | FashionMNIST: finding, reading, augmenting, batching | all |
//! | [`model`] | ViT, DeiT student, CNN teacher | all |
//! | [`learner`] | a model with weights, and the fastest way to run it here | all |
//! | [`checkpoint`] | checkpoints of PyTorch, safetensors, NumPy and the Hugging Face hub, with names and shapes checked | all |
//! | [`train`] | optimizer, schedule, epochs, history, resuming | 0 to 3 |
//! | [`distill`] | hard and soft distillation losses | 3 |
//! | [`evidence`] | trainings of several configurations and seeds, and what they show | 1, 2, 3 |
//! | [`metrics`] | accuracy, confusion matrix | 0 to 3 |
//! | [`explain`] | attention rollout, gradient methods, heatmaps, statistics, faithfulness | 2, 3, 4 |
//! | [`plot`] | figures | all |
//! | [`statistics`] | spread, standard errors, intervals, correlations | all |
//! | [`tensor`] | reductions of tensors with plain arguments | all |
//! | [`device`] | choice and description of the device | all |
//! | [`mod@file`] | atomic writing of files | – |
//! | [`notebook`] | display of figures and tables in the kernel, source listings | all |
//! | [`error`] | the error type, whose messages are sentences for the user | all |
//!
//! Axis letters in shapes: B batch, S tokens, N patches, E embedding, H heads, P patch side, L layers, C channels,
//! I image side. A ViT has S = N + 1 tokens, a DeiT S = N + 2.

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod device;
pub mod distill;
pub mod error;
pub mod evidence;
pub mod explain;
pub mod learner;
pub mod metrics;
pub mod model;
pub mod notebook;
pub mod plot;
pub mod statistics;
pub mod tensor;
pub mod train;

/// The versions of the dependencies whose types this crate uses, for notebooks that import only this crate.
pub use {ndarray, tch};

pub use vitlab_dataset::file;

pub use config::Config;
pub use error::{Error, Result};
pub use learner::Learner;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
