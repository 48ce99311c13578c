//! Access to this machine: the clone, files, the cache folder, child processes, the Rust toolchain, progress.

pub mod cache;
pub mod file;
pub mod process;
mod progress;
mod repository;
pub mod toolchain;

pub use progress::Progress;
pub use repository::Repository;
pub use vitlab_dataset::duration::human_duration;
pub use vitlab_dataset::{Error, Result};
