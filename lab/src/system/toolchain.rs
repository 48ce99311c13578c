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

/// Returns a command that runs cargo in a clone as a shell would.
///
/// `cargo lab` itself runs with variables about its own package. Build scripts such as ring's follow these variables, so
/// that this build and a later one by hand would each compile the crates above ring again.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name == "OUT_DIR" || ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(&*name);
        }
    }
    command.current_dir(root);
    command
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::file;

    #[test]
    fn a_build_by_hand_finds_the_results_of_a_build_from_here() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| file::write(&folder.path().join(name), text).unwrap();
        write("Cargo.toml", "[package]\nname = \"follows\"\n[workspace]\n");
        write("src/lib.rs", "");
        let followed = ["OUT_DIR", "CARGO_PKG_NAME", "CARGO_MANIFEST_DIR"];
        let lines = followed.map(|name| format!("println!(\"cargo::rerun-if-env-changed={name}\");"));
        write("build.rs", &format!("fn main() {{ {} }}", lines.concat()));
        let build = |mut command: Command| {
            let output = command.args(["build", "--offline", "--target-dir", "target"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{text}");
            text.contains("Compiling")
        };
        let by_hand = || {
            let mut command = Command::new("cargo");
            clean_environment(&mut command);
            command.env_remove("OUT_DIR").current_dir(folder.path());
            command
        };
        // Tests run with the variables of their package, as `cargo lab` does.
        let inherited = || {
            let mut command = Command::new("cargo");
            command.current_dir(folder.path());
            command
        };
        assert!(build(cargo(folder.path())));
        assert!(!build(by_hand()));
        assert!(build(inherited()));
    }
}
