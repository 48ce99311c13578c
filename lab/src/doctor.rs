//! `cargo lab doctor`: what is there, in which version, what is missing and what to type.

use std::process::Command;

use vitlab_dataset::{Error, Result};

use crate::engine::Engine;
use crate::repository::Repository;
use crate::warm::Warm;
use crate::{cache, evcxr, kernelspec, overlay, system};

enum State {
    Good(String),
    /// Missing, but nothing fails without it.
    Remark(String, String),
    /// Missing: what is wrong, and what to type.
    Bad(String, String),
}

const SETUP: &str = "cargo lab setup";

/// Prints the table.
///
/// # Errors
/// Something that the notebooks need is missing.
pub fn run(repository: &Repository) -> Result<()> {
    let rows = [
        ("Rust", rust()),
        ("rust-src", rust_src()),
        ("C++ compiler", version("c++", "apt-get install g++")),
        ("Python environment", python(repository)),
        ("libtorch", libtorch(repository)),
        ("Kernel's program", engine(repository)),
        ("FashionMNIST", data()),
        ("Warm build", warm(repository)),
        ("Kernel", kernel(repository)),
        ("Cache folder", State::Good(cache::home()?.display().to_string())),
    ];
    let mut missing = 0;
    for (name, state) in rows {
        let (mark, text, remedy) = match state {
            State::Good(text) => ("✓", text, None),
            State::Remark(text, remedy) => ("!", text, Some(remedy)),
            State::Bad(text, remedy) => {
                missing += 1;
                ("✗", text, Some(remedy))
            }
        };
        let remedy = remedy.map_or(String::new(), |remedy| format!("; type: {remedy}"));
        println!("{mark} {name:<20}{text}{remedy}");
    }
    match missing {
        0 => Ok(()),
        1 => Err(Error::argument("one component is missing or out of date")),
        _ => Err(Error::argument(format!("{missing} components are missing or out of date"))),
    }
}

fn rust() -> State {
    match evcxr::rustc() {
        Ok(text) => State::Good(text.lines().next().unwrap_or_default().to_string()),
        Err(_) => State::Bad("rustc doesn't start".into(), "see https://rustup.rs".into()),
    }
}

fn rust_src() -> State {
    if evcxr::has_rust_src() {
        return State::Good("the kernel finds the types of a cell's variables".into());
    }
    State::Bad("missing; cells can't find the types of most variables".into(), "rustup component add rust-src".into())
}

fn version(program: &str, remedy: &str) -> State {
    match system::output(Command::new(program).arg("--version")) {
        Some(text) => State::Good(text.lines().next().unwrap_or_default().to_string()),
        None => State::Bad("missing".into(), remedy.into()),
    }
}

fn python(repository: &Repository) -> State {
    let Some(overlay) = overlay::read(repository) else {
        return State::Bad("missing".into(), SETUP.into());
    };
    let script = "import torch, jupyterlab, nbclient, nbconvert, sys
print('Python', sys.version.split()[0], '· torch', torch.__version__, '· JupyterLab', jupyterlab.__version__)";
    match system::output(Command::new(repository.venv_bin("python")).args(["-c", script])) {
        Some(text) if overlay.own => State::Good(format!("{text} · your own, by --python")),
        Some(text) => State::Good(text),
        None => {
            let remedy = match overlay.own {
                true => format!("rm -r .venv; {SETUP}"),
                false => format!("rm -r .venv {}; {SETUP}", overlay.python.prefix.display()),
            };
            State::Bad("torch or Jupyter can't be imported".into(), remedy)
        }
    }
}

fn libtorch(repository: &Repository) -> State {
    let link = repository.venv().join("libtorch");
    match std::fs::read_to_string(link.join("version.py")) {
        Ok(_) if link.join("lib/libtorch_cpu.so").exists() || link.join("lib/libtorch_cpu.dylib").exists() => {
            let folder = link.canonicalize().unwrap_or(link);
            State::Good(folder.display().to_string())
        }
        _ => State::Bad(".venv/libtorch leads nowhere".into(), SETUP.into()),
    }
}

fn engine(repository: &Repository) -> State {
    match evcxr::find(repository) {
        Some(program) => State::Good(format!("on evcxr {} in {}", evcxr::VERSION, program.display())),
        None => State::Bad("not built from the present kernel/".into(), SETUP.into()),
    }
}

fn data() -> State {
    match vitlab_dataset::source::find(None) {
        Ok(found) if found.is_synthetic() => {
            State::Remark(found.to_string(), format!("unset {} for the real data", vitlab_dataset::source::VARIABLE))
        }
        Ok(found) => State::Good(found.to_string()),
        Err(_) => {
            let waiting = vitlab_dataset::download::unfinished(&vitlab_dataset::source::cache_folder());
            let part = if waiting > 0 {
                format!(", {:.1} MB of a download wait", waiting as f64 / 1e6)
            } else {
                String::new()
            };
            State::Bad(format!("not found{part}"), SETUP.into())
        }
    }
}

fn warm(repository: &Repository) -> State {
    let Ok(engine) = Engine::read(repository) else {
        return State::Bad("missing".into(), SETUP.into());
    };
    if evcxr::rustc().is_ok_and(|rustc| rustc != engine.rustc) {
        return State::Bad("made with another rustc".into(), SETUP.into());
    }
    match Warm::of(repository, &engine).is_fresh(repository) {
        Ok(true) => State::Good("first cells start in seconds".into()),
        _ => State::Bad("missing or older than crate/, so kernels build vitlab themselves".into(), SETUP.into()),
    }
}

fn kernel(repository: &Repository) -> State {
    if kernelspec::path(repository).is_file() && repository.venv_bin("lab").is_file() {
        return State::Good(format!("\"{}\" in .venv/share/jupyter/kernels", kernelspec::DISPLAY_NAME));
    }
    State::Bad("missing".into(), SETUP.into())
}
