//! The kernelspec `vitlab` in the clone's `.venv`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;
use vitlab_dataset::{Error, Result};

use crate::cache;
use crate::repository::Repository;

pub const NAME: &str = "vitlab";
pub const DISPLAY_NAME: &str = "Rust (vitlab)";

pub fn path(repository: &Repository) -> PathBuf {
    repository.venv().join("share/jupyter/kernels").join(NAME).join("kernel.json")
}

/// Writes the kernelspec and, beside it in the overlay, a copy of this program that it starts: independent of cargo's
/// target folder.
pub fn install(repository: &Repository) -> Result<()> {
    let program = repository.venv_bin("lab");
    copy_program(&program).map_err(|error| Error::file(&program, format!("can't be written ({error})")))?;
    let spec = json!({
        "argv": [program, "kernel", "{connection_file}"],
        "display_name": DISPLAY_NAME,
        "language": "rust",
        "interrupt_mode": "message",
        "metadata": { "debugger": false },
    });
    cache::write(&path(repository), &serde_json::to_string_pretty(&spec).expect("plain data"))
}

fn copy_program(to: &std::path::Path) -> std::io::Result<()> {
    // On Linux by this name, which holds when cargo has replaced the file since the program started.
    let this = match PathBuf::from("/proc/self/exe") {
        link if link.exists() => link,
        _ => std::env::current_exe()?,
    };
    if fs::read(to).is_ok_and(|old| fs::read(&this).is_ok_and(|new| old == new)) {
        return Ok(());
    }
    let folder = to.parent().expect("in a folder");
    let file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempfile_in(folder)?;
    fs::copy(&this, file.path())?;
    file.persist(to)?;
    Ok(())
}
