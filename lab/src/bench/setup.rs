//! The time of `cargo lab setup`: in a clone that is set up, in a second clone, and with an empty cache folder.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Section;
use crate::setup::{Launch, WarmBuild};
use crate::system::{Error, Progress, Repository, Result, cache, human_duration, process};

pub fn measure(repository: &Repository, cold: bool, result: &mut Value) -> Result<Section> {
    let progress = Progress::new("Set-up");
    progress.message("of this clone");
    let warm = time_setup(&repository.root, &cache::path(), &progress)?;
    progress.message("of a second clone");
    let second = time_second_clone(repository, &cache::path(), &progress)?;
    result["setup"] = json!({ "warm_seconds": warm, "second_clone_seconds": second });
    let row = |name: &str, seconds: String| vec![name.to_string(), seconds];
    let mut rows = vec![
        row("a clone that is set up", format!("{warm:.1}")),
        row("a second clone of the same version", format!("{second:.1}")),
    ];
    if cold {
        progress.message("with an empty cache folder");
        let cold = time_second_clone(repository, temporary_folder()?.path(), &progress)?;
        result["setup"]["cold_seconds"] = json!(cold);
        rows.push(row("a clone with an empty cache folder", format!("{cold:.0}")));
    }
    let [warm, second] = [warm, second].map(|seconds| human_duration(Duration::from_secs_f64(seconds)));
    progress.finish(&format!("{warm}, in a second clone {second}"));
    Ok(Section {
        name: "setup",
        title: "Set-up",
        columns: "`cargo lab setup` of | s",
        rows,
        notes: vec!["The build of `lab` itself isn't counted. The second clone holds the committed files.".to_string()],
        bars: Vec::new(),
    })
}

/// Returns the seconds of the set-up of a new clone, and removes it with its warm build.
fn time_second_clone(repository: &Repository, home: &Path, progress: &Progress) -> Result<f64> {
    let folder = temporary_folder()?;
    let root = folder.path().join("vitlab");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--no-hardlinks"]).arg(&repository.root).arg(&root);
    progress.run(&mut git, |_| None)?;
    let seconds = time_setup(&root, home, progress)?;
    let clone = Repository { root };
    WarmBuild::of(&clone, &Launch::read(&clone)?).remove()?;
    Ok(seconds)
}

fn time_setup(root: &Path, home: &Path, progress: &Progress) -> Result<f64> {
    let mut setup = Command::new(process::this_program()?);
    setup.arg("setup").current_dir(root).env("VITLAB_HOME", home);
    let started = Instant::now();
    progress.run(&mut setup, |line| Some(line.to_string()))?;
    Ok(started.elapsed().as_secs_f64())
}

pub fn temporary_folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::argument(format!("no temporary folder can be created ({error})")))
}
