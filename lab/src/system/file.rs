//! Text files, with errors that name the file.

use std::borrow::Cow;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vitlab_dataset::file;

use super::{Error, Result};

pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::file(path, format!("can't be read ({error})")))
}

/// Returns the paths in a folder, none if it can't be read.
pub fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Returns the last part of a path as text.
pub fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Replaces the file atomically, unless it already holds `text`: an equal file keeps its modification time.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    file::replace(path, |out| out.write_all(text.as_bytes()))
}

/// Writes `value` as JSON, like [`write()`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write(path, &serde_json::to_string_pretty(value).expect("plain data"))
}
