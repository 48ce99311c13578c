//! Copies of a build folder. They share with the original the files that are never written in place.

use std::fs::{self, File, FileTimes};
use std::io::Result;
use std::path::Path;

use crate::system::file;

/// Copies a build folder: the results of rustc and the linker as hard links, all other files (cargo's fingerprints, locks and
/// lists) by content.
///
/// A build in the copy leaves the original as it is, because rustc and the linkers never overwrite a file: they write under a
/// new name or remove the old file first. Lock files must not be shared, or two kernels would wait for each other. Times are
/// kept, because cargo tells by them what is fresh. Incremental data are left out, because they serve only the folder they
/// were written in.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            if entry.file_name() != "incremental" {
                copy(&from, &to)?;
            }
        } else if !is_result(&from) || fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
            let times = FileTimes::new().set_modified(metadata.modified()?);
            File::options().append(true).open(&to)?.set_times(times)?;
        }
    }
    Ok(())
}

/// Returns true for libraries, object files and the programs of build scripts.
fn is_result(path: &Path) -> bool {
    let name = file::name(path);
    match path.extension() {
        Some(extension) => ["rlib", "rmeta", "so", "a", "o"].iter().any(|result| extension == *result),
        None => name.starts_with("build-script-build") || name.starts_with("build_script_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime};

    #[test]
    fn shares_results_and_copies_the_rest_with_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("deps/incremental")).unwrap();
        for name in ["deps/libtch.rlib", "deps/tch.d", ".cargo-lock", "deps/incremental/x"] {
            fs::write(from.join(name), name).unwrap();
        }
        let old = SystemTime::now() - Duration::from_secs(1000);
        File::options().append(true).open(from.join("deps/tch.d")).unwrap().set_modified(old).unwrap();
        copy(&from, &to).unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&from.join("deps/libtch.rlib")), inode(&to.join("deps/libtch.rlib")));
        assert_ne!(inode(&from.join(".cargo-lock")), inode(&to.join(".cargo-lock")));
        assert_eq!(fs::metadata(to.join("deps/tch.d")).unwrap().modified().unwrap(), old);
        assert!(!to.join("deps/incremental").exists());
    }
}
