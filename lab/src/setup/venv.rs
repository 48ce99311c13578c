//! The clone's `.venv`: a thin virtual environment on top of the shared Python environment. torch is stored once, and each
//! clone has a kernelspec of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io, iter};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Python;
use crate::system::{Error, Progress, Repository, Result, file};

/// The inputs of a `.venv`, which is created anew when they change.
#[derive(PartialEq, Serialize, Deserialize)]
pub struct Venv {
    /// The clone's root. Scripts contain it, so a clone that was moved needs a new `.venv`.
    root: PathBuf,
    pub python: Python,
    /// True if the environment below is the user's own (`--python`), which later set-ups keep.
    pub own: bool,
    version: u32,
}

/// Increased when the construction of a `.venv` changes.
const VERSION: u32 = 1;
/// Marks the folder as created by vitlab, so that it may be removed. Written first.
const MARK: &str = "vitlab-overlay";
/// Holds [`Venv`] as JSON. Written last.
const STAMP: &str = "vitlab-overlay.json";

/// Reads the description of a complete `.venv` of this clone.
pub fn read(repository: &Repository) -> Option<Venv> {
    let text = fs::read_to_string(repository.venv().join(STAMP)).ok()?;
    let venv: Venv = serde_json::from_str(&text).ok()?;
    (venv.root == repository.root && venv.version == VERSION).then_some(venv)
}

/// Returns a command that runs a program of the clone's `.venv`, with the environment of an activated one.
pub fn command(repository: &Repository, program: &str) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = iter::once(repository.venv().join("bin")).chain(env::split_paths(&path));
    let mut command = Command::new(repository.venv_bin(program));
    let path = env::join_paths(path).expect("split paths can be joined");
    command.env("PATH", path).env("VIRTUAL_ENV", repository.venv());
    command
}

/// Creates `.venv` on top of `python`. Returns false if it exists already.
///
/// # Errors
/// Fails if there is a `.venv` that vitlab didn't create, or if it can't be created.
pub fn install(repository: &Repository, python: &Python, own: bool, progress: &Progress) -> Result<bool> {
    let wanted = Venv { root: repository.root.clone(), python: python.clone(), own, version: VERSION };
    if read(repository).is_some_and(|existing| existing == wanted) {
        return Ok(false);
    }
    let venv = repository.venv();
    progress.message("linking the Python environment into .venv");
    remove_own(&venv)?;
    let failed = |error: io::Error| {
        Error::file(&venv, format!("can't be created ({error}); remove it and run `cargo lab setup` again"))
    };
    fs::create_dir_all(&venv).map_err(failed)?;
    fs::write(venv.join(MARK), "").map_err(failed)?;
    progress.run(Command::new(&python.executable).args(["-m", "venv", "--without-pip"]).arg(&venv), |_| None)?;
    let (major, minor, _) = python.version;
    let site_packages = venv.join(format!("lib/python{major}.{minor}/site-packages"));
    // Python shares JSON's string literals.
    let add = |folder: &PathBuf| format!("import site; site.addsitedir({})\n", json!(folder));
    let lines: String = python.site_packages.iter().map(add).collect();
    fs::write(site_packages.join("vitlab.pth"), lines).map_err(failed)?;
    copy_scripts(&python.prefix.join("bin"), &venv.join("bin")).map_err(failed)?;
    for folder in ["etc", "share/jupyter"] {
        link_entries(&python.prefix.join(folder), &venv.join(folder)).map_err(failed)?;
    }
    symlink(python.libtorch()?, venv.join("libtorch")).map_err(failed)?;
    file::write_json(&venv.join(STAMP), &wanted)?;
    Ok(true)
}

/// Removes an older `.venv`, unless vitlab didn't create it.
fn remove_own(venv: &Path) -> Result<()> {
    let Ok(mut entries) = fs::read_dir(venv) else { return Ok(()) };
    if entries.next().is_some() && !venv.join(MARK).exists() {
        let remedy = "move it away (--python names a Python environment of yours) and try again";
        return Err(Error::file(venv, format!("wasn't made by vitlab; {remedy}")));
    }
    fs::remove_dir_all(venv)
        .map_err(|error| Error::file(venv, format!("can't be removed ({error}); remove it by hand")))
}

/// Copies the console scripts of an environment, with the Python of `.venv` as their interpreter. Skips pip.
fn copy_scripts(from: &Path, to: &Path) -> io::Result<()> {
    let shebang = shebang(&to.join("python"));
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if target.exists() || entry.file_name().to_string_lossy().starts_with("pip") {
            continue;
        }
        // Binary programs aren't UTF-8.
        if let Some(body) = fs::read_to_string(entry.path()).ok().as_deref().and_then(script_body) {
            fs::write(&target, format!("{shebang}{body}"))?;
            fs::set_permissions(&target, Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Returns a Python script without its shebang: one line, or three that pip writes if the path is long or has a space.
fn script_body(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n')?;
    match first {
        "#!/bin/sh" if rest.starts_with("'''exec'") => rest.splitn(3, '\n').nth(2),
        _ => (first.starts_with("#!") && first.contains("python")).then_some(rest),
    }
}

fn shebang(python: &Path) -> String {
    let python = python.display().to_string();
    if python.contains(' ') || python.len() > 120 {
        return format!("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n");
    }
    format!("#!{python}\n")
}

/// Links each entry of a folder into another one. Skips `kernels`, because the clone has a kernelspec of its own.
fn link_entries(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    file::entries(from)
        .filter(|entry| !entry.ends_with("kernels"))
        .try_for_each(|entry| symlink(&entry, to.join(entry.file_name().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shebangs_of_both_forms_are_replaced() {
        assert_eq!(script_body("#!/env/bin/python3\nimport sys\n"), Some("import sys\n"));
        let three_lines = "#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''\nimport sys\n";
        assert_eq!(script_body(three_lines), Some("import sys\n"));
        assert_eq!(script_body("#!/bin/sh\necho\n"), None);
        assert!(shebang(Path::new("/a b/python")).starts_with("#!/bin/sh\n'''exec' \"/a b/python\""));
    }
}
