//! evcxr_jupyter, the engine of the kernel: taken from PATH when its version fits, else built once per user.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vitlab::{Error, Result};

use crate::engine::Engine;
use crate::repository::Repository;
use crate::step::Step;
use crate::{cache, system};

/// The version that the kernel is tested with.
pub const VERSION: &str = "0.22.0";

/// An evcxr_jupyter of the right version: from the cache, else from PATH, else the one that this clone's kernel runs on.
pub fn find(repository: &Repository) -> Option<PathBuf> {
    let built = cache::path().join(format!("evcxr-{VERSION}/bin/evcxr_jupyter"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("evcxr_jupyter"));
    let used = Engine::read(repository).ok().map(|engine| engine.evcxr);
    std::iter::once(built)
        .chain(on_path)
        .chain(used)
        .find(|program| fits(program))
}

/// evcxr_jupyter has no option that prints its version, but cargo keeps a list of what it installed beside it.
fn fits(program: &Path) -> bool {
    let list = program
        .ancestors()
        .nth(2)
        .map(|root| root.join(".crates.toml"));
    let listed = list.and_then(|list| fs::read_to_string(list).ok());
    let wanted = format!("\"evcxr_jupyter {VERSION} (");
    program.is_file() && listed.is_some_and(|text| text.contains(&wanted))
}

/// Finds or builds it: 13 CPU-minutes.
pub fn install(repository: &Repository, step: &Step) -> Result<PathBuf> {
    let _lock = cache::lock("evcxr", step)?;
    if let Some(program) = find(repository) {
        return Ok(program);
    }
    let home = cache::home()?;
    // Kept between tries, so that an interrupted build goes on where it stopped.
    let target = home.join("evcxr-build");
    let root = home.join(format!("evcxr-{VERSION}"));
    let mut command = Command::new("cargo");
    command
        .args(["install", "--locked", "evcxr_jupyter"])
        .args(["--version", VERSION])
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&home);
    clean_cargo(&mut command);
    step.run(&mut command, compiling())?;
    let _ = fs::remove_dir_all(&target);
    find(repository).ok_or_else(|| {
        Error::file(
            root,
            "holds no evcxr_jupyter after building it; remove it and run `cargo lab setup` again",
        )
    })
}

/// Turns cargo's lines into "crate 12: tch v0.24.0".
pub fn compiling() -> impl FnMut(&str) -> Option<String> {
    let mut count = 0;
    move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("Compiling ") {
            count += 1;
            return Some(format!("crate {count}: {name}"));
        }
        [
            "Updating",
            "Downloading",
            "Downloaded",
            "Blocking",
            "Finished",
        ]
        .iter()
        .any(|start| line.starts_with(start))
        .then(|| line.to_string())
    }
}

/// Takes away what `cargo lab` itself was started with and what would change a build.
pub fn clean_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo =
            name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&&*name);
        if (of_cargo && !name.starts_with("CARGO_HTTP") && !name.starts_with("CARGO_REGISTRIES"))
            || name.starts_with("LIBTORCH")
            || ["RUSTFLAGS", "RUSTC_WRAPPER", "LD_LIBRARY_PATH"].contains(&&*name)
        {
            command.env_remove(&*name);
        }
    }
}

/// rustc's version and host, which what was built depends on.
pub fn rustc() -> Result<String> {
    system::output(Command::new("rustc").arg("-vV"))
        .ok_or_else(|| Error::argument("rustc doesn't start; install Rust from https://rustup.rs"))
}

/// The folder of Rust's own shared libraries, which cells link.
pub fn rust_libraries() -> Result<PathBuf> {
    system::output(Command::new("rustc").args(["--print", "target-libdir"]))
        .map(PathBuf::from)
        .ok_or_else(|| Error::argument("rustc doesn't start; install Rust from https://rustup.rs"))
}

/// Whether the standard library's source is there, from which the kernel completes std's names.
pub fn has_rust_src() -> bool {
    system::output(Command::new("rustc").args(["--print", "sysroot"])).is_some_and(|root| {
        Path::new(&root)
            .join("lib/rustlib/src/rust/library/std")
            .is_dir()
    })
}
