//! The command `vitlab` of a clone: built in the clone's target folder, where later builds and tests go on from, and
//! copied to `.venv/bin`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vitlab_dataset::file as atomic;

use super::build_folder::copy_dependencies;
use super::kernel_build::compiling;
use super::manifests::Manifests;
use crate::system::{Error, Progress, Repository, Result, file, toolchain};

const NAME: &str = "vitlab";
/// File in `.venv` that holds the key of the sources that the command is built from.
const STAMP: &str = "vitlab-command";

/// cargo's message about a result.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
}

/// Returns the folder of results in the clone: of cargo's profile `dev`.
pub fn build_folder(repository: &Repository) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    repository.root.join(target).join("debug")
}

/// Builds the command if the sources have changed since. Returns false if they haven't. A first build starts from the
/// `dependencies` that another clone has compiled, a folder that may not exist.
pub fn install(repository: &Repository, dependencies: &Path, progress: &Progress) -> Result<bool> {
    let key = Manifests::read(repository)?.sources_key()?;
    let (stamp, installed) = (repository.venv().join(STAMP), repository.venv_bin(NAME));
    if installed.is_file() && fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        return Ok(false);
    }
    let folder = build_folder(repository);
    if !folder.join(".fingerprint").exists() && dependencies.is_dir() {
        copy_dependencies(dependencies, &folder).map_err(|error| {
            Error::file(&folder, format!("can't be filled ({error}); check the free space on its disk"))
        })?;
    }
    let mut command = toolchain::cargo(&repository.root);
    command.args(["build", "--locked", "--package", NAME, "--bin", NAME]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let (mut built, mut show) = (None, compiling());
    progress.run(&mut command, |line| {
        if let Ok(Artifact { executable: Some(path) }) = serde_json::from_str(line) {
            built = Some(path);
        }
        show(line)
    })?;
    let built = built.ok_or_else(|| Error::file(&repository.root, format!("cargo built no command {NAME} in it")))?;
    atomic::replace(&installed, |out| {
        std::io::copy(&mut fs::File::open(&built)?, out)?;
        out.get_ref().set_permissions(fs::Permissions::from_mode(0o755))
    })?;
    file::write(&stamp, &key)?;
    Ok(true)
}
