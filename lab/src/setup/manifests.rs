//! The clone's manifests: the packages that a notebook builds, and how they are compiled.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::system::{Error, Repository, Result, cache, file};

/// The manifests that a notebook's build depends on.
pub struct Manifests {
    /// Folders of `crate/` and of the packages that it depends on by path, directly or through another one.
    packages: Vec<PathBuf>,
    workspace: Table,
    /// Key of the manifests and Cargo.lock, which select the external crates.
    pub dependencies_key: String,
}

impl Manifests {
    pub fn read(repository: &Repository) -> Result<Self> {
        let root = &repository.root;
        let mut texts = vec![file::read(&root.join("Cargo.lock"))?, file::read(&root.join("Cargo.toml"))?];
        let workspace = parse(&root.join("Cargo.toml"), &texts[1])?;
        let mut packages = vec![root.join("crate")];
        // The list grows while it is read.
        let mut next = 0;
        while let Some(package) = packages.get(next).cloned() {
            let path = package.join("Cargo.toml");
            let text = file::read(&path)?;
            for folder in path_dependencies(&package, &parse(&path, &text)?, root, &workspace) {
                let folder = folder.canonicalize().map_err(|error| Error::file(&folder, error.to_string()))?;
                if !packages.contains(&folder) {
                    packages.push(folder);
                }
            }
            texts.push(text);
            next += 1;
        }
        Ok(Manifests { packages, workspace, dependencies_key: cache::key(&texts) })
    }

    /// Returns a key of everything in the clone that the build depends on: the packages' files, manifests and Cargo.lock.
    pub fn sources_key(&self) -> Result<String> {
        let mut keys = vec![self.dependencies_key.clone()];
        for package in &self.packages {
            keys.push(cache::folder_key(package)?);
        }
        Ok(cache::key(&keys))
    }

    /// Returns the tables `[profile.dev.package.*]` of the workspace's manifest.
    pub fn profile_overrides(&self) -> String {
        let dev = self.workspace.get("profile").and_then(|profile| profile.get("dev"));
        let Some(packages) = dev.and_then(|dev| dev.get("package")) else { return String::new() };
        let nested = ["package", "dev", "profile"]
            .iter()
            .fold(packages.clone(), |inner, name| Value::Table(Table::from_iter([(name.to_string(), inner)])));
        toml::to_string(&nested).expect("a table that was parsed")
    }
}

fn parse(path: &Path, text: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| Error::file(path, format!("is no manifest ({})", error.message())))
}

/// Returns the folders of a package's path dependencies, stated in its own manifest or inherited from the workspace's.
fn path_dependencies(package: &Path, manifest: &Table, root: &Path, workspace: &Table) -> Vec<PathBuf> {
    let tables = ["dependencies", "build-dependencies"].iter().filter_map(|name| manifest.get(*name)?.as_table());
    let folder = |(name, dependency): (&String, &Value)| {
        let (base, dependency) = match dependency.get("workspace") {
            Some(_) => (root, workspace.get("workspace")?.get("dependencies")?.get(name)?),
            None => (package, dependency),
        };
        Some(base.join(dependency.get("path")?.as_str()?))
    };
    tables.flatten().filter_map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_dependencies_and_profiles_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |name: &str, text: &str| file::write(&root.join(name), text).unwrap();
        write("Cargo.lock", "");
        let workspace = "[workspace.dependencies]\nbase = { path = \"base\" }\n";
        let profile = "[profile.dev.package.fused]\nopt-level = 3\n";
        write("Cargo.toml", &format!("{workspace}[profile.dev]\nopt-level = 2\n{profile}"));
        write("crate/Cargo.toml", "[dependencies]\nserde = \"1\"\nfused = { path = \"../fused\" }\n");
        write("fused/Cargo.toml", "[build-dependencies]\nbase = { workspace = true }\n");
        write("base/Cargo.toml", "[dev-dependencies]\nlab = { path = \"../lab\" }\n");
        write("lab/Cargo.toml", "");
        let repository = Repository { root: root.clone() };
        let read = || Manifests::read(&repository).unwrap();

        assert_eq!(read().packages, ["crate", "fused", "base"].map(|name| root.join(name)));
        assert_eq!(read().profile_overrides(), profile);
        let keys = || (read().dependencies_key, read().sources_key().unwrap());
        let first = keys();
        write("lab/src/lib.rs", "");
        assert_eq!(keys(), first);
        write("base/src/lib.rs", "");
        assert_eq!(keys().0, first.0);
        assert_ne!(keys().1, first.1);
        write("fused/Cargo.toml", "");
        assert_ne!(keys().0, first.0);
    }
}
