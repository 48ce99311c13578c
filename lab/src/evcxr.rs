//! The program of the kernel, which holds evcxr: built once per user from `kernel/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vitlab_dataset::{Error, Result};

use crate::repository::Repository;
use crate::step::Step;
use crate::{cache, system};

/// evcxr's, which the kernel is built on.
pub const VERSION: &str = "0.22.0";

/// Where the program of the clone's present `kernel/` lies, whether it is there or not.
fn folder(repository: &Repository) -> Result<PathBuf> {
    let mut parts = vec![rustc()?];
    for folder in [repository.kernel(), repository.kernel().join("src")] {
        let failed = |error: std::io::Error| Error::file(&folder, error.to_string());
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .map_err(failed)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).map_err(|error| Error::file(&file, error.to_string()))?;
            parts.extend([file.file_name().unwrap_or_default().to_string_lossy().into_owned(), text]);
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    Ok(cache::path().join(format!("kernel-{}", cache::key(&parts))))
}

/// The program, if it is built.
pub fn find(repository: &Repository) -> Option<PathBuf> {
    let program = folder(repository).ok()?.join("bin/vitlab-kernel");
    program.is_file().then_some(program)
}

/// Where it is compiled. Kept: rust-analyzer, which evcxr is built on, takes 13 CPU-minutes, the kernel itself half a minute.
pub fn target() -> PathBuf {
    cache::path().join("kernel-build")
}

/// Finds or builds it.
pub fn install(repository: &Repository, step: &Step) -> Result<PathBuf> {
    let _lock = cache::lock("kernel", step)?;
    if let Some(program) = find(repository) {
        return Ok(program);
    }
    let home = cache::home()?;
    let root = folder(repository)?;
    let mut command = Command::new("cargo");
    command
        .args(["install", "--locked", "--path"])
        .arg(repository.kernel())
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(target())
        .current_dir(&home);
    clean_cargo(&mut command);
    step.run(&mut command, compiling())?;
    find(repository).ok_or_else(|| {
        Error::file(root, "holds no vitlab-kernel after building it; remove it and run `cargo lab setup` again")
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
        ["Updating", "Downloading", "Downloaded", "Blocking", "Finished"]
            .iter()
            .any(|start| line.starts_with(start))
            .then(|| line.to_string())
    }
}

/// Takes away what `cargo lab` itself was started with and what would change a build.
pub fn clean_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let of_cargo = name.starts_with("CARGO_") && !["CARGO_HOME", "CARGO_NET_OFFLINE"].contains(&&*name);
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

/// The folder of the standard library's sources, whether it is there or not, beside that of its shared libraries.
pub fn rust_sources(rust_libraries: &Path) -> PathBuf {
    let rustlib = rust_libraries.ancestors().nth(2);
    rustlib.unwrap_or(rust_libraries).join("src/rust/library")
}

/// Whether the standard library's source is there, by which the kernel finds the types of variables.
pub fn has_rust_src() -> bool {
    rust_libraries().is_ok_and(|libraries| rust_sources(&libraries).join("std").is_dir())
}
