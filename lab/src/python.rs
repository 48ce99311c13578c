//! The Python environment: found, or built once per user in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use vitlab_dataset::{Error, Result};

use crate::environment::Environment;
use crate::step::Step;
use crate::{cache, system};

/// A Python installation, as it describes itself.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Python {
    pub executable: PathBuf,
    /// The folder that holds its bin/, etc/ and share/.
    pub prefix: PathBuf,
    pub site_packages: Vec<PathBuf>,
    pub version: (u32, u32, u32),
}

const DESCRIBE: &str = "
import json, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    'executable': sys.executable, 'prefix': sys.prefix, 'version': sys.version_info[:3],
    'site_packages': sorted({paths['purelib'], paths['platlib']}),
}))";

impl Python {
    pub fn describe(executable: impl AsRef<std::ffi::OsStr>) -> Option<Python> {
        let text = system::output(Command::new(executable).args(["-c", DESCRIBE]))?;
        serde_json::from_str(text.lines().last()?).ok()
    }

    /// torch's folder: the libtorch that the crate links.
    pub fn libtorch(&self) -> Result<PathBuf> {
        let mut torch = self.site_packages.iter().map(|folder| folder.join("torch"));
        let found = torch.find(|folder| folder.join("lib").is_dir() && folder.join("include").is_dir());
        let folder = found.ok_or_else(|| {
            Error::file(
                &self.prefix,
                "holds no torch with lib/ and include/; install it with pip and run `cargo lab setup` again",
            )
        })?;
        folder.canonicalize().map_err(|error| Error::file(&folder, error.to_string()))
    }
}

/// The folder in the cache for these requirements on this Python.
fn folder(environment: &Environment, python: &Python) -> Result<PathBuf> {
    let version = format!("{}.{}", python.version.0, python.version.1);
    let requirements = environment.pip.join("\n");
    Ok(cache::home()?.join(format!("env-{}", cache::key(&[&version, &requirements]))))
}

/// The environment in the cache, if it is complete.
pub fn cached(environment: &Environment) -> Option<Python> {
    let python = find(environment)?;
    let folder = folder(environment, &python).ok()?;
    folder.join("complete").is_file().then(|| Python::describe(folder.join("bin/python")))?
}

/// The environment in the cache, built when it isn't there: a few GB, a minute or two.
pub fn install(environment: &Environment, step: &Step) -> Result<Python> {
    let python = match find(environment) {
        Some(python) => python,
        None => {
            let range = format!("3.{} to 3.{}", environment.minor.start, environment.minor.end - 1);
            return Err(Error::argument(format!(
                "no Python {range} was found on PATH; install one (on Debian: apt-get install python3 python3-venv) or name one with --python"
            )));
        }
    };
    let folder = folder(environment, &python)?;
    let _lock = cache::lock("python", step)?;
    let sound = || {
        let python = Python::describe(folder.join("bin/python"));
        python.is_some_and(|python| python.libtorch().is_ok())
    };
    if !folder.join("complete").is_file() || !sound() {
        ensure_venv(&python, step)?;
        build(&folder, environment, &python, step)?;
    }
    Python::describe(folder.join("bin/python")).ok_or_else(|| {
        Error::file(&folder, "holds a Python that doesn't start; remove the folder and run `cargo lab setup` again")
    })
}

fn build(folder: &Path, environment: &Environment, python: &Python, step: &Step) -> Result<()> {
    // What an interrupted pip left can't be told from what is whole.
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| Error::file(folder, error.to_string()))?;
    }
    enough_room(folder)?;
    step.run(Command::new(&python.executable).args(["-m", "venv"]).arg(folder), |_| Some("making it".into()))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]);
    step.run(pip.args(&environment.pip), pip_line)?;
    cache::write(&folder.join("complete"), &environment.pip.join("\n"))
}

/// pip's lines that tell something: "Downloading torch-2.11.0-….whl (530.6 MB)".
fn pip_line(line: &str) -> Option<String> {
    let line = line.trim();
    ["Collecting", "Downloading", "Installing", "Using cached"]
        .iter()
        .any(|start| line.starts_with(start))
        .then(|| line.chars().take(120).collect())
}

/// torch with its CUDA libraries takes 4.6 GB; pip unpacks it beside the downloaded files.
fn enough_room(folder: &Path) -> Result<()> {
    const NEEDED: u64 = 8;
    let home = folder.parent().expect("inside the cache");
    let room = nix::sys::statvfs::statvfs(home).map_err(|error| Error::file(home, error.to_string()))?;
    let free = room.blocks_available() * room.fragment_size() / 1_000_000_000;
    if free >= NEEDED {
        return Ok(());
    }
    Err(Error::file(
        home,
        format!(
            "has {free} GB free, the Python environment needs {NEEDED}; make room or set VITLAB_HOME to another disk"
        ),
    ))
}

/// A Python of a version that environment.yml allows: `python3` first, then by its full name, newest first.
fn find(environment: &Environment) -> Option<Python> {
    let named = environment.minor.clone().rev().map(|minor| format!("python3.{minor}"));
    std::iter::once("python3".to_string())
        .chain(named)
        .filter_map(Python::describe)
        .find(|python| python.version.0 == 3 && environment.minor.contains(&python.version.1))
}

/// Debian keeps a part of venv in a package of its own.
fn ensure_venv(python: &Python, step: &Step) -> Result<()> {
    let works = || system::succeeds(Command::new(&python.executable).args(["-c", "import venv, ensurepip"]));
    if works() {
        return Ok(());
    }
    let package = format!("python3.{}-venv", python.version.1);
    step.line(&format!("installing {package}"));
    match system::install(&[&package], step) {
        Ok(()) if works() => Ok(()),
        outcome => Err(Error::argument(format!(
            "{} can't make environments ({}); type: apt-get install {package}",
            python.executable.display(),
            outcome.err().unwrap_or("installing its package didn't help".into()),
        ))),
    }
}

/// torch-sys compiles a C++ file.
pub fn ensure_compiler(step: &Step) -> Result<()> {
    let works = || system::succeeds(Command::new("c++").arg("--version"));
    if works() {
        return Ok(());
    }
    step.line("installing g++");
    match system::install(&["g++"], step) {
        Ok(()) if works() => Ok(()),
        outcome => Err(Error::argument(format!(
            "there is no C++ compiler ({}); type: apt-get install g++",
            outcome.err().unwrap_or("installing g++ didn't help".into()),
        ))),
    }
}

/// A Python environment of the user's own, which must hold what environment.yml lists.
pub fn own(executable: &Path, environment: &Environment, step: &Step) -> Result<Python> {
    let python = Python::describe(executable)
        .ok_or_else(|| Error::file(executable, "is no Python that starts; name another one with --python"))?;
    let script = "
import importlib.metadata as metadata, sys
for requirement in sys.argv[1:]:
    name, wanted = requirement.split('==')
    try: found = metadata.version(name).split('+')[0]
    except metadata.PackageNotFoundError: found = 'missing'
    if found != wanted: print(name, wanted, found)
";
    let text = system::output(Command::new(&python.executable).args(["-c", script]).args(&environment.pip))
        .ok_or_else(|| Error::file(executable, "can't list its packages; name another Python with --python"))?;
    let differing: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    // libtorch's version is tied to the crate's; of the others any version may do.
    let unfit: Vec<String> = differing
        .iter()
        .filter(|line| line[2] == "missing" || line[0] == "torch")
        .map(|line| format!("{}=={}", line[0], line[1]))
        .collect();
    if !unfit.is_empty() {
        return Err(Error::file(
            executable,
            format!("lacks what the notebooks need; type: {} -m pip install {}", executable.display(), unfit.join(" ")),
        ));
    }
    for line in &differing {
        step.say(&format!("{} is {} there, tested is {}", line[0], line[2], line[1]));
    }
    Ok(python)
}
