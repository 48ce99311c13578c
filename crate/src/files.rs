//! Writing files so that a failure leaves what was there.

use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// Writes to a temporary file in the same folder (made if missing), then renames it to `path`.
///
/// # Errors
/// When folder or file can't be written; an existing file stays as it was.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// The same with a function that writes the contents.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>) -> Result<()> {
    let failed = |e: std::io::Error| {
        let remedy = "check the folder's permissions and the free space, or choose another place";
        Error::file(path, format!("can't be written ({e}); {remedy}"))
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new().prefix(".vitlab-").tempfile_in(folder).map_err(failed)?;
    fill(file.as_file_mut()).map_err(failed)?;
    #[cfg(unix)]
    {
        // A temporary file is private; a result is as readable as any other new file.
        use std::os::unix::fs::PermissionsExt;
        let _ = file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644));
    }
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
