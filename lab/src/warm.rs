//! The warm build: everything that a fresh kernel's `:dep vitlab = { path = "../crate" }` builds, made once.
//!
//! It is a small cargo workspace of two packages. evcxr writes its own, `ctx`, anew in every kernel; `hold` depends
//! on vitlab all the time. Because of it the lock file, which belongs to the workspace, keeps the versions of the
//! repository's Cargo.lock (alone, evcxr would drop them with the first cell, which has no dependencies yet) and the
//! profile can be said here. `:opt` in a notebook has no effect therefore.
//!
//! Folders in the cache: `warm-KEY/base`, and for each clone `warm-KEY/clone-KEY`, a copy of the base (hard links) with
//! that clone's vitlab. What has to be built is always cargo's own decision: a changed crate, manifest or lock file costs
//! what changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use vitlab_dataset::{Error, Result};

use crate::engine::Engine;
use crate::python::Python;
use crate::repository::Repository;
use crate::step::Step;
use crate::{analysis, cache, evcxr, stubs, tree};

/// evcxr's own profile, but torch-sys, glue generated from libtorch's headers, is not worth a minute of optimising, and
/// checks of every pointer and sum would halve the speed of vitlab's inner loops, which level 3 makes a fifth faster.
const WORKSPACE: &str = r#"[workspace]
resolver = "3"
members = ["ctx", "hold"]

[profile.dev]
opt-level = 2
debug = false
strip = "debuginfo"
rpath = true
panic = "unwind"

[profile.dev.package.torch-sys]
opt-level = 0

[profile.dev.package.vitlab]
opt-level = 3
codegen-units = 16
debug-assertions = false
overflow-checks = false
"#;

/// The lines a notebook begins with, and a cell that makes cargo link all of it.
const CELLS: [&str; 2] =
    [":dep vitlab = { path = \"../crate\" }\nuse vitlab::Error;", "println!(\"{}\", Error::argument(\"warm\"));"];

/// The warm build of one clone.
pub struct Warm {
    folder: PathBuf,
    family: PathBuf,
}

impl Warm {
    /// Where the warm build of a clone lies, whether it is there or not.
    pub fn of(repository: &Repository, engine: &Engine) -> Self {
        let key = cache::key(&[evcxr::VERSION, &engine.rustc, &engine.libtorch.to_string_lossy(), WORKSPACE]);
        let family = engine.home.join(format!("warm-{key}"));
        let clone = cache::key(&[&repository.root.to_string_lossy()]);
        Warm { folder: family.join(format!("clone-{clone}")), family }
    }

    /// Whether it was made from the clone's present sources.
    pub fn is_fresh(&self, repository: &Repository) -> Result<bool> {
        Ok(stamped(&self.folder) == Some(sources(repository)?))
    }

    /// Makes it or brings it up to date; false when there was nothing to do.
    pub fn install(&self, repository: &Repository, engine: &Engine, python: &Python, step: &Step) -> Result<bool> {
        let _lock = cache::lock(&self.family.file_name().expect("a name").to_string_lossy(), step)?;
        let sources = sources(repository)?;
        if stamped(&self.folder).as_deref() == Some(&sources) {
            return Ok(false);
        }
        let io = |error: std::io::Error| {
            Error::file(&self.folder, format!("can't be built ({error}); check the room on its disk"))
        };
        // Under a name that stays: when it is interrupted, the next try goes on from there.
        let new = self.folder.with_extension("new");
        if !new.exists() {
            let base = self.family.join("base");
            let copy = self.folder.with_extension("copy");
            let _ = fs::remove_dir_all(&copy);
            if let Some(seed) = [&self.folder, &base].into_iter().find(|folder| stamped(folder).is_some()) {
                tree::copy(seed, &copy).map_err(io)?;
            }
            fs::create_dir_all(&self.family).map_err(io)?;
            fs::create_dir_all(&copy).map_err(io)?;
            fs::rename(&copy, &new).map_err(io)?;
        }
        let _ = fs::remove_file(new.join(STAMP));
        write_workspace(&new, repository)?;
        build(&new, repository, engine, python, step)?;
        stubs::make(&new, &engine.libtorch, step)?;
        forget_cells(&new.join("ctx")).map_err(io)?;
        cache::write(&new.join(STAMP), &sources)?;
        self.replace(&new).map_err(io)?;
        self.renew_base(repository).map_err(io)?;
        Ok(true)
    }

    /// Takes it away, for a clone that is gone.
    pub fn remove(&self) -> Result<()> {
        let io = |error: std::io::Error| Error::file(&self.folder, error.to_string());
        let guard = self.guard().map_err(io)?;
        guard
            .lock()
            .and_then(|()| fs::remove_dir_all(&self.folder))
            .and_then(|()| fs::remove_file(self.folder.with_extension("lock")))
            .map_err(io)
    }

    /// Gives a kernel its own copy; `to` becomes evcxr's workspace, with `to/ctx` as its folder.
    pub fn copy_to(&self, to: &Path) -> Result<()> {
        let guard = self.guard().map_err(|error| Error::file(&self.folder, error.to_string()))?;
        let shared = guard.lock_shared();
        if stamped(&self.folder).is_none() {
            return Err(Error::file(&self.folder, "holds no warm build; run `cargo lab setup`"));
        }
        shared
            .and_then(|()| tree::copy(&self.folder, to))
            .map_err(|error| Error::file(to, format!("can't be made ({error}); check the room on its disk")))
    }

    /// Held for a moment by who replaces the folder, shared by the kernels that copy it.
    fn guard(&self) -> std::io::Result<File> {
        File::create(self.folder.with_extension("lock"))
    }

    fn replace(&self, new: &Path) -> std::io::Result<()> {
        let guard = self.guard()?;
        guard.lock()?;
        let old = self.folder.with_extension("old");
        let _ = fs::remove_dir_all(&old);
        if self.folder.exists() {
            fs::rename(&self.folder, &old)?;
        }
        fs::rename(new, &self.folder)?;
        let _ = fs::remove_dir_all(&old);
        Ok(())
    }

    /// The base, from which further clones start, follows the dependencies.
    fn renew_base(&self, repository: &Repository) -> std::io::Result<()> {
        let base = self.family.join("base");
        let wanted = dependencies(repository)?;
        if stamped(&base).as_deref() == Some(&wanted) {
            return Ok(());
        }
        let new = self.family.join("base.new");
        let _ = fs::remove_dir_all(&new);
        tree::copy(&self.folder, &new)?;
        fs::write(new.join(STAMP), wanted)?;
        let _ = fs::remove_dir_all(&base);
        fs::rename(new, base)
    }
}

/// Written when a build is whole: what it was made from.
const STAMP: &str = "made-from";

fn stamped(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join(STAMP)).ok()
}

fn write_workspace(folder: &Path, repository: &Repository) -> Result<()> {
    let crate_folder = serde_json::to_string(&repository.root.join("crate").to_string_lossy()).expect("a string");
    let hold = format!(
        "[package]\nname = \"hold\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\nvitlab = {{ path = {crate_folder} }}\n"
    );
    cache::write(&folder.join("Cargo.toml"), WORKSPACE)?;
    cache::write(&folder.join("hold/Cargo.toml"), &hold)?;
    cache::write(&folder.join("hold/src/lib.rs"), "")?;
    let lock = repository.root.join("Cargo.lock");
    let text = fs::read_to_string(&lock).map_err(|error| Error::file(&lock, error.to_string()))?;
    cache::write(&folder.join("Cargo.lock"), &text)?;
    cache::create(&folder.join("ctx"))
}

/// Really runs a kernel on the folder, through the same client library that runs the notebooks.
fn build(folder: &Path, repository: &Repository, engine: &Engine, python: &Python, step: &Step) -> Result<()> {
    let notebooks = repository.notebooks();
    cache::create(&notebooks)?;
    let argv = json!([engine.kernel, "--control_file", "{connection_file}"]);
    let job = json!({ "argv": argv, "folder": notebooks, "cells": CELLS });
    let mut command = Command::new(&python.executable);
    command.args(["-I", "-c", include_str!("python/cells.py"), &job.to_string()]);
    engine.prepare(&mut command, &folder.join("ctx"));
    analysis::limit(engine, &mut command);
    step.run(&mut command, evcxr::compiling())
}

/// Takes away what belongs to the cells that were run: a kernel builds its own.
fn forget_cells(ctx: &Path) -> std::io::Result<()> {
    let remove = |folder: &Path| -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if ["libcode_", "libctx", "ctx-", "ctx."].iter().any(|start| name.starts_with(start)) {
                if entry.metadata()?.is_dir() {
                    fs::remove_dir_all(entry.path())?
                } else {
                    fs::remove_file(entry.path())?
                }
            }
        }
        Ok(())
    };
    for target in fs::read_dir(ctx.join("target"))? {
        let debug = target?.path().join("debug");
        for folder in [debug.clone(), debug.join("deps"), debug.join(".fingerprint")] {
            if folder.is_dir() {
                remove(&folder)?;
            }
        }
    }
    Ok(())
}

/// A key of everything in the clone that the build depends on.
fn sources(repository: &Repository) -> Result<String> {
    let mut parts = Vec::new();
    let read = |path: &Path| fs::read(path).map_err(|error| Error::file(path, error.to_string()));
    let mut folders = vec![repository.root.join("crate")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| Error::file(&folder, error.to_string()))?;
        for entry in entries {
            let path = entry.map_err(|error| Error::file(&folder, error.to_string()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                parts.push((
                    path.to_string_lossy().into_owned(),
                    cache::key(&[&String::from_utf8_lossy(&read(&path)?)]),
                ));
            }
        }
    }
    parts.sort();
    let dependencies = dependencies(repository).map_err(|error| Error::file(&repository.root, error.to_string()))?;
    let parts: Vec<&str> = parts.iter().flat_map(|(path, key)| [path.as_str(), key.as_str()]).collect();
    Ok(cache::key(&[&cache::key(&parts), &dependencies]))
}

/// A key of what decides on the crates that vitlab depends on.
fn dependencies(repository: &Repository) -> std::io::Result<String> {
    let text = |name: &str| fs::read_to_string(repository.root.join(name));
    Ok(cache::key(&[&text("Cargo.lock")?, &text("Cargo.toml")?, &text("crate/Cargo.toml")?]))
}
