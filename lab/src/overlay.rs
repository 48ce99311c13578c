//! `.venv` of a clone: a small layer on the Python environment, so that torch is stored once and each clone has its own kernel.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use vitlab_dataset::{Error, Result};

use crate::cache;
use crate::python::Python;
use crate::repository::Repository;
use crate::step::Step;

/// What an overlay was made from; it is made again when that changes.
#[derive(PartialEq, Serialize, Deserialize)]
pub struct Overlay {
    /// The clone: scripts in the overlay name it, so a clone that was moved needs a new one.
    root: PathBuf,
    pub python: Python,
    /// Whether the environment below is the user's own (`--python`), which later set-ups keep.
    pub own: bool,
    version: u32,
}

/// Counts up when an overlay is put together in another way.
const VERSION: u32 = 1;
/// There from the first moment on: marks the folder as made here, so that it may be removed.
const MARK: &str = "vitlab-overlay";
/// Written last.
const STAMP: &str = "vitlab-overlay.json";

/// The overlay that is there and whole.
pub fn read(repository: &Repository) -> Option<Overlay> {
    let text = fs::read_to_string(repository.venv().join(STAMP)).ok()?;
    let overlay: Overlay = serde_json::from_str(&text).ok()?;
    (overlay.root == repository.root && overlay.version == VERSION).then_some(overlay)
}

/// Makes `.venv` on `python` unless it is there already; true when it had to.
pub fn install(repository: &Repository, python: &Python, own: bool, step: &Step) -> Result<bool> {
    let wanted = Overlay { root: repository.root.clone(), python: python.clone(), own, version: VERSION };
    if read(repository).is_some_and(|there| there == wanted) {
        return Ok(false);
    }
    let venv = repository.venv();
    step.line("linking the Python environment into .venv");
    clear(&venv)?;
    let io = |error: std::io::Error| {
        Error::file(&venv, format!("can't be made ({error}); remove it and run `cargo lab setup` again"))
    };
    fs::create_dir_all(&venv).map_err(io)?;
    fs::write(venv.join(MARK), "").map_err(io)?;
    step.run(Command::new(&python.executable).args(["-m", "venv", "--without-pip"]).arg(&venv), |_| None)?;
    let site = venv.join(format!("lib/python{}.{}/site-packages", python.version.0, python.version.1));
    let add: Vec<String> = python
        .site_packages
        .iter()
        .map(|folder| format!("import site; site.addsitedir({})\n", quoted(folder)))
        .collect();
    fs::write(site.join("vitlab.pth"), add.concat()).map_err(io)?;
    scripts(&python.prefix.join("bin"), &venv.join("bin")).map_err(io)?;
    link_entries(&python.prefix.join("etc"), &venv.join("etc")).map_err(io)?;
    // The kernels of the environment stay out: this clone has its own.
    link_entries(&python.prefix.join("share/jupyter"), &venv.join("share/jupyter")).map_err(io)?;
    symlink(python.libtorch()?, venv.join("libtorch")).map_err(io)?;
    cache::write(&venv.join(STAMP), &serde_json::to_string_pretty(&wanted).expect("plain data"))?;
    Ok(true)
}

/// Removes an older overlay; a `.venv` from elsewhere is the user's and stays.
fn clear(venv: &Path) -> Result<()> {
    let Ok(mut entries) = fs::read_dir(venv) else {
        return Ok(());
    };
    if entries.next().is_some() && !venv.join(MARK).exists() {
        let problem = "wasn't made by vitlab; move it away (a Python environment of yours can be named with --python) and try again";
        return Err(Error::file(venv, problem));
    }
    fs::remove_dir_all(venv).map_err(|error| Error::file(venv, error.to_string()))
}

/// Copies the console scripts, to be run by the overlay's own Python.
fn scripts(from: &Path, to: &Path) -> std::io::Result<()> {
    let python = to.join("python");
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue; // a program, not a script
        };
        let Some(body) = python_script(&text) else {
            continue;
        };
        if target.exists() || entry.file_name().to_string_lossy().starts_with("pip") {
            continue;
        }
        fs::write(&target, format!("{}{body}", shebang(&python)))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// A Python script without its first line (or lines: pip writes three where the path is long or has a space).
fn python_script(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n')?;
    if first.starts_with("#!") && first.contains("python") {
        return Some(rest);
    }
    if first != "#!/bin/sh" || !rest.starts_with("'''exec'") {
        return None;
    }
    rest.splitn(3, '\n').nth(2)
}

fn shebang(python: &Path) -> String {
    let python = python.display().to_string();
    if python.contains(' ') || python.len() > 120 {
        return format!("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n");
    }
    format!("#!{python}\n")
}

/// Links each entry of a folder into another one, but for kernels.
fn link_entries(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let Ok(entries) = fs::read_dir(from) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() != "kernels" {
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A path as a Python string; JSON's strings are Python's too.
fn quoted(path: &Path) -> String {
    serde_json::to_string(&path.to_string_lossy()).expect("a string")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shebangs_of_both_forms_are_replaced() {
        assert_eq!(python_script("#!/env/bin/python3\nimport sys\n"), Some("import sys\n"));
        assert_eq!(
            python_script("#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''\nimport sys\n"),
            Some("import sys\n")
        );
        assert_eq!(python_script("#!/bin/sh\necho\n"), None);
        assert!(shebang(Path::new("/a b/python")).starts_with("#!/bin/sh\n'''exec' \"/a b/python\""));
    }
}
