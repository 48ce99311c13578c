//! The cache folder: keys of what is kept there, and one lock for each step that writes to it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use vitlab_dataset::{Error, Result, checksum};

use crate::step::Step;

/// The folder of the cache, made when it isn't there.
pub fn home() -> Result<PathBuf> {
    let home = path();
    create(&home)?;
    Ok(home)
}

/// The folder of the cache, whether it is there or not.
pub fn path() -> PathBuf {
    let home = vitlab_dataset::cache::folder();
    std::path::absolute(&home).unwrap_or(home)
}

/// Makes `folder` and what leads to it.
pub fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        Error::file(folder, format!("can't be made ({error}); set VITLAB_HOME to a folder you may write to"))
    })
}

/// A short name for what something was built from.
pub fn key(parts: &[&str]) -> String {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(part.len().to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    checksum::md5(&bytes[..]).expect("reading from memory succeeds")[..12].to_string()
}

/// Keeps every other set-up from the step `name` until the value is dropped; waits, and says so, while another is at it.
pub fn lock(name: &str, step: &Step) -> Result<File> {
    let folder = home()?.join("locks");
    create(&folder)?;
    let path = folder.join(format!("{name}.lock"));
    let file = File::create(&path).map_err(|error| Error::file(&path, error.to_string()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => step.line("another set-up is at this step; waiting for it"),
        Err(TryLockError::Error(error)) => return Err(Error::file(&path, error.to_string())),
    }
    file.lock().map_err(|error| Error::file(&path, error.to_string()))?;
    Ok(file)
}

/// Writes a file so that a reader sees either the old text or the whole new one; leaves an equal file alone.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| Error::file(path, format!("can't be written ({error})"));
    let folder = path.parent().unwrap_or(Path::new("."));
    create(folder)?;
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|error| failed(&error))?;
    fs::write(file.path(), text).map_err(|error| failed(&error))?;
    file.persist(path).map_err(|error| failed(&error.error))?;
    Ok(())
}
