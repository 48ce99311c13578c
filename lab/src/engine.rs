//! How the kernel's program is started for a clone, whether for the warm build or for a kernel: what set-up found, written down
//! in `.venv/vitlab.json`, because a kernel is started by any client from any environment.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use vitlab_dataset::{Error, Result};

use crate::repository::Repository;
use crate::{cache, evcxr};

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    pub kernel: PathBuf,
    /// libtorch by its real path, the same for all clones: torch-sys is built anew when the text of this path changes.
    pub libtorch: PathBuf,
    /// Rust's shared libraries. A cell's own search path for them is wrong where cache and toolchain share a parent folder.
    pub rust_libraries: PathBuf,
    /// The folder with `cargo`, for clients started outside of a shell.
    pub cargo: Option<PathBuf>,
    /// rustc's version and host, which the warm build belongs to.
    pub rustc: String,
    /// rustup's name of the toolchain that set-up ran with.
    pub toolchain: Option<String>,
    /// The cache folder at the time of the set-up.
    pub home: PathBuf,
}

impl Engine {
    pub fn new(kernel: PathBuf, libtorch: PathBuf) -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        Ok(Engine {
            kernel,
            libtorch,
            rust_libraries: evcxr::rust_libraries()?,
            cargo: env::split_paths(&path).find(|folder| folder.join("cargo").is_file()),
            rustc: evcxr::rustc()?,
            toolchain: env::var("RUSTUP_TOOLCHAIN").ok(),
            home: cache::home()?,
        })
    }

    /// What the last set-up of this clone wrote down.
    pub fn read(repository: &Repository) -> Result<Self> {
        let path = Self::path(repository);
        let text =
            std::fs::read_to_string(&path).map_err(|_| Error::file(&path, "isn't there; run `cargo lab setup`"))?;
        serde_json::from_str(&text)
            .map_err(|error| Error::file(&path, format!("can't be read ({error}); run `cargo lab setup`")))
    }

    pub fn write(&self, repository: &Repository) -> Result<()> {
        cache::write(&Self::path(repository), &serde_json::to_string_pretty(self).expect("plain data"))
    }

    fn path(repository: &Repository) -> PathBuf {
        repository.venv().join("vitlab.json")
    }

    /// Gives a command that runs the kernel in `folder` its environment.
    pub fn prepare(&self, command: &mut Command, folder: &Path) {
        let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let libraries = [self.libtorch.join("lib"), self.rust_libraries.clone()];
        let libraries = libraries.into_iter().chain(env::split_paths(&inherited).filter(|folder| folder.is_absolute()));
        evcxr::clean_cargo(command);
        command
            .env("EVCXR_TMPDIR", folder)
            .env("LIBTORCH", &self.libtorch)
            .env("LD_LIBRARY_PATH", env::join_paths(libraries).expect("paths that came from a list"));
        if let Some(cargo) = &self.cargo {
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::split_paths(&path).chain([cargo.clone()]);
            command.env("PATH", env::join_paths(path).expect("paths that came from a list"));
        }
        if let Some(toolchain) = &self.toolchain {
            command.env("RUSTUP_TOOLCHAIN", toolchain);
        }
    }
}
