//! The clone's manifests: the packages that a notebook builds, and how they are compiled.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::system::{Error, Repository, Result, cache, file};

/// The manifests that a notebook's build depends on.
pub struct Manifests {
    /// Folders of `crate/` and of the packages that it depends on by path, directly or through another one.
    packages: Vec<PathBuf>,
    root: PathBuf,
    workspace: Table,
    /// The manifest of `crate/`.
    vitlab: Table,
    /// Key of the manifests and Cargo.lock, which select the external crates.
    pub dependencies_key: String,
}

impl Manifests {
    pub fn read(repository: &Repository) -> Result<Self> {
        let root = &repository.root;
        let mut texts = vec![file::read(&root.join("Cargo.lock"))?, file::read(&root.join("Cargo.toml"))?];
        let workspace = parse(&root.join("Cargo.toml"), &texts[1])?;
        let mut packages = vec![root.join("crate")];
        let mut vitlab = None;
        // The list grows while it is read.
        let mut next = 0;
        while let Some(package) = packages.get(next).cloned() {
            let path = package.join("Cargo.toml");
            let text = file::read(&path)?;
            let manifest = parse(&path, &text)?;
            for folder in path_dependencies(&package, &manifest, root, &workspace) {
                let folder = folder.canonicalize().map_err(|error| Error::file(&folder, error.to_string()))?;
                if !packages.contains(&folder) {
                    packages.push(folder);
                }
            }
            texts.push(text);
            vitlab.get_or_insert(manifest);
            next += 1;
        }
        let vitlab = vitlab.expect("the first package");
        Ok(Manifests { packages, root: root.clone(), workspace, vitlab, dependencies_key: cache::key(&texts) })
    }

    /// Returns a key of everything in the clone that the build depends on: the packages' files, manifests and Cargo.lock.
    pub fn sources_key(&self) -> Result<String> {
        let mut keys = vec![self.dependencies_key.clone()];
        for package in &self.packages {
            keys.push(cache::folder_key(package)?);
        }
        Ok(cache::key(&keys))
    }

    /// Returns the manifest of a package outside of the clone that builds the command `vitlab`. The package also depends on
    /// the library. Its dependencies are those of `crate/`, so that cargo compiles them for both with the same features.
    pub fn command(&self, name: &str) -> String {
        let crate_folder = &self.packages[0];
        let inherited = self.workspace.get("workspace").and_then(|workspace| workspace.get("dependencies"));
        let mut dependencies = Table::from_iter([("vitlab".to_string(), path_only(crate_folder))]);
        for (name, dependency) in self.vitlab.get("dependencies").and_then(Value::as_table).into_iter().flatten() {
            let (base, dependency) = match dependency.get("workspace").and(inherited).and_then(|all| all.get(name)) {
                Some(dependency) => (&self.root, dependency),
                None => (crate_folder, dependency),
            };
            let mut dependency = dependency.clone();
            if let Some(Value::String(path)) = dependency.get_mut("path") {
                *path = base.join(&*path).to_string_lossy().into_owned();
            }
            dependencies.insert(name.clone(), dependency);
        }
        let package = |table: &Table, name: &str| Some(table.get("package")?.get(name)?.clone());
        let shared = self.workspace.get("workspace").and_then(Value::as_table);
        let version = shared.and_then(|shared| package(shared, "version")).unwrap_or_else(|| "0.0.0".into());
        let mut table = Table::from_iter([
            ("name".to_string(), name.into()),
            ("version".to_string(), version),
            ("edition".to_string(), "2024".into()),
        ]);
        // Otherwise, a kernel would analyse all dependencies of the command.
        table.extend(package(&self.vitlab, "metadata").map(|metadata| ("metadata".to_string(), metadata)));
        let main = crate_folder.join("src/bin/vitlab/main.rs").to_string_lossy().into_owned();
        let program = Table::from_iter([("name".to_string(), "vitlab".into()), ("path".to_string(), main.into())]);
        let manifest = Table::from_iter([
            ("package".to_string(), Value::Table(table)),
            ("bin".to_string(), Value::Array(vec![Value::Table(program)])),
            ("dependencies".to_string(), Value::Table(dependencies)),
        ]);
        toml::to_string(&manifest).expect("tables of strings and of what was parsed")
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

fn path_only(folder: &Path) -> Value {
    Value::Table(Table::from_iter([("path".to_string(), folder.to_string_lossy().into_owned().into())]))
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

    #[test]
    fn the_commands_manifest_has_the_crates_dependencies() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |name: &str, text: &str| file::write(&root.join(name), text).unwrap();
        write("Cargo.lock", "");
        let shared = "[workspace.dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\n";
        write("Cargo.toml", &format!("[workspace.package]\nversion = \"0.3.0\"\n{shared}"));
        let metadata = "[package.metadata.vitlab-kernel]\nshows = [\"tch\"]\n";
        let dependencies = "[dependencies]\ntch = \"=1\"\nserde.workspace = true\nbase = { path = \"../base\" }\n";
        write("crate/Cargo.toml", &format!("{metadata}{dependencies}"));
        write("base/Cargo.toml", "");
        let manifests = Manifests::read(&Repository { root: root.clone() }).unwrap();
        let manifest: Table = manifests.command("program").parse().unwrap();
        let root = root.display();
        let expected = format!(
            "[package]\nname = \"program\"\nversion = \"0.3.0\"\nedition = \"2024\"\n{metadata}\
             [[bin]]\nname = \"vitlab\"\npath = \"{root}/crate/src/bin/vitlab/main.rs\"\n\
             [dependencies]\nvitlab = {{ path = \"{root}/crate\" }}\ntch = \"=1\"\n\
             serde = {{ version = \"1\", features = [\"derive\"] }}\nbase = {{ path = \"{root}/crate/../base\" }}\n"
        );
        assert_eq!(manifest, expected.parse().unwrap());
    }
}
