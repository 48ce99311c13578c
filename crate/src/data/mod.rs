//! FashionMNIST: finding the files, reading them, augmenting and batching.

pub mod idx;
pub mod source;
pub mod synthetic;

pub use source::CLASSES;
