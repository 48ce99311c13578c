//! The kernelspec `vitlab` in the clone's `.venv`, by which Jupyter finds the kernel.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use vitlab_dataset::{Error, Result, file};

use crate::system;
use crate::system::Repository;

pub const NAME: &str = "vitlab";
pub const DISPLAY_NAME: &str = "Rust (vitlab)";

pub fn path(repository: &Repository) -> PathBuf {
    repository.venv().join("share/jupyter/kernels").join(NAME).join("kernel.json")
}

/// Writes the kernelspec, and copies this program beside it, so that kernels don't depend on cargo's target folder.
pub fn install(repository: &Repository) -> Result<()> {
    let program = repository.venv_bin("lab");
    copy_this_program(&program)?;
    let spec = json!({
        "argv": [program, "kernel", "{connection_file}"],
        "display_name": DISPLAY_NAME,
        "language": "rust",
        "interrupt_mode": "message",
        "metadata": { "debugger": false },
    });
    system::file::write_json(&path(repository), &spec)
}

fn copy_this_program(to: &Path) -> Result<()> {
    // On Linux, this link stays valid when cargo replaces the file of the running program.
    let link = PathBuf::from("/proc/self/exe");
    let this = if link.exists() { Ok(link) } else { std::env::current_exe() };
    let this = this.map_err(|error| Error::argument(format!("the path of this program is unknown ({error})")))?;
    if fs::read(to).is_ok_and(|old| fs::read(&this).is_ok_and(|new| old == new)) {
        return Ok(());
    }
    file::replace(to, |out| {
        io::copy(&mut File::open(&this)?, out)?;
        out.get_ref().set_permissions(Permissions::from_mode(0o755))
    })
}
