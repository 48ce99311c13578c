//! How long `cargo lab setup` takes: where everything is there, in a second clone, and from nothing.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;
use vitlab_dataset::{Error, Result};

use super::Measured;
use super::report::Section;
use crate::cache;
use crate::engine::Engine;
use crate::repository::Repository;
use crate::step::Step;
use crate::warm::Warm;

pub fn measure(repository: &Repository, cold: bool) -> Result<Measured> {
    let step = Step::new("Set-up");
    step.line("of this clone, where everything is there");
    let warm = timed(&mut setup(&repository.root, &cache::path())?, &step)?;
    step.line("of a second clone");
    let second = second_clone(repository, &cache::path(), &step)?;
    let mut value = json!({ "warm_seconds": warm, "second_clone_seconds": second });
    let mut rows = vec![
        vec!["this clone, everything is there".to_string(), format!("{warm:.1}")],
        vec!["a second clone of the same version".to_string(), format!("{second:.1}")],
    ];
    if cold {
        step.line("from nothing");
        let home = temporary()?;
        let cold = second_clone(repository, home.path(), &step)?;
        value["cold_seconds"] = json!(cold);
        rows.push(vec!["a clone with an empty cache folder".to_string(), format!("{cold:.0}")]);
    }
    let section = Section {
        name: "setup",
        title: "Set-up",
        columns: &["`cargo lab setup` of", "s"],
        rows,
        notes: vec!["Without building `lab` itself. What is committed is cloned.".to_string()],
        bars: Vec::new(),
    };
    step.done(&format!("{warm:.1} s, in a second clone {second:.1} s"));
    Ok((value, Vec::new(), section))
}

/// Seconds of the set-up of a fresh clone, which is removed again, with its warm build.
fn second_clone(repository: &Repository, home: &Path, step: &Step) -> Result<f64> {
    let folder = temporary()?;
    let root = folder.path().join("vitlab");
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--no-hardlinks"]).arg(&repository.root).arg(&root);
    step.run(&mut git, |_| None)?;
    let seconds = timed(&mut setup(&root, home)?, step)?;
    let clone = Repository { root };
    let engine = Engine::read(&clone)?;
    Warm::of(&clone, &engine).remove()?;
    Ok(seconds)
}

fn setup(root: &Path, home: &Path) -> Result<Command> {
    let this =
        std::env::current_exe().map_err(|error| Error::argument(format!("this program isn't found ({error})")))?;
    let mut command = Command::new(this);
    command.arg("setup").current_dir(root).env("VITLAB_HOME", home);
    Ok(command)
}

fn timed(command: &mut Command, step: &Step) -> Result<f64> {
    let started = Instant::now();
    step.run(command, |line| Some(line.to_string()))?;
    Ok(started.elapsed().as_secs_f64())
}

fn temporary() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::argument(format!("no temporary folder can be made ({error})")))
}
