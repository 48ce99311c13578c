//! A small Vision Transformer on FashionMNIST.
pub mod error;
pub use error::{Error, Result};
