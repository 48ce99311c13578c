//! The programs `cargo` and `rustc` as evcxr and rust-analyzer find them in a kernel. Both call the real ones, with
//! less work.

pub mod cargo;
mod crates;
pub mod rustc;
