//! Atomic file writes: a temporary file beside the target is filled, then renamed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Replaces `path` by a file that `fill` writes, and creates missing folders. A failure leaves an existing file untouched
/// and no temporary file behind.
///
/// # Errors
/// Fails if `path` is a folder, or if the file or its folder can't be written.
pub fn replace(path: impl AsRef<Path>, fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> Result<()> {
    let path = path.as_ref();
    let problem = |error: io::Error| {
        Error::file(path, format!("can't be written ({error}); choose a folder that is writable and has space left"))
    };
    if path.is_dir() {
        return Err(Error::file(path, "is a folder; name a file to write"));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(problem)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    // A temporary file is private by default; the finished one gets the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(problem)?;
    {
        let mut buffered = BufWriter::new(temporary.as_file_mut());
        fill(&mut buffered).map_err(problem)?;
        buffered.flush().map_err(problem)?;
    }
    temporary.persist(path).map_err(|error| problem(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.txt");
        replace(&path, |out| out.write_all(b"first")).unwrap();
        let failure = replace(&path, |out| {
            out.write_all(b"half of the second")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failure.unwrap_err().to_string().contains("disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/result.txt");
        replace(&path, |out| out.write_all(b"text")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
    }
}
