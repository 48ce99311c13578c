//! Access to this machine: the clone, files, the cache folder, child processes, the Rust toolchain, progress.

pub mod cache;
pub mod file;
pub mod process;
pub mod progress;
pub mod repository;
pub mod toolchain;
