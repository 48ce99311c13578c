//! The Python environment that environment.yml describes: finds one, or installs one per user into the cache folder.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::debian;
use crate::system::{Error, Progress, Repository, Result, cache, file, process};

/// The requirements of environment.yml, the one list of the versions on the Python side.
pub struct Environment {
    /// Range of Python 3's minor version.
    pub minor: Range<u32>,
    /// Requirements for pip, all of the form `name==version`.
    pub pip: Vec<String>,
}

#[derive(Deserialize)]
struct EnvironmentFile {
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Dependency {
    Conda(String),
    Pip { pip: Vec<String> },
}

impl Environment {
    /// Reads the file.
    ///
    /// # Errors
    /// Fails if the file is unreadable or malformed, or if a requirement names no version.
    pub fn read(repository: &Repository) -> Result<Self> {
        let path = repository.root.join("environment.yml");
        parse(&file::read(&path)?).map_err(|problem| Error::file(path, problem))
    }
}

fn parse(text: &str) -> Result<Environment, String> {
    let file: EnvironmentFile = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let mut minor = None;
    let mut pip = Vec::new();
    for dependency in file.dependencies {
        match dependency {
            Dependency::Conda(text) => minor = python_range(&text).or(minor),
            Dependency::Pip { pip: list } => pip.extend(list),
        }
    }
    if let Some(loose) = pip.iter().find(|requirement| !requirement.contains("==")) {
        return Err(format!("{loose} names no version; write it as name==version"));
    }
    let minor = minor.ok_or("has no line of the form python>=3.A,<3.B")?;
    Ok(Environment { minor, pip })
}

/// Parses "python>=3.11,<3.14" as 11..14.
fn python_range(text: &str) -> Option<Range<u32>> {
    let (from, to) = text.strip_prefix("python>=3.")?.split_once(",<3.")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// A Python installation.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Python {
    pub executable: PathBuf,
    /// The folder that holds its bin/, etc/ and share/.
    pub prefix: PathBuf,
    pub site_packages: Vec<PathBuf>,
    pub version: (u32, u32, u32),
}

/// Prints the fields of [`Python`] as JSON.
const DESCRIBE: &str = "
import json, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    'executable': sys.executable, 'prefix': sys.prefix, 'version': sys.version_info[:3],
    'site_packages': sorted({paths['purelib'], paths['platlib']}),
}))";

/// Prints name, required and installed version of each requirement that isn't met.
const COMPARE: &str = "
import importlib.metadata as metadata, sys
for requirement in sys.argv[1:]:
    name, wanted = requirement.split('==')
    try: found = metadata.version(name).split('+')[0]
    except metadata.PackageNotFoundError: found = 'missing'
    if found != wanted: print(name, wanted, found)
";

impl Python {
    /// Runs a Python and describes it. Returns `None` if it doesn't start.
    pub fn describe(executable: impl AsRef<OsStr>) -> Option<Python> {
        let text = process::output(Command::new(executable).args(["-c", DESCRIBE]))?;
        serde_json::from_str(text.lines().last()?).ok()
    }

    /// Returns the folder of torch, which is the libtorch that the crate links.
    ///
    /// # Errors
    /// Fails if torch isn't installed with its headers.
    pub fn libtorch(&self) -> Result<PathBuf> {
        let mut torch = self.site_packages.iter().map(|folder| folder.join("torch"));
        let found = torch.find(|folder| folder.join("lib").is_dir() && folder.join("include").is_dir());
        let problem = "holds no torch with lib/ and include/; install it with pip and run `cargo lab setup` again";
        let folder = found.ok_or_else(|| Error::file(&self.prefix, problem))?;
        folder.canonicalize().map_err(|error| Error::file(&folder, error.to_string()))
    }
}

/// Returns the cache entry for these requirements on this Python.
fn folder(environment: &Environment, python: &Python) -> Result<PathBuf> {
    let (major, minor, _) = python.version;
    let key = cache::key(&[format!("{major}.{minor}"), environment.pip.join("\n")]);
    Ok(cache::home()?.join(format!("env-{key}")))
}

/// Returns the environment in the cache, and true if it was missing or damaged. Then it is installed: some GB, a minute.
///
/// # Errors
/// Fails if there is no suitable Python, too little disk space, or if pip fails.
pub fn install(environment: &Environment, progress: &Progress) -> Result<(Python, bool)> {
    let python = find(environment).ok_or_else(|| {
        let (first, last) = (environment.minor.start, environment.minor.end - 1);
        Error::argument(format!(
            "no Python 3.{first} to 3.{last} was found on PATH; install one (on Debian: apt-get install python3 python3-venv) or name one with --python"
        ))
    })?;
    let folder = folder(environment, &python)?;
    let _lock = cache::lock("python", progress)?;
    let describe = || Python::describe(folder.join("bin/python"));
    let missing = !folder.join("complete").is_file() || describe().is_none_or(|python| python.libtorch().is_err());
    if missing {
        let problem = format!("{} can't create environments", python.executable.display());
        let mut test = Command::new(&python.executable);
        test.args(["-c", "import venv, ensurepip"]);
        // Debian ships this part of Python in a package of its own.
        debian::ensure(&format!("python3.{}-venv", python.version.1), &problem, &mut test, progress)?;
        build(&folder, environment, &python, progress)?;
    }
    let problem = "holds a Python that doesn't start; remove the folder and run `cargo lab setup` again";
    Ok((describe().ok_or_else(|| Error::file(&folder, problem))?, missing))
}

fn build(folder: &Path, environment: &Environment, python: &Python, progress: &Progress) -> Result<()> {
    // The remains of an interrupted pip can't be told from complete packages.
    if folder.exists() {
        fs::remove_dir_all(folder)
            .map_err(|error| Error::file(folder, format!("can't be removed ({error}); remove it by hand")))?;
    }
    check_disk_space(folder)?;
    let mut venv = Command::new(&python.executable);
    progress.run(venv.args(["-m", "venv"]).arg(folder), |_| Some("creating it".into()))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
    // Python compiles a module when it is first imported. Most are never imported.
    pip.arg("--no-compile");
    progress.run(pip.args(&environment.pip), |line| {
        let line = line.trim();
        let shown = ["Collecting", "Downloading", "Installing", "Using cached"];
        shown.iter().any(|start| line.starts_with(start)).then(|| line.chars().take(120).collect())
    })?;
    file::write(&folder.join("complete"), &environment.pip.join("\n"))
}

fn check_disk_space(folder: &Path) -> Result<()> {
    /// In GB: torch with its CUDA libraries takes 4.6, and pip unpacks them beside the downloaded files.
    const NEEDED: u64 = 8;
    let home = folder.parent().expect("a folder in the cache");
    let disk = nix::sys::statvfs::statvfs(home).map_err(|error| Error::file(home, error.to_string()))?;
    let free = disk.blocks_available() * disk.fragment_size() / 1_000_000_000;
    if free >= NEEDED {
        return Ok(());
    }
    let remedy = "free some or set VITLAB_HOME to another disk";
    Err(Error::file(home, format!("has {free} GB free, the Python environment needs {NEEDED}; {remedy}")))
}

/// Finds a Python that environment.yml allows: `python3` first, then `python3.N` from the newest to the oldest.
fn find(environment: &Environment) -> Option<Python> {
    let versioned = environment.minor.clone().rev().map(|minor| format!("python3.{minor}"));
    std::iter::once("python3".to_string())
        .chain(versioned)
        .filter_map(Python::describe)
        .find(|python| python.version.0 == 3 && environment.minor.contains(&python.version.1))
}

/// Describes the user's own Python environment and checks it against the requirements. torch must have the required version,
/// because libtorch's version is tied to the crate's. The other packages may have any version, which `progress` reports.
///
/// # Errors
/// Fails if it doesn't start or lacks a package. The message holds the pip command that installs it.
pub fn own(executable: &Path, environment: &Environment, progress: &Progress) -> Result<Python> {
    let python = Python::describe(executable)
        .ok_or_else(|| Error::file(executable, "is no Python that starts; name another one with --python"))?;
    let text = process::output(Command::new(&python.executable).args(["-c", COMPARE]).args(&environment.pip))
        .ok_or_else(|| Error::file(executable, "can't list its packages; name another Python with --python"))?;
    let differing: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let unmet = differing.iter().filter(|line| line[2] == "missing" || line[0] == "torch");
    let unmet: Vec<String> = unmet.map(|line| format!("{}=={}", line[0], line[1])).collect();
    if !unmet.is_empty() {
        let install = format!("{} -m pip install {}", executable.display(), unmet.join(" "));
        return Err(Error::file(executable, format!("lacks packages that the notebooks need; type: {install}")));
    }
    for line in &differing {
        progress.print_line(&format!("{} has version {}, tested is {}", line[0], line[2], line[1]));
    }
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pins_and_python_range() {
        let text = "name: x\ndependencies:\n  - python>=3.11,<3.14\n  - pip\n  - pip:\n    - torch==2.11.0\n    - numpy==2.4.6\n";
        let environment = parse(text).unwrap();
        assert_eq!(environment.minor, 11..14);
        assert_eq!(environment.pip, ["torch==2.11.0", "numpy==2.4.6"]);
    }

    #[test]
    fn refuses_a_requirement_without_a_version() {
        let error = parse("dependencies:\n  - python>=3.11,<3.14\n  - pip:\n    - torch\n").err().unwrap();
        assert!(error.contains("torch names no version"), "{error}");
    }
}
