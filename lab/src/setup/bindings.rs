//! libtorch's C++ bindings, which the crate torch-sys compiles: a minute of processor time. They are compiled once per
//! user into the cache folder. Every build in a clone and every kernel links them from there: `.cargo/config.toml` reads
//! `.venv/cargo.toml`, which overrides torch-sys's build script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::json;
use toml::Table;

use super::kernel_build::compiling;
use crate::system::{Error, Progress, Repository, Result, cache, file, toolchain};

const PACKAGE: &str = "torch-sys";
const LIBRARY: &str = "libtch.a";
/// File in the cache folder and in `.venv`.
const CONFIG: &str = "cargo.toml";

/// The bindings to one libtorch.
pub struct Bindings {
    folder: PathBuf,
}

/// cargo's message about a build script that has run.
#[derive(Deserialize)]
struct BuildScript {
    package_id: String,
    linked_libs: Vec<String>,
    linked_paths: Vec<String>,
    out_dir: PathBuf,
}

impl Bindings {
    /// Finds the bindings for the clone's version of torch-sys or compiles them. Also returns true if they were missing.
    ///
    /// # Errors
    /// Fails if Cargo.lock doesn't name torch-sys, or if the compilation fails.
    pub fn install(repository: &Repository, libtorch: &Path, progress: &Progress) -> Result<(Self, bool)> {
        let lock_file = repository.root.join("Cargo.lock");
        let package = locked_package(&file::read(&lock_file)?)
            .ok_or_else(|| Error::file(&lock_file, format!("names no {PACKAGE}; restore it with git")))?;
        let rustc = toolchain::rustc()?;
        let key = cache::key(&[package.as_bytes(), libtorch.as_os_str().as_encoded_bytes(), rustc.as_bytes()]);
        let bindings = Bindings { folder: cache::home()?.join(format!("bindings-{key}")) };
        let _lock = cache::lock(&file::name(&bindings.folder), progress)?;
        let missing = !bindings.config().is_file() || !bindings.library().is_file();
        if missing {
            bindings.build(repository, libtorch, &rustc, progress)?;
        }
        Ok((bindings, missing))
    }

    /// The settings for cargo.
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// The archive with the compiled bindings.
    pub fn library(&self) -> PathBuf {
        self.folder.join(LIBRARY)
    }

    /// Lets builds in the clone link the bindings.
    pub fn link_into(&self, repository: &Repository) -> Result<()> {
        file::write(&repository.venv().join(CONFIG), &file::read(&self.config())?)
    }

    fn build(&self, repository: &Repository, libtorch: &Path, rustc: &str, progress: &Progress) -> Result<()> {
        let mut command = Command::new("cargo");
        command.args(["build", "--locked", "--package", PACKAGE, "--message-format", "json-render-diagnostics"]);
        command.arg("--manifest-path").arg(repository.root.join("Cargo.toml"));
        // Outside of the clone, whose settings may override the build script already.
        command.arg("--target-dir").arg(self.folder.join("target")).current_dir(cache::home()?);
        toolchain::clean_environment(&mut command);
        command.env("LIBTORCH", libtorch);
        let (mut script, mut show) = (None, compiling());
        progress.run(&mut command, |line| {
            if let Ok(message) = serde_json::from_str::<BuildScript>(line)
                && message.package_id.contains(PACKAGE)
            {
                script = Some(message);
            }
            show(line)
        })?;
        let unknown = || Error::file(&self.folder, "holds no bindings after building them; remove it and try again");
        let script = script.ok_or_else(unknown)?;
        let failed = |error: std::io::Error| Error::file(&self.folder, error.to_string());
        fs::copy(script.out_dir.join(LIBRARY), self.library()).map_err(failed)?;
        let out_dir = script.out_dir.to_string_lossy();
        let paths = script.linked_paths.iter().map(|path| path.replace(&*out_dir, &self.folder.to_string_lossy()));
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).ok_or_else(unknown)?;
        // JSON's strings and lists are TOML's, too.
        let text = format!(
            "# Written by `cargo lab setup`: replaces the build script of {PACKAGE}, whose result is compiled already.\n\
             [target.{host}.tch]\nrustc-link-search = {}\nrustc-link-lib = {}\nlibtorch_lib = {}\n",
            json!(paths.collect::<Vec<_>>()),
            json!(script.linked_libs),
            json!(libtorch.join("lib")),
        );
        file::write(&self.config(), &text)?;
        fs::remove_dir_all(self.folder.join("target")).map_err(failed)
    }
}

/// Returns name, version and checksum of torch-sys in a lock file.
fn locked_package(lock_file: &str) -> Option<String> {
    let lock_file: Table = lock_file.parse().ok()?;
    let packages = lock_file.get("package")?.as_array()?;
    let package =
        packages.iter().find(|package| package.get("name").and_then(|name| name.as_str()) == Some(PACKAGE))?;
    let field = |name: &str| package.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_string();
    Some([field("name"), field("version"), field("checksum")].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_version_of_the_bindings_is_found() {
        let package =
            |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"1.2.0\"\nchecksum = \"ab\"\n\n");
        let lock_file = format!("version = 4\n\n{}{}", package("tch"), package("torch-sys"));
        assert_eq!(locked_package(&lock_file).as_deref(), Some("torch-sys 1.2.0 ab"));
        assert_eq!(locked_package(&package("tch")), None);
        assert_eq!(locked_package("no TOML ["), None);
    }
}
