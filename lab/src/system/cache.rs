//! The cache folder that all clones share: names for its entries and a lock for each step that writes to it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use vitlab_dataset::checksum;
use walkdir::{DirEntry, WalkDir};

use super::{Error, Progress, Result};

/// Returns the cache folder and creates it if it is missing.
pub fn home() -> Result<PathBuf> {
    create(&path())?;
    Ok(path())
}

/// Returns the absolute path of the cache folder, which may not exist yet. It contains no symbolic links, because cargo tells
/// packages apart by the real path.
pub fn path() -> PathBuf {
    let home = vitlab_dataset::cache::folder();
    home.canonicalize().or_else(|_| std::path::absolute(&home)).unwrap_or(home)
}

/// Creates `folder` and its missing parents.
pub fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        Error::file(folder, format!("can't be created ({error}); set VITLAB_HOME to a folder you may write to"))
    })
}

/// Returns a hash of 12 hexadecimal digits, which names a cache entry after the inputs it is built from.
pub fn key(parts: &[impl AsRef<[u8]>]) -> String {
    let mut bytes = Vec::new();
    for part in parts.iter().map(AsRef::as_ref) {
        bytes.extend(part.len().to_le_bytes());
        bytes.extend(part);
    }
    checksum::md5(&bytes[..]).expect("reading from memory succeeds")[..12].to_string()
}

/// Returns the [`key`] of all files below `folder`: their relative paths and contents. Skips build folders (`target`).
pub fn folder_key(folder: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for entry in files(folder) {
        let path = entry?.into_path();
        let content = fs::read(&path).map_err(|error| Error::file(&path, format!("can't be read ({error})")))?;
        let name = path.strip_prefix(folder).expect("a path below the folder");
        parts.extend([name.as_os_str().as_encoded_bytes().to_vec(), content]);
    }
    Ok(key(&parts))
}

/// Returns the time of the last change of these files.
pub fn folder_time(folder: &Path) -> Result<SystemTime> {
    files(folder).try_fold(SystemTime::UNIX_EPOCH, |newest, entry| {
        let entry = entry?;
        let time = entry.metadata().map_err(io::Error::from).and_then(|it| it.modified());
        Ok(newest.max(time.map_err(|error| Error::file(entry.path(), format!("can't be read ({error})")))?))
    })
}

fn files(folder: &Path) -> impl Iterator<Item = Result<DirEntry>> {
    let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
    let entries = walk.filter_entry(|entry| entry.file_name() != "target" || !entry.file_type().is_dir());
    entries
        .map(move |entry| entry.map_err(|error| Error::file(folder, format!("can't be read ({error})"))))
        .filter(|entry| !entry.as_ref().is_ok_and(|entry| entry.file_type().is_dir()))
}

/// Locks the set-up step `name` against other processes until the returned file is dropped. While another process holds the
/// lock, it waits and reports so on `progress`.
pub fn lock(name: &str, progress: &Progress) -> Result<File> {
    let folder = home()?.join("locks");
    create(&folder)?;
    let path = folder.join(format!("{name}.lock"));
    let failed = |error: std::io::Error| Error::file(&path, format!("can't be locked ({error})"));
    let file = File::create(&path).map_err(failed)?;
    if let Err(error) = file.try_lock() {
        if matches!(error, TryLockError::WouldBlock) {
            progress.message("another set-up is running this step; waiting");
        }
        file.lock().map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::system::file;

    #[test]
    fn a_folders_key_follows_names_and_contents_but_not_builds() {
        let folder = tempfile::tempdir().unwrap();
        let key_after = |name: &str, text: &str| {
            file::write(&folder.path().join(name), text).unwrap();
            folder_key(folder.path()).unwrap()
        };
        let first = key_after("src/deep/a.rs", "1");
        assert_eq!(key_after("target/debug/a", "2"), first);
        assert_ne!(key_after("src/deep/a.rs", "2"), first);
        assert_eq!(key_after("src/deep/a.rs", "1"), first);
        assert_ne!(key_after("src/b.rs", ""), first);
        let time = SystemTime::now() + Duration::from_secs(9);
        File::options().append(true).open(folder.path().join("src/b.rs")).unwrap().set_modified(time).unwrap();
        assert_eq!(folder_time(folder.path()).unwrap(), time);
    }
}
