//! What rust-analyzer, by which evcxr finds the types of a cell's variables, gets to read: not everything that is built, but
//! what a notebook can name. The rest would cost each kernel seconds and half a gigabyte.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::engine::Engine;
use crate::evcxr;

/// Where rust-analyzer looks for the standard library.
const RUST_SRC: &str = "RUST_SRC_PATH";
/// What it consists of there.
const CRATES: [&str; 3] = ["core", "alloc", "std"];
/// Tells the kernel where the standard library really is.
const LATER: &str = "VITLAB_RUST_SRC";

/// Shows less to the rust-analyzer of a kernel; should the links for it not be possible, it reads everything.
pub fn limit(engine: &Engine, command: &mut Command) {
    let Some(folder) = engine.kernel.ancestors().nth(2).map(|it| it.join("analysis")) else {
        return;
    };
    let sources = folder.join("rust-src");
    if std::env::var_os(RUST_SRC).is_none() && standard_library(engine, &sources).is_ok() {
        command.env(RUST_SRC, sources);
    }
    let tools = folder.join("toolchain");
    let sysroot = engine.rust_libraries.ancestors().nth(4);
    if let Some(sysroot) = sysroot
        && toolchain(engine, sysroot, &tools).is_ok()
    {
        command
            // With rustup, rust-analyzer takes the cargo that rustup names, without it this one.
            .env("RUSTUP_TOOLCHAIN", &tools)
            .env("CARGO", tools.join("bin/cargo"))
            .env("VITLAB_CARGO", sysroot.join("bin/cargo"));
    }
}

/// Lets a kernel in `folder` begin with an empty standard library in the place of the one it is to read: it reads that when
/// nobody waits, or when a cell has a variable.
pub fn postpone(folder: &Path, command: &mut Command) {
    let sources = command.get_envs().find(|(name, _)| *name == RUST_SRC);
    let Some(sources) = sources.and_then(|(_, path)| path).map(PathBuf::from) else {
        return;
    };
    let (none, link) = (folder.join("no-rust-src"), folder.join("rust-src"));
    if empty_library(&none).is_ok() && symlink(&none, &link).is_ok() {
        command.env(RUST_SRC, link).env(LATER, sources);
    }
}

fn empty_library(folder: &Path) -> io::Result<()> {
    CRATES.iter().try_for_each(|name| {
        let sources = folder.join(name).join("src");
        fs::create_dir_all(&sources)?;
        fs::write(sources.join("lib.rs"), "")
    })
}

/// The standard library without the thousands of intrinsics of `std::arch`.
fn standard_library(engine: &Engine, folder: &Path) -> io::Result<()> {
    let all = evcxr::rust_sources(&engine.rust_libraries);
    CRATES.iter().try_for_each(|name| {
        let sources = Path::new(name).join("src");
        link(&all.join(&sources), &folder.join(&sources))
    })
}

/// The Rust toolchain with the kernel's program as its cargo, which tells of fewer crates.
fn toolchain(engine: &Engine, sysroot: &Path, folder: &Path) -> io::Result<()> {
    sysroot.join("bin/cargo").metadata()?;
    link(&engine.kernel, &folder.join("bin/cargo"))?;
    link(&sysroot.join("bin/rustc"), &folder.join("bin/rustc"))?;
    link(&sysroot.join("lib"), &folder.join("lib"))
}

/// Links to what must be there. Several kernels may do so at once.
fn link(to: &Path, at: &Path) -> io::Result<()> {
    to.metadata()?;
    if at.read_link().is_ok_and(|there| there == to) {
        return Ok(());
    }
    fs::create_dir_all(at.parent().expect("a path in a folder"))?;
    // Of a toolchain that has moved.
    let _ = fs::remove_file(at);
    match symlink(to, at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_follows_what_has_moved_and_needs_something_to_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let at = folder.path().join("a/b/link");
        link(&old, &at).unwrap_err();
        assert!(!at.exists());
        fs::write(&old, "old").unwrap();
        fs::write(&new, "new").unwrap();
        for (to, text) in [(&old, "old"), (&old, "old"), (&new, "new")] {
            link(to, &at).unwrap();
            assert_eq!(fs::read_to_string(&at).unwrap(), text);
        }
    }
}
