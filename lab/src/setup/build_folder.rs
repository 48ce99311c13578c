//! Copies of cargo's build folders, which let a build start from the results of an earlier one.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use crate::system::file;

/// Copies a build folder: the results of rustc and the linker as hard links, all other files (cargo's own) by content.
///
/// A build in the copy leaves the original as it is, because rustc and the linkers never overwrite a file: they write under a
/// new name or remove the old file first. Lock files must not be shared, or two kernels would wait for each other. Times are
/// kept, because cargo tells by them what is fresh. Incremental data are left out: they serve only their own folder.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    copy_if(from, to, |entry| entry.file_name() != "incremental")
}

/// Copies the results for crates from a registry from one profile's folder (`target/debug`) to another one.
pub fn copy_dependencies(from: &Path, to: &Path) -> io::Result<()> {
    let is_dependency = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        let name = name.strip_prefix("lib").unwrap_or(&name);
        // Packages of the clone, of the warm build and of evcxr, and their executables.
        let own = ["vitlab", "lab-", "hold-", "ctx-", "ctx.", "code_"].iter().any(|start| name.starts_with(start));
        let executable = entry.file_type().is_file() && entry.path().extension().is_none();
        entry.depth() != 1 || !(own || executable)
    };
    for folder in ["deps", "build", ".fingerprint"] {
        copy_if(&from.join(folder), &to.join(folder), is_dependency)?;
    }
    Ok(())
}

fn copy_if(from: &Path, to: &Path, is_copied: impl Fn(&DirEntry) -> bool) -> io::Result<()> {
    for entry in WalkDir::new(from).into_iter().filter_entry(is_copied) {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.path().strip_prefix(from).expect("a path below the folder")));
        if entry.file_type().is_dir() {
            fs::create_dir_all(to)?;
        } else if !is_result(from) || fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to)?;
            File::options().append(true).open(&to)?.set_modified(entry.metadata()?.modified()?)?;
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
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime};

    use super::*;

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

    #[test]
    fn only_the_results_for_crates_from_a_registry_are_dependencies() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let kept = [
            "deps/libtch-1.rlib",
            "deps/libserde_derive-2.so",
            "build/torch-sys-3/build-script-build",
            ".fingerprint/tch-1/lib-tch",
        ];
        let left = ["deps/libvitlab-4.rlib", "deps/model-5", ".fingerprint/ctx-6/dep-lib-ctx", "build/vitlab-7/output"];
        for name in kept.iter().chain(&left) {
            file::write(&from.join(name), name).unwrap();
        }
        copy_dependencies(&from, &to).unwrap();
        assert!(kept.iter().all(|name| to.join(name).is_file()));
        assert!(!left.iter().any(|name| to.join(name).exists()));
    }
}
