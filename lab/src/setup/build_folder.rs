//! Copies of cargo's build folders, which let a build start from the results of an earlier one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use walkdir::{DirEntry, WalkDir};

use crate::system::file;

/// The folders of a profile's folder (`target/debug`) that hold results.
const RESULTS: [&str; 3] = ["deps", "build", ".fingerprint"];
/// The beginning of the names of the clone's packages.
const PACKAGES: &str = "vitlab";

/// Copies a build folder: the results of rustc and the linker as hard links, all other files (cargo's own) by content.
///
/// A build in the copy leaves the original as it is, because rustc and the linkers never overwrite a file: they write under a
/// new name or remove the old file first. Lock files must not be shared, or two kernels would wait for each other. Times are
/// kept, because cargo tells by them what is fresh. Incremental data are left out: they serve only their own folder.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    copy_if(from, to, |entry| entry.file_name() != "incremental")
}

/// Copies the results for crates from a registry from one profile's folder to another one.
pub fn copy_dependencies(from: &Path, to: &Path) -> io::Result<()> {
    let is_dependency = |entry: &DirEntry| {
        let name = file::name(entry.path());
        let name = name.strip_prefix("lib").unwrap_or(&name);
        // Packages of the warm build and of evcxr, and executables of the clone's tests.
        let own = ["lab-", "hold-", "ctx-", "ctx.", "code_"].iter().any(|start| name.starts_with(start));
        let executable = entry.file_type().is_file() && entry.path().extension().is_none();
        entry.depth() != 1 || !(own || executable || is_package(entry.path()))
    };
    RESULTS.iter().try_for_each(|folder| copy_if(&from.join(folder), &to.join(folder), is_dependency))
}

/// Copies the results for the clone's packages, with the command, from one profile's folder to another one. After an
/// interruption, cargo compiles what is half copied.
pub fn copy_packages(from: &Path, to: &Path) -> io::Result<()> {
    let notes = |folder: &Path| file::entries(&folder.join(".fingerprint")).filter(|path| is_package(path));
    for note in notes(from).map(|note| to.join(".fingerprint").join(file::name(&note).as_ref())) {
        if note.exists() {
            fs::remove_dir_all(note)?;
        }
    }
    copy_if(from, to, |entry| entry.depth() == 0 || entry.file_type().is_file() && is_package(entry.path()))?;
    // The notes that let cargo trust the others come last.
    RESULTS.iter().try_for_each(|folder| {
        copy_if(&from.join(folder), &to.join(folder), |entry| entry.depth() != 1 || is_package(entry.path()))
    })
}

/// Lets cargo take the results for packages in a profile's folder as built at `time`, and compile the other packages anew.
/// `is_kept` decides by a package's name, with underscores.
pub fn keep_packages(folder: &Path, time: SystemTime, is_kept: impl Fn(&str) -> bool) -> io::Result<()> {
    for path in package_paths(folder) {
        if !is_kept(&package(&path)) {
            if path.is_dir() {
                fs::remove_dir_all(path)?
            } else {
                fs::remove_file(path)?
            }
            continue;
        }
        for entry in WalkDir::new(path) {
            let path = entry?.into_path();
            if !path.is_file() {
                continue;
            }
            // The times in other folders, which may share the file, stay as they are.
            let own = path.with_extension("dated");
            fs::copy(&path, &own)?;
            File::options().append(true).open(&own)?.set_modified(time)?;
            fs::rename(own, path)?;
        }
    }
    Ok(())
}

/// Returns the name of the package that a result belongs to: `vitlab_fused` for `libvitlab_fused-0123456789abcdef.rlib`.
fn package(path: &Path) -> String {
    let name = file::name(path);
    let name = name.strip_prefix("lib").unwrap_or(&name);
    let name = name.split('.').next().unwrap_or_default();
    name.rsplit_once('-').map_or(name, |(name, _hash)| name).replace('-', "_")
}

/// Removes from a profile's folder what cargo doesn't need to find a result fresh: a kernel copies its files one by one.
pub fn prune(folder: &Path) -> io::Result<()> {
    let incremental = folder.join("incremental");
    if incremental.exists() {
        fs::remove_dir_all(incremental)?;
    }
    for file in WalkDir::new(folder).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let (path, name) = (file.path(), file::name(file.path()));
        let of = path.strip_prefix(folder).expect("a path below the folder");
        let is_unread = match of.components().next().and_then(|first| first.as_os_str().to_str()) {
            Some(".fingerprint") => name.ends_with(".json"),
            Some("deps") => name.ends_with(".d"),
            Some("build") => name == "stderr" && file.metadata()?.len() == 0,
            _ => false,
        };
        if is_unread || name == "invoked.timestamp" {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Returns the results for the clone's packages, and the folders in which cargo notes what they were built from.
fn package_paths(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = RESULTS.map(|name| folder.join(name));
    folders.into_iter().flat_map(|folder| file::entries(&folder)).filter(|path| is_package(path))
}

fn copy_if(from: &Path, to: &Path, is_copied: impl Fn(&DirEntry) -> bool) -> io::Result<()> {
    for entry in WalkDir::new(from).into_iter().filter_entry(is_copied) {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.path().strip_prefix(from).expect("a path below the folder")));
        if entry.file_type().is_dir() {
            fs::create_dir_all(to)?;
            continue;
        }
        // A copy must not write into a file that other folders share.
        if to.symlink_metadata().is_ok() {
            fs::remove_file(&to)?;
        }
        if entry.file_type().is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if !is_result(from) || fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to)?;
            File::options().append(true).open(&to)?.set_modified(entry.metadata()?.modified()?)?;
        }
    }
    Ok(())
}

/// Returns true for a file or folder that belongs to one of the clone's packages.
fn is_package(path: &Path) -> bool {
    let name = file::name(path);
    name.strip_prefix("lib").unwrap_or(&name).starts_with(PACKAGES)
}

/// Returns true for libraries, object files, the command and the programs of build scripts.
fn is_result(path: &Path) -> bool {
    let name = file::name(path);
    match path.extension() {
        Some(extension) => ["rlib", "rmeta", "so", "a", "o"].iter().any(|result| extension == *result),
        None => {
            name == "build-script-build"
                || ["build_script_build-", PACKAGES].iter().any(|program| name.starts_with(program))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::system::toolchain;

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
        // A second copy replaces files, also those that are shared.
        symlink("deps", from.join("link")).unwrap();
        fs::remove_file(from.join("deps/libtch.rlib")).unwrap();
        fs::write(from.join("deps/libtch.rlib"), "new").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("link/libtch.rlib")).unwrap(), "new");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("deps"));
    }

    /// A profile's folder. Returns the results for crates from a registry, for packages, and the others.
    fn results(folder: &Path) -> [Vec<&'static str>; 3] {
        let dependencies = vec![
            "deps/libtch-1.rlib",
            "deps/libserde_derive-2.so",
            "build/torch-sys-3/build-script-build",
            ".fingerprint/tch-1/lib-tch",
        ];
        let packages = vec![
            "vitlab",
            "deps/vitlab-5",
            "deps/libvitlab-4.rlib",
            "build/vitlab-7/output",
            ".fingerprint/vitlab-4/lib",
        ];
        let others = vec!["deps/model-5", ".fingerprint/ctx-6/dep-lib-ctx", "libctx.so", "incremental/vitlab-1/s/x.o"];
        for name in dependencies.iter().chain(&packages).chain(&others) {
            file::write(&folder.join(name), name).unwrap();
        }
        [dependencies, packages, others]
    }

    #[test]
    fn crates_from_a_registry_and_packages_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let [dependencies, packages, others] = results(&at("from"));
        copy_dependencies(&at("from"), &at("crates")).unwrap();
        copy_packages(&at("from"), &at("packages")).unwrap();
        let are = |names: &[&str], to: &str| names.iter().map(|name| at(to).join(name).is_file()).collect::<Vec<_>>();
        for (to, copied, left) in [("crates", &dependencies, &packages), ("packages", &packages, &dependencies)] {
            assert_eq!(are(copied, to), vec![true; copied.len()], "{to}");
            assert_eq!(are(left, to), vec![false; left.len()], "{to}");
            assert_eq!(are(&others, to), vec![false; others.len()], "{to}");
        }
    }

    #[test]
    fn only_what_decides_about_freshness_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let [dependencies, packages, _] = results(folder.path());
        let kept = [
            ".fingerprint/vitlab-4/dep-lib",
            ".fingerprint/tch-1/dep-lib-tch",
            "build/ring-1/output",
            "build/ring-1/out/x.json",
        ];
        let left = [
            ".fingerprint/tch-1/lib-tch.json",
            "deps/tch-1.d",
            "build/ring-1/invoked.timestamp",
            "build/ring-1/stderr",
        ];
        for name in kept.iter().chain(&left) {
            file::write(&folder.path().join(name), "").unwrap();
        }
        prune(folder.path()).unwrap();
        for name in dependencies.iter().chain(&packages).chain(&kept) {
            assert!(folder.path().join(name).is_file(), "{name}");
        }
        assert!(!left.iter().any(|name| folder.path().join(name).exists()));
        assert!(!folder.path().join("incremental").exists());
    }

    /// Returns whether cargo compiles the package in a folder, which has a build folder `target`.
    fn compiles(folder: &Path) -> bool {
        let mut cargo = Command::new("cargo");
        toolchain::clean_environment(&mut cargo);
        let output =
            cargo.args(["build", "--offline"]).current_dir(folder).env_remove("CARGO_TARGET_DIR").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).contains("Compiling")
    }

    #[test]
    fn cargo_takes_over_the_results_of_another_clone() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for clone in ["first", "second"] {
            let manifest = "[package]\nname = \"vitlab\"\nversion = \"1.0.0\"\n[workspace]\n";
            file::write(&at(clone).join("Cargo.toml"), manifest).unwrap();
            file::write(&at(clone).join("build.rs"), "fn main() { println!(\"cargo:rerun-if-changed=Cargo.toml\"); }")
                .unwrap();
            file::write(&at(clone).join("src/lib.rs"), "pub fn f() {}\n").unwrap();
            file::write(&at(clone).join("src/main.rs"), "fn main() { vitlab::f(); }\n").unwrap();
        }
        assert!(compiles(&at("first")) && !compiles(&at("first")));
        prune(&at("first/target/debug")).unwrap();
        assert!(!compiles(&at("first")));

        let (from, to) = (at("first/target/debug"), at("second/target/debug"));
        copy_packages(&from, &to).unwrap();
        keep_packages(&to, SystemTime::now(), |_| true).unwrap();
        assert!(!compiles(&at("second")) && !compiles(&at("first")));
        keep_packages(&to, SystemTime::now(), |_| false).unwrap();
        assert!(compiles(&at("second")));
        // An edit is newer than the results.
        copy_packages(&from, &to).unwrap();
        keep_packages(&to, SystemTime::now(), |_| true).unwrap();
        file::write(&at("second/src/lib.rs"), "pub fn f() { println!(); }\n").unwrap();
        assert!(compiles(&at("second")));
    }

    #[test]
    fn packages_are_dated_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let [dependencies, packages, _] = results(folder.path());
        let fused = ["deps/libvitlab_fused-8.rlib", ".fingerprint/vitlab-fused-8/lib"];
        for name in fused {
            file::write(&folder.path().join(name), name).unwrap();
        }
        let time = SystemTime::now() - Duration::from_secs(1000);
        keep_packages(folder.path(), time, |name| name == "vitlab").unwrap();
        let modified = |name: &str| fs::metadata(folder.path().join(name)).ok()?.modified().ok();
        assert!(packages[1..].iter().all(|name| modified(name) == Some(time)));
        assert!(fused.iter().all(|name| modified(name).is_none()));
        assert!(modified(dependencies[3]).is_some_and(|modified| modified != time));
        keep_packages(folder.path(), time, |name| name == "vitlab_fused").unwrap();
        assert!(packages[1..].iter().all(|name| modified(name).is_none()));
    }
}
