//! The installed Rust toolchain, and the environment of the builds that run on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Result, process};

/// Returns the output of `rustc -vV`: version and host, which every build depends on.
pub fn rustc() -> Result<String> {
    ask_rustc(&["-vV"])
}

/// Returns the folder of Rust's shared libraries, which cells link.
pub fn libraries() -> Result<PathBuf> {
    ask_rustc(&["--print", "target-libdir"]).map(PathBuf::from)
}

fn ask_rustc(arguments: &[&str]) -> Result<String> {
    process::output(Command::new("rustc").args(arguments))
        .ok_or_else(|| Error::argument("rustc doesn't start; install Rust from https://rustup.rs"))
}

/// Returns the folder of the standard library's sources that belongs to these shared libraries. It may not exist.
pub fn sources(libraries: &Path) -> PathBuf {
    libraries.ancestors().nth(2).unwrap_or(libraries).join("src/rust/library")
}

/// Returns true if the component rust-src is installed. The kernel needs it to find the types of variables.
pub fn has_rust_src() -> bool {
    libraries().is_ok_and(|libraries| sources(&libraries).join("std").is_dir())
}

/// Removes the environment variables that `cargo lab` itself was started with and that would change another build.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let kept = ["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&&*name)
            || ["CARGO_HTTP", "CARGO_REGISTRIES"].iter().any(|start| name.starts_with(start));
        let removed = ["CARGO_", "LIBTORCH"].iter().any(|start| name.starts_with(start))
            || ["RUSTFLAGS", "RUSTC_WRAPPER", "LD_LIBRARY_PATH"].contains(&&*name);
        if removed && !kept {
            command.env_remove(&*name);
        }
    }
}
