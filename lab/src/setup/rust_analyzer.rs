//! Limits what rust-analyzer reads in a kernel. evcxr uses it to find the types of a cell's variables; it needs only the
//! crates that a notebook can name. Reading all that is built would cost each kernel seconds and half a gigabyte.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use super::Launch;
use crate::system::{file, process, toolchain};

/// Environment variable in which rust-analyzer looks for the standard library.
const RUST_SRC: &str = "RUST_SRC_PATH";
/// Environment variable that tells the kernel where the standard library really is.
const LATER: &str = "VITLAB_RUST_SRC";
/// The parts of the standard library that rust-analyzer reads.
const SOURCES: [&str; 3] = ["core/src", "alloc/src", "std/src"];
/// The standard library's manifest. With it, rust-analyzer asks cargo for the crates that `std` depends on, such as
/// hashbrown, which holds the types of maps and sets.
const MANIFEST: &str = "Cargo.toml";

/// Lets evcxr and rust-analyzer find the kernel's program as `cargo`.
pub fn replace_cargo(launch: &Launch, command: &mut Command) {
    let Some(tools) = folder(launch).map(|folder| folder.join("toolchain")) else { return };
    if let Some(sysroot) = launch.rust_libraries.ancestors().nth(4)
        && link_toolchain(launch, sysroot, &tools).is_ok()
    {
        command
            // With rustup, rust-analyzer uses the cargo of RUSTUP_TOOLCHAIN, without rustup that of CARGO.
            .env("RUSTUP_TOOLCHAIN", &tools)
            .env("CARGO", tools.join("bin/cargo"))
            .env("VITLAB_CARGO", sysroot.join("bin/cargo"));
    }
}

/// Points rust-analyzer to links to a reduced standard library. Without links, it reads everything.
pub fn limit(launch: &Launch, command: &mut Command) {
    let Some(reduced) = folder(launch).map(|folder| folder.join("rust-src")) else { return };
    // Without the thousands of intrinsics of `std::arch`.
    let all = toolchain::sources(&launch.rust_libraries);
    let link_sources =
        || SOURCES.iter().chain([&MANIFEST]).try_for_each(|name| link(&all.join(name), &reduced.join(name)));
    if std::env::var_os(RUST_SRC).is_none() && link_sources().is_ok() {
        command.env(RUST_SRC, &reduced);
    }
}

/// Returns the folder of the links, beside the kernel's program.
fn folder(launch: &Launch) -> Option<PathBuf> {
    launch.kernel.ancestors().nth(2).map(|folder| folder.join("analysis"))
}

/// Downloads the crates that the standard library depends on, if they are missing. Returns false if that fails. The
/// kernel then asks rustc for the types of maps and sets.
pub fn fetch(launch: &Launch) -> bool {
    let manifest = toolchain::sources(&launch.rust_libraries).join(MANIFEST);
    let target = launch.rust_libraries.parent().and_then(Path::file_name).unwrap_or_default();
    let mut command = Command::new("timeout");
    command.args(["60", "cargo", "fetch", "--locked", "--manifest-path"]).arg(manifest).arg("--target").arg(target);
    // The manifests of the standard library use options of the development version.
    process::succeeds(command.env("RUSTC_BOOTSTRAP", "1"))
}

/// Lets a kernel in `folder` start with an empty standard library. It reads the real one when idle or for a type that rustc
/// doesn't find.
pub fn postpone(folder: &Path, command: &mut Command) {
    let sources = command.get_envs().find(|(name, _)| *name == RUST_SRC);
    let Some(sources) = sources.and_then(|(_, path)| path).map(PathBuf::from) else { return };
    let (empty, link) = (folder.join("no-rust-src"), folder.join("rust-src"));
    let mut files = SOURCES.iter().map(|sources| empty.join(sources).join("lib.rs"));
    if files.all(|path| file::write(&path, "").is_ok()) && symlink(&empty, &link).is_ok() {
        command.env(RUST_SRC, link).env(LATER, sources);
    }
}

/// Links a toolchain whose `cargo` is the kernel's program, which reports fewer crates.
fn link_toolchain(launch: &Launch, sysroot: &Path, folder: &Path) -> io::Result<()> {
    sysroot.join("bin/cargo").metadata()?;
    link(&launch.kernel, &folder.join("bin/cargo"))?;
    link(&sysroot.join("bin/rustc"), &folder.join("bin/rustc"))?;
    link(&sysroot.join("lib"), &folder.join("lib"))
}

/// Creates or corrects the symbolic link `at`. Fails if its target `to` doesn't exist. Safe to run in several processes.
fn link(to: &Path, at: &Path) -> io::Result<()> {
    to.metadata()?;
    if at.read_link().is_ok_and(|target| target == to) {
        return Ok(());
    }
    fs::create_dir_all(at.parent().expect("a path in a folder"))?;
    // A toolchain that has moved leaves an outdated link.
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
