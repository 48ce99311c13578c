//! The kernelspec `vitlab` in the clone's `.venv`, by which Jupyter finds the kernel.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::system::{Repository, Result, file, process};

pub const NAME: &str = "vitlab";
pub const DISPLAY_NAME: &str = "Rust (vitlab)";

pub fn path(repository: &Repository) -> PathBuf {
    repository.venv().join("share/jupyter/kernels").join(NAME).join("kernel.json")
}

/// Writes the kernelspec, and copies this program beside it, so that kernels don't depend on cargo's target folder.
pub fn install(repository: &Repository) -> Result<()> {
    let (this, program) = (process::this_program()?, repository.venv_bin("lab"));
    if !fs::read(&program).is_ok_and(|old| fs::read(&this).is_ok_and(|new| old == new)) {
        vitlab_dataset::file::replace(&program, |out| {
            io::copy(&mut File::open(&this)?, out)?;
            out.get_ref().set_permissions(Permissions::from_mode(0o755))
        })?;
    }
    let spec = json!({
        "argv": [program, "kernel", "{connection_file}"],
        "display_name": DISPLAY_NAME,
        "language": "rust",
        "interrupt_mode": "message",
        "metadata": { "debugger": false },
    });
    file::write_json(&path(repository), &spec)
}
