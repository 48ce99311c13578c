//! A lock on a file that keeps two trainings out of one folder.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// An advisory lock. The system releases it when the process ends, however it ends; the file is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks the file at `path`, which is created. Returns `None` on a file system without locks.
    ///
    /// # Errors
    /// Fails if another process holds the lock, or if the file can't be created.
    pub fn take(path: PathBuf) -> Result<Option<Lock>> {
        // Again if another training ended and removed the file before it was locked here.
        for _ in 0..100 {
            // Not truncated: it may belong to another process, whose number it holds.
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let mut file = file.map_err(|error| {
                let remedy = "choose a folder that is writable and has space left";
                Error::file(&path, format!("can't be written ({error}); {remedy}"))
            })?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    // For the message of the other process only.
                    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                    return Ok(Some(Lock { path, _file: file }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let process = fs::read_to_string(&path).unwrap_or_default();
                    let process = process.trim().parse::<u32>().map_or(String::new(), |id| format!(" (process {id})"));
                    let problem =
                        format!("is locked by another training{process}; wait for it, or choose another folder");
                    return Err(Error::file(&path, problem));
                }
                Err(TryLockError::Error(_)) => {
                    let _ = fs::remove_file(&path);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether `path` still names the open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(identity).ok() == fs::metadata(path).map(identity).ok()
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
