//! `cargo lab doctor`: what is there, in which version, what is missing and what to type.

use std::process::Command;

use vitlab::{Error, Result};

use crate::engine::Engine;
use crate::repository::Repository;
use crate::warm::Warm;
use crate::{cache, environment, evcxr, kernelspec, overlay, system};

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
        ("evcxr_jupyter", engine()),
        ("FashionMNIST", data()),
        ("Warm build", warm(repository)),
        ("Kernel", kernel(repository)),
        (
            "Cache folder",
            State::Good(cache::home()?.display().to_string()),
        ),
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
        _ => Err(Error::argument(format!(
            "{missing} components are missing or out of date"
        ))),
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
        return State::Good("names of the standard library are completed in cells".into());
    }
    State::Remark(
        "missing; cells don't complete names of the standard library".into(),
        "rustup component add rust-src".into(),
    )
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
print('Python', '.'.join(map(str, sys.version_info[:3])), '· torch', torch.__version__, '· JupyterLab', jupyterlab.__version__)";
    let found = system::output(Command::new(repository.venv_bin("python")).args(["-c", script]));
    let expected = environment::read(&repository.environment_yml());
    match (found, expected) {
        (Some(text), Ok(_)) => State::Good(format!(
            "{text}{}",
            if overlay.own {
                " · your own, by --python"
            } else {
                ""
            }
        )),
        (None, _) => State::Bad(
            "torch or Jupyter can't be imported".into(),
            format!(
                "rm -r .venv {}, then {SETUP}",
                overlay.python.prefix.display()
            ),
        ),
        (_, Err(error)) => State::Bad(error.to_string(), "git checkout environment.yml".into()),
    }
}

fn libtorch(repository: &Repository) -> State {
    let link = repository.venv().join("libtorch");
    match std::fs::read_to_string(link.join("version.py")) {
        Ok(_)
            if link.join("lib/libtorch_cpu.so").exists()
                || link.join("lib/libtorch_cpu.dylib").exists() =>
        {
            let folder = link.canonicalize().unwrap_or(link);
            State::Good(folder.display().to_string())
        }
        _ => State::Bad(".venv/libtorch leads nowhere".into(), SETUP.into()),
    }
}

fn engine() -> State {
    match evcxr::find() {
        Some(program) => State::Good(format!("{} in {}", evcxr::VERSION, program.display())),
        None => State::Bad(format!("no version {}", evcxr::VERSION), SETUP.into()),
    }
}

fn data() -> State {
    match vitlab::data::source::find(None) {
        Ok(found) if found.is_synthetic() => State::Remark(
            found.to_string(),
            format!("unset {} for the real data", vitlab::data::source::VARIABLE),
        ),
        Ok(found) => State::Good(found.to_string()),
        Err(_) => {
            let waiting = crate::data::unfinished(&vitlab::data::source::cache_folder());
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
    let fresh = Engine::read(repository)
        .and_then(|engine| Warm::of(repository, &engine)?.is_fresh(repository));
    match fresh {
        Ok(true) => State::Good("first cells start in seconds".into()),
        Ok(false) => State::Bad(
            "missing or older than crate/, so kernels build vitlab themselves".into(),
            SETUP.into(),
        ),
        Err(_) => State::Bad("missing".into(), SETUP.into()),
    }
}

fn kernel(repository: &Repository) -> State {
    if kernelspec::path(repository).is_file() && repository.venv_bin("lab").is_file() {
        return State::Good(format!(
            "\"{}\" in .venv/share/jupyter/kernels",
            kernelspec::DISPLAY_NAME
        ));
    }
    State::Bad("missing".into(), SETUP.into())
}
