//! The time that a user waits for `cargo lab setup` and for the command `vitlab`: in a clone that is set up, in a second
//! clone, and with an empty cache folder.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Section;
use crate::setup::{Launch, WarmBuild};
use crate::system::{Error, Progress, Repository, Result, cache, human_duration, toolchain};

pub fn measure(repository: &Repository, cold: bool, result: &mut Value) -> Result<Section> {
    let progress = Progress::new("Set-up");
    progress.message("of this clone");
    let mut measured =
        vec![("warm", "a clone that is set up", time_clone(&repository.root, &cache::path(), &progress)?)];
    progress.message("of a second clone");
    let second = time_new_clone(repository, &cache::path(), &progress)?;
    measured.push(("second_clone", "a second clone of the same version", second));
    if cold {
        progress.message("with an empty cache folder");
        let cold = time_new_clone(repository, temporary_folder()?.path(), &progress)?;
        measured.push(("cold", "a clone with an empty cache folder", cold));
    }
    let mut rows = Vec::new();
    for (key, name, Waits { setup, command }) in measured {
        result["setup"][format!("{key}_seconds")] = json!(setup);
        result["setup"][format!("{key}_command_seconds")] = json!(command);
        rows.push(vec![name.to_string(), format!("{setup:.1}"), format!("{command:.1}")]);
    }
    progress
        .finish(&format!("a second clone is ready after {}", human_duration(Duration::from_secs_f64(second.setup))));
    Ok(Section {
        name: "setup",
        title: "Set-up",
        columns: "in | `cargo lab setup`, s | first `cargo run -p vitlab -- --help` after it, s",
        rows,
        notes: vec![
            "Both with cargo's own work, such as compiling `lab`. New clones hold the committed files; crates are downloaded already."
                .to_string(),
        ],
        bars: Vec::new(),
    })
}

/// Seconds that a user waits.
#[derive(Clone, Copy)]
struct Waits {
    /// For `cargo lab setup`.
    setup: f64,
    /// For the command `vitlab` by cargo, after the set-up.
    command: f64,
}

/// Times a new clone, and removes it with its warm build.
fn time_new_clone(repository: &Repository, home: &Path, progress: &Progress) -> Result<Waits> {
    let folder = temporary_folder()?;
    let root = folder.path().join("vitlab");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--no-hardlinks"]).arg(&repository.root).arg(&root);
    progress.run(&mut git, |_| None)?;
    let waits = time_clone(&root, home, progress)?;
    let clone = Repository { root };
    WarmBuild::of(&clone, &Launch::read(&clone)?).remove()?;
    Ok(waits)
}

fn time_clone(root: &Path, home: &Path, progress: &Progress) -> Result<Waits> {
    let time = |arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        toolchain::clean_environment(&mut cargo);
        cargo.args(arguments).current_dir(root).env("VITLAB_HOME", home);
        let started = Instant::now();
        progress.run(&mut cargo, |line| Some(line.to_string()))?;
        Ok(started.elapsed().as_secs_f64())
    };
    Ok(Waits { setup: time(&["lab", "setup"])?, command: time(&["run", "--package", "vitlab", "--", "--help"])? })
}

pub fn temporary_folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::argument(format!("no temporary folder can be created ({error})")))
}
