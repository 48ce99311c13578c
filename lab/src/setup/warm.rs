//! The warm build: the result of a kernel's `:dep vitlab = { path = "../crate" }`, built once and copied by every kernel.
//!
//! It is a cargo workspace of two packages. evcxr writes its own, `ctx`, anew in every kernel. `hold` always depends on
//! vitlab. It keeps the versions of the repository's Cargo.lock in the workspace's lock file: evcxr's first cell has no
//! dependencies yet and would drop them. It also builds the command `vitlab`, for which the library, minutes of processor
//! time, is thus compiled once and not twice. The workspace also sets the profile, so `:opt` in a notebook has no effect.
//!
//! The cache holds `warm-KEY/base` and, for each clone, `warm-KEY/clone-KEY`: a copy of the base (hard links) with that
//! clone's vitlab. cargo decides what to rebuild: a changed source, manifest or lock file costs only its own rebuild.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::build_folder::{copy, copy_dependencies};
use super::manifests::Manifests;
use super::{Bindings, Launch, Python, command, kernel_build, rust_analyzer, stubs};
use crate::system::{Error, Progress, Repository, Result, cache, file};

/// The workspace. The repository's settings for single packages are appended to it. Together they compile the crates
/// from a registry as a plain `cargo build` in the clone does.
const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["ctx", "hold"]

[profile.dev]
opt-level = 2
debug = false

# Arguments and printing: its loops are in the library.
[profile.dev.package.hold]
opt-level = 0
"#;

/// The first lines of a notebook, and a cell that makes cargo link all of vitlab.
const CELLS: [&str; 2] =
    [":dep vitlab = { path = \"../crate\" }\nuse vitlab::Error;", "println!(\"{}\", Error::argument(\"warm\"));"];

/// File that marks a complete build and holds the key of its inputs.
const STAMP: &str = "made-from";

/// A build with vitlab that lacks what a kernel adds.
pub struct Compiled {
    new: PathBuf,
    sources: String,
    /// Key of the manifests and Cargo.lock.
    dependencies: String,
    _lock: File,
}

/// The warm build of one clone, which may not exist yet.
pub struct WarmBuild<'a> {
    repository: &'a Repository,
    launch: &'a Launch,
    folder: PathBuf,
    /// Holds the base and the builds of all clones with this toolchain and libtorch.
    shared: PathBuf,
}

impl<'a> WarmBuild<'a> {
    pub fn of(repository: &'a Repository, launch: &'a Launch) -> Self {
        let libtorch = launch.libtorch.to_string_lossy();
        let key = cache::key(&[kernel_build::EVCXR_VERSION, &launch.rustc, &libtorch, WORKSPACE]);
        let shared = launch.home.join(format!("warm-{key}"));
        WarmBuild { folder: shared.join(format!("clone-{}", repository.key())), shared, repository, launch }
    }

    /// Returns true if it was built from the clone's present sources.
    pub fn is_fresh(&self) -> Result<bool> {
        Ok(read_stamp(&self.folder) == Some(Manifests::read(self.repository)?.sources_key()?))
    }

    /// Compiles vitlab in a new copy of the build, and installs the command. Needs no kernel. Returns `None` if build and
    /// command are up to date.
    pub fn compile(&self, bindings: &Bindings, progress: &Progress) -> Result<Option<Compiled>> {
        let lock = cache::lock(&file::name(&self.shared), progress)?;
        let manifests = Manifests::read(self.repository)?;
        let sources = manifests.sources_key()?;
        if read_stamp(&self.folder).as_deref() == Some(&sources) && command::is_current(self.repository, &sources) {
            return Ok(None);
        }
        // The name doesn't change: after an interruption, the next set-up continues in this folder.
        let new = self.folder.with_extension("new");
        if !new.exists() {
            self.seed(&new).map_err(|error| self.failed(&error))?;
        }
        let _ = fs::remove_file(new.join(STAMP));
        self.write_workspace(&new, &manifests, bindings)?;
        command::install(self.repository, self.launch, &new, &sources, progress)?;
        Ok(Some(Compiled { new, sources, dependencies: manifests.dependencies_key, _lock: lock }))
    }

    /// Completes what [`compile`](Self::compile) has begun: runs first cells in it and replaces the old build.
    pub fn complete(
        &self,
        Compiled { new, sources, dependencies, _lock }: Compiled,
        python: &Python,
        bindings: &Bindings,
        progress: &Progress,
    ) -> Result<()> {
        self.run_cells(&new, python, progress)?;
        stubs::build(&new, &self.launch.libtorch, &bindings.library(), progress)?;
        remove_programs(&new.join("ctx")).map_err(|error| self.failed(&error))?;
        file::write(&new.join(STAMP), &sources)?;
        self.replace(&new).and_then(|()| self.renew_base(&dependencies)).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::file(&self.folder, format!("can't be built ({error}); check the free space on its disk"))
    }

    fn write_workspace(&self, folder: &Path, manifests: &Manifests, bindings: &Bindings) -> Result<()> {
        let root = &self.repository.root;
        file::write(&folder.join("Cargo.toml"), &format!("{WORKSPACE}\n{}", manifests.profile_overrides()))?;
        file::write(&folder.join("hold/Cargo.toml"), &manifests.command(command::PACKAGE))?;
        file::write(&folder.join(".cargo/config.toml"), &file::read(&bindings.config())?)?;
        file::write(&folder.join("Cargo.lock"), &file::read(&root.join("Cargo.lock"))?)?;
        // evcxr replaces both.
        let cell = folder.join("ctx");
        file::write(&cell.join("Cargo.toml"), "[package]\nname = \"ctx\"\nversion = \"1.0.0\"\nedition = \"2024\"\n")?;
        file::write(&cell.join("src/lib.rs"), "")
    }

    /// Runs a plain kernel in the folder, through the client library that also runs the notebooks.
    fn run_cells(&self, folder: &Path, python: &Python, progress: &Progress) -> Result<()> {
        let notebooks = self.repository.notebooks();
        cache::create(&notebooks)?;
        let argv = json!([self.launch.kernel, "--control_file", "{connection_file}"]);
        let job = json!({ "argv": argv, "folder": notebooks, "cells": CELLS });
        let mut command = Command::new(&python.executable);
        command.args(["-I", "-c", include_str!("../python/cells.py"), &job.to_string()]);
        self.launch.prepare(&mut command, &folder.join("ctx"));
        rust_analyzer::replace_cargo(self.launch, &mut command);
        rust_analyzer::limit(self.launch, &mut command);
        progress.run(&mut command, kernel_build::compiling())
    }

    /// Lets a clone's first `cargo build` start from the crates of a registry that are compiled here.
    pub fn fill_target(&self) -> Result<()> {
        let target = command::build_folder(self.repository);
        if target.join(".fingerprint").exists() {
            return Ok(());
        }
        copy_dependencies(&self.folder.join("ctx/target/debug"), &target).map_err(|error| {
            Error::file(&target, format!("can't be filled ({error}); check the free space on its disk"))
        })
    }

    /// Starts a new build from a copy of the clone's present build or of the base, otherwise from the crates that the
    /// clone's own build has compiled.
    fn seed(&self, new: &Path) -> io::Result<()> {
        let copied = self.folder.with_extension("copy");
        let _ = fs::remove_dir_all(&copied);
        let seeds = [&self.folder, &self.shared.join("base")];
        if let Some(seed) = seeds.into_iter().find(|folder| read_stamp(folder).is_some()) {
            copy(seed, &copied)?;
        } else {
            let compiled = command::build_folder(self.repository);
            if compiled.join(".fingerprint").is_dir() {
                copy_dependencies(&compiled, &copied.join("ctx/target/debug"))?;
            }
        }
        fs::create_dir_all(&copied)?;
        fs::rename(&copied, new)
    }

    /// Removes the build of a clone that no longer exists.
    pub fn remove(&self) -> Result<()> {
        let remove = || {
            let lock = self.lock_file()?;
            lock.lock()?;
            fs::remove_dir_all(&self.folder)?;
            fs::remove_file(self.folder.with_extension("lock"))
        };
        remove().map_err(|error: io::Error| {
            Error::file(&self.folder, format!("can't be removed ({error}); remove it by hand"))
        })
    }

    /// Copies the build for a kernel: `to` becomes evcxr's workspace and `to/ctx` its build folder.
    ///
    /// # Errors
    /// Fails if there is no complete build, or if `to` can't be written.
    pub fn copy_to(&self, to: &Path) -> Result<()> {
        let lock = self.lock_file().map_err(|error| Error::file(&self.folder, error.to_string()))?;
        let locked = lock.lock_shared();
        if read_stamp(&self.folder).is_none() {
            return Err(Error::file(&self.folder, "holds no warm build; run `cargo lab setup`"));
        }
        let copied = locked.and_then(|()| copy(&self.folder, to));
        copied.map_err(|error| Error::file(to, format!("can't be created ({error}); check the free space on its disk")))
    }

    /// Opens the lock file: exclusive while replacing the folder, shared while copying it.
    fn lock_file(&self) -> io::Result<File> {
        File::create(self.folder.with_extension("lock"))
    }

    fn replace(&self, new: &Path) -> io::Result<()> {
        let lock = self.lock_file()?;
        lock.lock()?;
        let old = self.folder.with_extension("old");
        let _ = fs::remove_dir_all(&old);
        if self.folder.exists() {
            fs::rename(&self.folder, &old)?;
        }
        fs::rename(new, &self.folder)?;
        let _ = fs::remove_dir_all(&old);
        Ok(())
    }

    /// Replaces the base, from which further clones start, if its dependencies differ.
    fn renew_base(&self, dependencies: &str) -> io::Result<()> {
        let base = self.shared.join("base");
        if read_stamp(&base).as_deref() == Some(dependencies) {
            return Ok(());
        }
        let new = self.shared.join("base.new");
        let _ = fs::remove_dir_all(&new);
        copy(&self.folder, &new)?;
        fs::write(new.join(STAMP), dependencies)?;
        let _ = fs::remove_dir_all(&base);
        fs::rename(new, base)
    }
}

fn read_stamp(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join(STAMP)).ok()
}

/// Removes the results of the cells that were run, because a kernel builds its own, and the command.
fn remove_programs(ctx: &Path) -> io::Result<()> {
    let debug = ctx.join("target/debug");
    for path in ["", "deps", ".fingerprint"].iter().flat_map(|folder| file::entries(&debug.join(folder))) {
        let name = file::name(&path);
        let command = name.starts_with("vitlab") && path.is_file() && path.extension().is_none();
        if !command && !["libcode_", "libctx", "ctx-", "ctx."].iter().any(|start| name.starts_with(start)) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}
