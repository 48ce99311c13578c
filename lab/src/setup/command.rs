//! The command `vitlab` of a clone: built in the clone's [warm build](super::warm), whose library it shares, and copied to
//! `.venv/bin`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use vitlab_dataset::file as atomic;

use super::Launch;
use super::kernel_build::compiling;
use crate::system::{Error, Progress, Repository, Result, file};

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

/// Returns whether the command was built from the sources with this key.
pub fn is_current(repository: &Repository, sources: &str) -> bool {
    let stamp = fs::read_to_string(repository.venv().join(STAMP));
    repository.venv_bin(NAME).is_file() && stamp.is_ok_and(|old| old == sources)
}

/// Lets the next set-up build the command again.
pub fn forget(repository: &Repository) -> Result<()> {
    let stamp = repository.venv().join(STAMP);
    fs::remove_file(&stamp).map_err(|error| Error::file(&stamp, format!("can't be removed ({error})")))
}

/// Builds the command in a warm build and installs it in the clone.
pub fn install(
    repository: &Repository,
    launch: &Launch,
    warm_build: &Path,
    sources: &str,
    progress: &Progress,
) -> Result<()> {
    let ctx = warm_build.join("ctx");
    let mut command = Command::new("cargo");
    command.args(["build", "--package", NAME, "--bin", NAME, "--message-format", "json-render-diagnostics"]);
    command.arg("--target-dir").arg(ctx.join("target")).current_dir(&ctx);
    // As in a kernel, so that its build finds vitlab compiled.
    launch.prepare(&mut command, &ctx);
    // A kernel asks rustc through its program. Answers to cargo alone would replace those that it finds here.
    command.env("CARGO_CACHE_RUSTC_INFO", "0");
    let (mut built, mut show) = (None, compiling());
    progress.run(&mut command, |line| {
        if let Ok(Artifact { executable: Some(path) }) = serde_json::from_str(line) {
            built = Some(path);
        }
        show(line)
    })?;
    let built = built.ok_or_else(|| Error::file(warm_build, format!("cargo built no command {NAME} in it")))?;
    atomic::replace(repository.venv_bin(NAME), |out| {
        std::io::copy(&mut fs::File::open(&built)?, out)?;
        out.get_ref().set_permissions(fs::Permissions::from_mode(0o755))
    })?;
    file::write(&repository.venv().join(STAMP), sources)
}
