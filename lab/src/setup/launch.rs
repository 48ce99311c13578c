//! The environment that the kernel's program is launched in, for a client or for the warm build. Set-up saves it in
//! `.venv`, because any client may start the kernel from any environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde::{Deserialize, Serialize};

use crate::system::{Error, Repository, Result, cache, file, toolchain};

const FILE: &str = "vitlab.json";

#[derive(Serialize, Deserialize)]
pub struct Launch {
    /// The kernel's program.
    pub kernel: PathBuf,
    /// The canonical path of libtorch, the same for all clones: cargo rebuilds torch-sys when this text changes.
    pub libtorch: PathBuf,
    /// Rust's shared libraries. A cell's own search path for them is wrong if cache and toolchain share a parent folder.
    pub rust_libraries: PathBuf,
    /// The folder of `cargo`, for clients that are started outside of a shell.
    pub cargo: Option<PathBuf>,
    /// rustc's version and host, to which the warm build belongs.
    pub rustc: String,
    /// rustup's name of the toolchain that set-up ran with.
    pub toolchain: Option<String>,
    /// The cache folder at the time of the set-up.
    pub home: PathBuf,
}

impl Launch {
    /// Describes a launch with the present toolchain and cache folder.
    pub fn new(kernel: PathBuf, libtorch: PathBuf) -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        Ok(Launch {
            kernel,
            libtorch,
            rust_libraries: toolchain::libraries()?,
            cargo: env::split_paths(&path).find(|folder| folder.join("cargo").is_file()),
            rustc: toolchain::rustc()?,
            toolchain: env::var("RUSTUP_TOOLCHAIN").ok(),
            home: cache::home()?,
        })
    }

    /// Reads the description that the last set-up of this clone saved.
    pub fn read(repository: &Repository) -> Result<Self> {
        let path = repository.venv().join(FILE);
        let failed = |problem: &str| Error::file(&path, format!("{problem}; run `cargo lab setup`"));
        let text = fs::read_to_string(&path).map_err(|_| failed("is missing"))?;
        serde_json::from_str(&text).map_err(|error| failed(&format!("can't be read ({error})")))
    }

    /// Saves the description for the kernels of this clone.
    pub fn write(&self, repository: &Repository) -> Result<()> {
        file::write_json(&repository.venv().join(FILE), self)
    }

    /// Sets the environment of a command that runs the kernel with `folder` as evcxr's build folder.
    pub fn prepare(&self, command: &mut Command, folder: &Path) {
        let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let inherited = env::split_paths(&inherited).filter(|folder| folder.is_absolute());
        let libraries = [self.libtorch.join("lib"), self.rust_libraries.clone()].into_iter().chain(inherited);
        let libraries = env::join_paths(libraries).expect("split paths can be joined");
        toolchain::clean_environment(command);
        command.env("EVCXR_TMPDIR", folder).env("LIBTORCH", &self.libtorch).env("LD_LIBRARY_PATH", libraries);
        if let Some(cargo) = &self.cargo {
            let path = env::var_os("PATH").unwrap_or_default();
            let path = env::split_paths(&path).chain([cargo.clone()]);
            command.env("PATH", env::join_paths(path).expect("split paths can be joined"));
        }
        command.envs(self.toolchain.iter().map(|toolchain| ("RUSTUP_TOOLCHAIN", toolchain)));
    }
}
