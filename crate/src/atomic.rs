//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::{Error, Result};

/// Writes a file under a temporary name in the same folder, then renames it to `path`: whatever goes wrong, a
/// file that was there before stays as it was.
pub(crate) fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    let unwritable = |error: io::Error| Error::file(path, format!("can't be written: {error}"));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As for any new file: what the umask leaves, not the privacy of a temporary file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(folder).map_err(unwritable)?;
    let mut buffer = BufWriter::new(temporary.as_file_mut());
    fill(&mut buffer)
        .and_then(|()| buffer.flush())
        .map_err(unwritable)?;
    drop(buffer);
    temporary
        .persist(path)
        .map_err(|error| unwritable(error.error))?;
    Ok(())
}
