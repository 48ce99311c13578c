//! Starts the Jupyter kernel of the package `kernel/`.

pub mod launch;
pub mod rust_analyzer;
pub mod start;
