//! The files that decide how cargo builds a cell, apart from sources: manifests, the lock file and cargo's configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Returns the manifests of evcxr's folder and of the packages that hold the sources, those of their workspaces, and
/// cargo's configuration. A file may not exist: cargo would read it if it did.
pub fn of(folder: &Path, sources: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> = ["../Cargo.toml", "../Cargo.lock"].map(|name| folder.join(name)).into();
    // The manifest of a package, and that of its workspace, is in a folder above its sources.
    let folders: BTreeSet<&Path> = sources.iter().filter_map(|source| source.parent()).chain([folder]).collect();
    let above: BTreeSet<&Path> = folders.iter().flat_map(|folder| folder.ancestors()).collect();
    found.extend(above.iter().map(|folder| folder.join("Cargo.toml")));
    // A workspace elsewhere is named by the package.
    let elsewhere: Vec<PathBuf> = found.iter().filter_map(|manifest| workspace(manifest)).collect();
    found.extend(elsewhere);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let configured = folder.ancestors().map(|folder| folder.join(".cargo")).chain(home);
    found.extend(configured.flat_map(|folder| ["config.toml", "config"].map(|name| folder.join(name))));
    found
}

/// Returns the manifest of the workspace that a package's manifest names by `package.workspace`.
fn workspace(manifest: &Path) -> Option<PathBuf> {
    let table: toml::Table = std::fs::read_to_string(manifest).ok()?.parse().ok()?;
    let path = table.get("package")?.get("workspace")?.as_str()?;
    Some(manifest.parent()?.join(path).join("Cargo.toml"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn manifests_of_packages_and_workspaces_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("a/crate/Cargo.toml", "[package]\nname = \"a\"\n"),
            ("b/Cargo.toml", "[package]\nname = \"b\"\nworkspace = \"../other\" # elsewhere\n"),
            ("c/Cargo.toml", "[package]\nversion = { workspace = true }\nedition.workspace = true\n"),
        ] {
            fs::create_dir_all(path(name).parent().unwrap().join("src")).unwrap();
            fs::write(path(name), text).unwrap();
        }
        let sources = ["a/crate/src/deep/x.rs", "b/src/lib.rs", "c/src/lib.rs"].map(path);
        let found = of(&path("kernel/ctx"), &sources);
        for name in [
            "a/crate/Cargo.toml",
            "a/Cargo.toml",
            "b/Cargo.toml",
            "b/../other/Cargo.toml",
            "c/Cargo.toml",
            "kernel/ctx/Cargo.toml",
            "kernel/ctx/../Cargo.toml",
            "kernel/ctx/../Cargo.lock",
            "kernel/ctx/.cargo/config.toml",
            "kernel/.cargo/config.toml",
        ] {
            assert!(found.contains(&path(name)), "{name}");
        }
        assert!(!found.iter().any(|path| path.ends_with("true/Cargo.toml")));
    }
}
