//! Broken and malicious weight files: each is an error, none costs more than it should.

mod build;
mod containers;
#[path = "../memory.rs"]
mod memory;
mod pickles;
