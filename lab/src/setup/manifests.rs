//! The clone's manifests: the packages that a notebook builds, and how they are compiled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::system::{Error, Repository, Result, cache, file};

/// The manifests that a notebook's build depends on.
pub struct Manifests {
    /// `crate/` and the packages that it depends on by path, directly or through another one.
    packages: Vec<Package>,
    root: PathBuf,
    workspace: Table,
    /// Key of the manifests and Cargo.lock, which select the external crates.
    dependencies_key: String,
}

struct Package {
    folder: PathBuf,
    manifest: Table,
}

/// Keys of the sources of a build.
#[derive(PartialEq, Serialize, Deserialize)]
pub struct Sources {
    dependencies: String,
    /// By the packages' names, with underscores.
    packages: BTreeMap<String, String>,
}

impl Sources {
    pub fn key(&self) -> String {
        cache::key(&[serde_json::to_string(self).expect("plain data")])
    }

    /// Returns whether a package has the same files in both.
    pub fn share(&self, other: &Self, package: &str) -> bool {
        self.packages.get(package).is_some_and(|key| other.packages.get(package) == Some(key))
    }
}

impl Package {
    /// Returns the name, with underscores.
    fn name(&self) -> String {
        let name = self.manifest.get("package").and_then(|package| package.get("name")?.as_str());
        name.unwrap_or_default().replace('-', "_")
    }
}

impl Manifests {
    pub fn read(repository: &Repository) -> Result<Self> {
        let root = &repository.root;
        let root = &root.canonicalize().map_err(|error| Error::file(root, error.to_string()))?;
        let mut texts = vec![file::read(&root.join("Cargo.lock"))?, file::read(&root.join("Cargo.toml"))?];
        let workspace = parse(&root.join("Cargo.toml"), &texts[1])?;
        let mut folders = vec![root.join("crate")];
        let mut packages = Vec::new();
        // The list grows while it is read.
        while let Some(folder) = folders.get(packages.len()).cloned() {
            let path = folder.join("Cargo.toml");
            let text = file::read(&path)?;
            let manifest = parse(&path, &text)?;
            for folder in path_dependencies(&folder, &manifest, root, &workspace) {
                let folder = folder.canonicalize().map_err(|error| Error::file(&folder, error.to_string()))?;
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
            texts.push(text);
            packages.push(Package { folder, manifest });
        }
        Ok(Manifests { packages, root: root.clone(), workspace, dependencies_key: cache::key(&texts) })
    }

    /// Returns the packages' folders, relative to the clone's root. The first one is `crate`.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.packages.iter().filter_map(|package| package.folder.strip_prefix(&self.root).ok())
    }

    /// Returns keys of everything in the clone that the build depends on: manifests and Cargo.lock, and the files of each
    /// package.
    pub fn sources(&self) -> Result<Sources> {
        let key = |package: &Package| Ok((package.name(), cache::folder_key(&package.folder)?));
        let packages = self.packages.iter().map(key).collect::<Result<_>>()?;
        Ok(Sources { dependencies: self.dependencies_key.clone(), packages })
    }

    /// Returns the time of the last change of a file in the packages.
    pub fn newest(&self) -> Result<SystemTime> {
        let mut newest = SystemTime::UNIX_EPOCH;
        for Package { folder, .. } in &self.packages {
            newest = newest.max(cache::folder_time(folder)?);
        }
        Ok(newest)
    }

    /// Returns the manifest of a workspace like the clone's, in which cargo compiles the packages as in the clone, but with
    /// other members.
    pub fn workspace(&self, members: &[&str]) -> Table {
        let mut manifest = self.workspace.clone();
        manifest.retain(|name, _| name == "workspace" || name == "profile");
        if let Some(profiles) = manifest.get_mut("profile").and_then(Value::as_table_mut) {
            profiles.retain(|name, _| name == "dev");
        }
        let workspace = manifest.entry("workspace").or_insert_with(|| Table::new().into());
        if let Some(workspace) = workspace.as_table_mut() {
            workspace.remove("default-members");
            workspace.insert("members".into(), members.to_vec().into());
        }
        manifest
    }

    /// Returns the manifest of a package that depends on the external crates of all packages. Where two packages depend on
    /// the same crate, the first one's requirement stands for both.
    pub fn external_crates(&self, name: &str) -> Table {
        let mut external = Table::new();
        for Package { manifest, .. } in &self.packages {
            for (name, dependency) in manifest.get("dependencies").and_then(Value::as_table).into_iter().flatten() {
                let dependency = resolve(name, dependency, &self.workspace);
                if dependency.get("path").is_none() && !external.contains_key(name) {
                    external.insert(name.clone(), dependency.clone());
                }
            }
        }
        let package = [("name", name), ("version", "1.0.0"), ("edition", "2024")];
        let package = package.map(|(key, value)| (key.to_string(), value.into()));
        Table::from_iter([
            ("package".to_string(), Table::from_iter(package).into()),
            ("dependencies".to_string(), external.into()),
        ])
    }
}

fn parse(path: &Path, text: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| Error::file(path, format!("is no manifest ({})", error.message())))
}

/// Returns what a dependency inherits from the workspace, if it does.
fn resolve<'a>(name: &str, dependency: &'a Value, workspace: &'a Table) -> &'a Value {
    let inherited = || workspace.get("workspace")?.get("dependencies")?.get(name);
    dependency.get("workspace").and_then(|_| inherited()).unwrap_or(dependency)
}

/// Returns the folders of a package's path dependencies, stated in its own manifest or inherited from the workspace's.
fn path_dependencies(package: &Path, manifest: &Table, root: &Path, workspace: &Table) -> Vec<PathBuf> {
    let tables = ["dependencies", "build-dependencies"].iter().filter_map(|name| manifest.get(*name)?.as_table());
    let folder = |(name, dependency): (&String, &Value)| {
        let base = if dependency.get("workspace").is_some() { root } else { package };
        Some(base.join(resolve(name, dependency, workspace).get("path")?.as_str()?))
    };
    tables.flatten().filter_map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_dependencies_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |name: &str, text: &str| file::write(&root.join(name), text).unwrap();
        write("Cargo.lock", "");
        let workspace = "[workspace.dependencies]\nbase = { path = \"base\" }\n";
        write("Cargo.toml", workspace);
        write("crate/Cargo.toml", "[dependencies]\nserde = \"1\"\nfused = { path = \"../fused\" }\n");
        write("fused/Cargo.toml", "[build-dependencies]\nbase = { workspace = true }\n");
        write("base/Cargo.toml", "[dev-dependencies]\nlab = { path = \"../lab\" }\n");
        write("lab/Cargo.toml", "");
        let repository = Repository { root: root.clone() };
        let read = || Manifests::read(&repository).unwrap();

        assert_eq!(Vec::from_iter(read().folders()), ["crate", "fused", "base"].map(Path::new));
        let keys = || (read().dependencies_key, read().sources().unwrap().key());
        let first = keys();
        write("lab/src/lib.rs", "");
        assert_eq!(keys(), first);
        write("base/src/lib.rs", "");
        assert_eq!(keys().0, first.0);
        assert_ne!(keys().1, first.1);
        write("fused/Cargo.toml", "");
        assert_ne!(keys().0, first.0);
    }

    #[test]
    fn a_workspace_compiles_as_the_clone_does() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |name: &str, text: &str| file::write(&root.join(name), text).unwrap();
        write("Cargo.lock", "");
        let serde = "serde = { version = \"1\", features = [\"derive\"] }\n";
        let kept = format!("[workspace.dependencies]\n{serde}[profile.dev.package.base]\nopt-level = 3\n");
        let members = "[workspace]\nmembers = [\"crate\", \"lab\"]\ndefault-members = [\"crate\"]\n";
        write("Cargo.toml", &format!("{members}{kept}[patch.crates-io]\n"));
        let dependencies = "tch = \"=1\"\nserde.workspace = true\nbase = { path = \"../base\" }\n";
        write("crate/Cargo.toml", &format!("[dependencies]\n{dependencies}"));
        write("base/Cargo.toml", "[dependencies]\nserde = \"1.0\"\nfastrand = \"2\"\n");
        let manifests = Manifests::read(&Repository { root: root.clone() }).unwrap();
        let expected: Table = format!("[workspace]\nmembers = [\"ctx\"]\n{kept}").parse().unwrap();
        assert_eq!(manifests.workspace(&["ctx"]), expected);
        let expected = format!(
            "[package]\nname = \"hold\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[dependencies]\n\
             tch = \"=1\"\n{serde}fastrand = \"2\"\n"
        );
        assert_eq!(manifests.external_crates("hold"), expected.parse().unwrap());
    }
}
