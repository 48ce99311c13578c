//! Compiles the kernel: builds the program of `kernel/`, which contains evcxr, once per user into the cache folder.

use std::path::PathBuf;
use std::process::Command;

use crate::system::{Error, Progress, Repository, Result, cache, toolchain};

/// Version of evcxr that `kernel/Cargo.toml` pins.
pub const EVCXR_VERSION: &str = "0.22.0";

/// Returns the folder of the program that is built from the clone's present `kernel/`. It may not exist.
fn folder(repository: &Repository) -> Result<PathBuf> {
    let key = cache::key(&[toolchain::rustc()?, cache::folder_key(&repository.root.join("kernel"))?]);
    Ok(cache::path().join(format!("kernel-{key}")))
}

/// Returns the path of this program.
pub fn path(repository: &Repository) -> Result<PathBuf> {
    Ok(folder(repository)?.join("bin/vitlab-kernel"))
}

/// Returns the program, or `None` if it isn't built from the present `kernel/`.
pub fn find(repository: &Repository) -> Option<PathBuf> {
    path(repository).ok().filter(|program| program.is_file())
}

/// Returns the folder that cargo builds in. It is kept, because compiling rust-analyzer, a dependency of evcxr, takes 7
/// minutes of processor time and the kernel itself half a minute.
pub fn target() -> PathBuf {
    cache::path().join("kernel-build")
}

/// Finds the program or compiles it.
pub fn install(repository: &Repository, progress: &Progress) -> Result<PathBuf> {
    let _lock = cache::lock("kernel", progress)?;
    if let Some(program) = find(repository) {
        return Ok(program);
    }
    let root = folder(repository)?;
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", "--path"]).arg(repository.root.join("kernel"));
    command.arg("--root").arg(&root).arg("--target-dir").arg(target()).current_dir(cache::home()?);
    toolchain::clean_environment(&mut command);
    progress.run(&mut command, compiling())?;
    let problem = "holds no vitlab-kernel after building it; remove it and run `cargo lab setup` again";
    find(repository).ok_or_else(|| Error::file(root, problem))
}

/// Returns a function that turns a line of cargo's output into a message such as "crate 12: tch v0.24.0".
pub fn compiling() -> impl FnMut(&str) -> Option<String> {
    let mut count = 0;
    move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("Compiling ") {
            count += 1;
            return Some(format!("crate {count}: {name}"));
        }
        let shown = ["Updating", "Downloading", "Downloaded", "Blocking", "Finished"];
        shown.iter().any(|start| line.starts_with(start)).then(|| line.to_string())
    }
}
