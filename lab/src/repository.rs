//! The clone that a command works on: where its parts lie.

use std::path::{Path, PathBuf};

use vitlab_dataset::{Error, Result};

/// The root of a clone of the repository.
pub struct Repository {
    pub root: PathBuf,
}

impl Repository {
    /// The clone that the working directory lies in.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir().map_err(|error| Error::file(".", error.to_string()))?;
        Self::containing(&here)
    }

    /// The clone that `folder` lies in.
    pub fn containing(folder: &Path) -> Result<Self> {
        folder
            .ancestors()
            .find(|folder| folder.join("environment.yml").is_file() && folder.join("crate/Cargo.toml").is_file())
            .map(|root| Repository { root: root.to_path_buf() })
            .ok_or_else(|| Error::file(folder, "is not inside a clone of vitlab; go to one and try again"))
    }

    pub fn environment_yml(&self) -> PathBuf {
        self.root.join("environment.yml")
    }

    /// The overlay on the Python environment that belongs to this clone.
    pub fn venv(&self) -> PathBuf {
        self.root.join(".venv")
    }

    pub fn venv_bin(&self, program: &str) -> PathBuf {
        self.venv().join("bin").join(program)
    }

    /// The package of the kernel.
    pub fn kernel(&self) -> PathBuf {
        self.root.join("kernel")
    }

    pub fn notebooks(&self) -> PathBuf {
        self.root.join("notebooks")
    }

    pub fn outputs(&self) -> PathBuf {
        self.root.join("outputs")
    }
}
