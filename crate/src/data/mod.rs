//! FashionMNIST: finding the files, reading them, augmenting and batching.

pub mod idx;
pub mod source;
pub mod synthetic;

#[cfg(feature = "torch")]
mod augment;
#[cfg(feature = "torch")]
mod dataset;

#[cfg(feature = "torch")]
pub use augment::{PADDING, augment, seed_everything, shuffled, view};
#[cfg(feature = "torch")]
pub use dataset::{Dataset, FashionMnist, Origin, normalise};
pub use source::CLASSES;
