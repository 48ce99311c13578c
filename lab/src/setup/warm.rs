//! The warm build: the result of a kernel's `:dep vitlab = { path = "../crate" }`, built once and copied by every kernel.
//!
//! It is a cargo workspace with the package `ctx`, which evcxr writes anew in every kernel, and with links to the clone's
//! packages, on which `ctx` depends. cargo identifies packages by their path within the workspace. In this workspace, the
//! packages have the same paths, profiles and flags as in the clone. So the clone's own build takes over the results, as
//! does every other clone with the same sources, and the command `vitlab` is built here, too.
//!
//! The package `hold` depends on all external crates. It keeps their versions in the workspace's lock file: evcxr's first
//! cell has no dependencies yet and would drop them.
//!
//! The cache holds `warm-KEY/base` and, for each clone, `warm-KEY/clone-KEY`: at first a copy of the base (hard links). A
//! package is kept if its files have the same contents. cargo decides about the rest: a changed manifest or lock file
//! costs only its own rebuild.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;
use toml::Value;

use super::build_folder::{copy, copy_dependencies, copy_packages, keep_packages, prune};
use super::manifests::{Manifests, Sources};
use super::{Bindings, Launch, Python, command, kernel_build, rust_analyzer, stubs};
use crate::system::{Error, Progress, Repository, Result, cache, file};

/// Changes with the layout of the folder.
const FORMAT: &str = "links, keys of packages";
/// The packages in the workspace's manifest. The linked ones belong to it as dependencies of `ctx`, if a cell needs them.
const MEMBERS: [&str; 2] = ["ctx", "hold"];

/// Appended to the workspace's manifest. It saves the linker work in every cell, whose backtraces nobody sees.
const CELL_PROFILE: &str = "[profile.dev.package.ctx]\ndebug = false\nstrip = \"debuginfo\"\n";

/// File that marks a complete build and holds the keys of its sources.
const STAMP: &str = "made-from";

/// A build with vitlab, which [`WarmBuild::complete`] completes.
pub struct Compiled {
    new: PathBuf,
    /// When the sources were read.
    read_at: SystemTime,
    /// Another clone's build of the same sources is complete, and thus its copy.
    is_complete: bool,
    sources: Sources,
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
        let key = cache::key(&[kernel_build::EVCXR_VERSION, &launch.rustc, &libtorch, FORMAT, CELL_PROFILE]);
        let shared = launch.home.join(format!("warm-{key}"));
        WarmBuild { folder: shared.join(format!("clone-{}", repository.key())), shared, repository, launch }
    }

    /// Returns true if it was built from the clone's present sources.
    pub fn is_fresh(&self) -> Result<bool> {
        Ok(read_stamp(&self.folder) == Some(Manifests::read(self.repository)?.sources()?))
    }

    /// Compiles vitlab in a new copy of the build, and installs the command. Needs no kernel. Returns `None` if build and
    /// command are up to date.
    pub fn compile(&self, bindings: &Bindings, progress: &Progress) -> Result<Option<Compiled>> {
        let lock = cache::lock(&file::name(&self.shared), progress)?;
        let manifests = Manifests::read(self.repository)?;
        let read_at = SystemTime::now();
        let sources = manifests.sources()?;
        let is_current = command::is_current(self.repository, &sources.key());
        if is_current && read_stamp(&self.folder).as_ref() == Some(&sources) {
            let newest = manifests.newest()?;
            if self.date(newest, read_at).map_err(|error| self.failed(&error))? {
                self.fill_target(true)?;
            }
            return Ok(None);
        }
        // The name doesn't change: after an interruption, the next set-up continues in this folder.
        let new = self.folder.with_extension("new");
        if new.is_symlink() {
            fs::remove_file(&new).map_err(|error| self.failed(&error))?;
        }
        let mut is_complete = false;
        if !new.exists() {
            is_complete = self.seed(&new, &sources, read_at).map_err(|error| self.failed(&error))?;
        }
        let _ = fs::remove_file(new.join(STAMP));
        self.write_workspace(&new, &manifests, bindings)?;
        command::install(self.repository, self.launch, &new, &sources.key(), progress)?;
        Ok(Some(Compiled { new, read_at, is_complete, sources, _lock: lock }))
    }

    /// Lets cargo take an up-to-date build as made at `time`, if a source is newer: git, for example, gives files new times
    /// and old contents. Returns whether one is.
    fn date(&self, newest: SystemTime, time: SystemTime) -> io::Result<bool> {
        let stamp = File::options().append(true).open(self.folder.join(STAMP))?;
        if stamp.metadata()?.modified()? > newest {
            return Ok(false);
        }
        let lock = self.lock_file()?;
        lock.lock()?;
        keep_packages(&self.folder.join("ctx/target/debug"), time, |_| true)?;
        stamp.set_modified(time)?;
        Ok(true)
    }

    /// Completes what [`compile`](Self::compile) has begun: runs first cells in it and replaces the old build.
    pub fn complete(
        &self,
        Compiled { new, read_at, is_complete, sources, _lock }: Compiled,
        python: &Python,
        bindings: &Bindings,
        progress: &Progress,
    ) -> Result<()> {
        if !is_complete {
            self.run_cells(&new, python, progress)?;
            stubs::build(&new, &self.launch.libtorch, &bindings.library(), progress)?;
            let debug = new.join("ctx/target/debug");
            remove_cells(&debug).and_then(|()| prune(&debug)).map_err(|error| self.failed(&error))?;
        }
        // An edit during the build may be part of it or not: the next set-up finds out.
        let manifests = Manifests::read(self.repository)?;
        if manifests.sources()? != sources || manifests.newest()? > read_at {
            command::forget(self.repository)?;
            file::write(&new.join(STAMP), "edited during the build")?;
            return self.replace(&new).map_err(|error| self.failed(&error));
        }
        file::write_json(&new.join(STAMP), &sources)?;
        let replace = || self.replace(&new).and_then(|()| self.renew_base(&sources));
        replace().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::file(&self.folder, format!("can't be built ({error}); check the free space on its disk"))
    }

    fn write_workspace(&self, folder: &Path, manifests: &Manifests, bindings: &Bindings) -> Result<()> {
        self.write_manifests(folder, manifests)?;
        file::write(&folder.join("hold/src/lib.rs"), "")?;
        file::write(&folder.join(".cargo/config.toml"), &file::read(&bindings.config())?)?;
        file::write(&folder.join("Cargo.lock"), &file::read(&self.repository.root.join("Cargo.lock"))?)?;
        // evcxr replaces both.
        let package = "[package]\nname = \"ctx\"\nversion = \"1.0.0\"\nedition = \"2024\"\n";
        let dependency = "[dependencies]\nvitlab = { path = \"../crate\" }\n";
        file::write(&folder.join("ctx/Cargo.toml"), &format!("{package}{dependency}"))?;
        file::write(&folder.join("ctx/src/lib.rs"), "")
    }

    /// Writes what follows the clone's manifests: the workspace's, that of `hold`, and the links.
    fn write_manifests(&self, folder: &Path, manifests: &Manifests) -> Result<()> {
        file::write(&folder.join("Cargo.toml"), &format!("{}\n{CELL_PROFILE}", manifests.workspace(&MEMBERS)))?;
        file::write(&folder.join("hold/Cargo.toml"), &manifests.external_crates("hold").to_string())?;
        for package in manifests.folders() {
            let (link, original) = (folder.join(package), self.repository.root.join(package));
            if fs::read_link(&link).is_ok_and(|path| path == original) {
                continue;
            }
            let _ = fs::remove_file(&link);
            symlink(original, link).map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// Runs the first lines of a notebook on a plain kernel in the folder, through the client library that also runs the
    /// notebooks, and a cell that makes cargo link all of vitlab.
    fn run_cells(&self, folder: &Path, python: &Python, progress: &Progress) -> Result<()> {
        let path = Value::from(&*folder.join("crate").to_string_lossy());
        let cells = [
            format!(":dep vitlab = {{ path = {path} }}\nuse vitlab::Error;"),
            "println!(\"{}\", Error::argument(\"warm\"));".to_string(),
        ];
        let notebooks = self.repository.notebooks();
        cache::create(&notebooks)?;
        let argv = json!([self.launch.kernel, "--control_file", "{connection_file}"]);
        let job = json!({ "argv": argv, "folder": notebooks, "cells": cells });
        let mut command = Command::new(&python.executable);
        command.args(["-I", "-c", include_str!("../python/cells.py"), &job.to_string()]);
        self.launch.prepare(&mut command, &folder.join("ctx"));
        rust_analyzer::replace_cargo(self.launch, &mut command);
        rust_analyzer::limit(self.launch, &mut command);
        progress.run(&mut command, kernel_build::compiling())
    }

    /// Gives the clone's own build the results for its packages, if they were `built` anew, and those for crates from a
    /// registry, if it has none. Omits a build that is running.
    pub fn fill_target(&self, built: bool) -> Result<()> {
        let (from, target) = (self.folder.join("ctx/target/debug"), command::build_folder(self.repository));
        let fill = || {
            let shared = self.lock_file()?;
            shared.lock_shared()?;
            let is_new = !target.join(".fingerprint").exists();
            if !is_new && !built {
                return Ok(());
            }
            fs::create_dir_all(&target)?;
            // cargo's own lock.
            let lock = File::options().append(true).create(true).open(target.join(".cargo-lock"))?;
            if lock.try_lock().is_err() {
                return Ok(());
            }
            if is_new {
                copy_dependencies(&from, &target)?;
            }
            copy_packages(&from, &target)
        };
        fill().map_err(|error: io::Error| {
            Error::file(&target, format!("can't be filled ({error}); check the free space on its disk"))
        })
    }

    /// Starts a new build from a copy of the clone's present build or of the base, otherwise from the crates that the
    /// clone's own build has compiled. `sources` were read at `time`. Returns whether the copy was built from the same.
    fn seed(&self, new: &Path, sources: &Sources, time: SystemTime) -> io::Result<bool> {
        let copied = self.folder.with_extension("copy");
        let _ = fs::remove_dir_all(&copied);
        let results = copied.join("ctx/target/debug");
        let seeds = [&self.folder, &self.shared.join("base")].map(|folder| (folder.clone(), read_stamp(folder)));
        let mut is_same = false;
        if let Some((seed, Some(of_seed))) = seeds.into_iter().find(|(_, stamp)| stamp.is_some()) {
            copy(&seed, &copied)?;
            // The times of files tell nothing about another clone, and not always about this one.
            keep_packages(&results, time, |package| of_seed.share(sources, package))?;
            is_same = of_seed == *sources;
        } else {
            let compiled = command::build_folder(self.repository);
            if compiled.join(".fingerprint").is_dir() {
                copy_dependencies(&compiled, &results)?;
            }
        }
        fs::create_dir_all(&copied)?;
        fs::rename(&copied, new)?;
        Ok(is_same)
    }

    /// Removes the build of a clone that no longer exists.
    pub fn remove(&self) -> Result<()> {
        let remove = || {
            let lock = self.lock_file()?;
            lock.lock()?;
            fs::remove_dir_all(&self.folder)?;
            let _ = fs::remove_file(self.folder.with_extension("new"));
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
        if !self.folder.join(STAMP).is_file() {
            return Err(Error::file(&self.folder, "holds no warm build; run `cargo lab setup`"));
        }
        let copied = locked.and_then(|()| copy(&self.folder, to));
        copied.map_err(|error| {
            Error::file(to, format!("can't be created ({error}); check the free space on its disk"))
        })?;
        // They may have changed since the set-up.
        self.write_manifests(to, &Manifests::read(self.repository)?)
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
        // rustc and debuggers look for sources where they were compiled.
        symlink(&self.folder, new)
    }

    /// Replaces the base, from which further clones start, if its sources differ.
    fn renew_base(&self, sources: &Sources) -> io::Result<()> {
        let base = self.shared.join("base");
        if read_stamp(&base).as_ref() == Some(sources) {
            return Ok(());
        }
        let new = self.shared.join("base.new");
        let _ = fs::remove_dir_all(&new);
        copy(&self.folder, &new)?;
        let _ = fs::remove_dir_all(&base);
        fs::rename(new, base)
    }
}

/// Returns the keys of the sources that a complete build was made from.
fn read_stamp(folder: &Path) -> Option<Sources> {
    serde_json::from_str(&fs::read_to_string(folder.join(STAMP)).ok()?).ok()
}

/// Removes the results of the cells that were run, because a kernel builds its own.
fn remove_cells(debug: &Path) -> io::Result<()> {
    for path in ["", "deps", ".fingerprint"].iter().flat_map(|folder| file::entries(&debug.join(folder))) {
        if !["libcode_", "libctx", "ctx-", "ctx."].iter().any(|start| file::name(&path).starts_with(start)) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}
