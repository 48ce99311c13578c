//! reveal.js, the program that shows slides, in the cache folder.

use std::fs;
use std::path::PathBuf;

use crate::setup::venv;
use crate::system::{Error, Progress, Repository, Result, cache};

/// A Python package that holds reveal.js 5.2.0 as its authors ship it (MIT licence). nbconvert has no copy of it, and pip is
/// there on any machine that is set up.
const NAME: &str = "sphinx-revealjs";
const VERSION: &str = "3.2.1";
const SHA256: &str = "805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b";
const WHEEL: &str = "sphinx_revealjs-3.2.1-py3-none-any.whl";

/// Returns the package's wheel, which pip downloads the first time and checks.
///
/// # Errors
/// Fails if pip can't download it or its checksum differs.
pub fn wheel(repository: &Repository) -> Result<PathBuf> {
    let folder = cache::home()?.join("reveal");
    let wheel = folder.join(WHEEL);
    if wheel.is_file() {
        return Ok(wheel);
    }
    let progress = Progress::new("reveal.js");
    let _lock = cache::lock("reveal", &progress)?;
    cache::create(&folder)?;
    let failed = |error: std::io::Error| Error::file(&folder, format!("can't be filled ({error})"));
    let unfinished = tempfile::tempdir_in(&folder).map_err(failed)?;
    let requirement = unfinished.path().join("requirement.txt");
    fs::write(&requirement, format!("{NAME}=={VERSION} --hash=sha256:{SHA256}\n")).map_err(failed)?;
    let mut pip = venv::command(repository, "python");
    pip.args(["-I", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"]);
    pip.args(["--disable-pip-version-check", "--progress-bar", "off", "--dest"]).arg(unfinished.path());
    progress.run(pip.arg("--requirement").arg(&requirement), |line| Some(line.to_string()))?;
    fs::rename(unfinished.path().join(WHEEL), &wheel).map_err(failed)?;
    progress.finish(&wheel.display().to_string());
    Ok(wheel)
}
