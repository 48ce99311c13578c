//! Replacements for `cargo` and `rustc` that evcxr and rust-analyzer call. They call the real ones and skip needless
//! work.

pub mod cargo;
mod crates;
mod display;
pub mod generated;
mod manifests;
pub mod messages;
pub mod progress;
pub mod rustc;
pub mod wrapper;
