//! Text files, with errors that name the file.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use vitlab_dataset::{Error, Result, file};

pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| Error::file(path, format!("can't be read ({error})")))
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
