//! `cargo lab doctor`: what is installed in which version, what is missing and what to type.

use std::process::Command;

use vitlab_dataset::{Error, Result, download, source};

use crate::setup::launch::Launch;
use crate::setup::warm::WarmBuild;
use crate::setup::{kernel_build, kernelspec, venv};
use crate::system::repository::Repository;
use crate::system::{cache, process, toolchain};

/// The state of a component.
enum State {
    Good(String),
    /// Unusual, but the notebooks work: a description, and what to type.
    Warning(String, String),
    /// Missing or out of date: the problem, and what to type.
    Missing(String, String),
}

use State::{Good, Missing, Warning};

const SETUP: &str = "cargo lab setup";

fn missing(problem: &str, remedy: &str) -> State {
    Missing(problem.into(), remedy.into())
}

/// Prints a line for each component.
///
/// # Errors
/// Fails if a component that the notebooks need is missing.
pub fn run(repository: &Repository) -> Result<()> {
    let rows = [
        ("Rust", rust()),
        ("rust-src", rust_src()),
        ("C++ compiler", compiler()),
        ("Python environment", python(repository)),
        ("libtorch", libtorch(repository)),
        ("Kernel's program", kernel_program(repository)),
        ("FashionMNIST", data()),
        ("Warm build", warm_build(repository)),
        ("Kernel", kernelspec(repository)),
        ("Cache folder", Good(cache::home()?.display().to_string())),
    ];
    let mut count = 0;
    for (name, state) in rows {
        match state {
            Good(text) => println!("✓ {name:<20}{text}"),
            Warning(text, remedy) => println!("! {name:<20}{text}; type: {remedy}"),
            Missing(text, remedy) => {
                count += 1;
                println!("✗ {name:<20}{text}; type: {remedy}");
            }
        }
    }
    match count {
        0 => Ok(()),
        1 => Err(Error::argument("one component is missing or out of date")),
        _ => Err(Error::argument(format!("{count} components are missing or out of date"))),
    }
}

fn first_line(text: String) -> State {
    Good(text.lines().next().unwrap_or_default().to_string())
}

fn rust() -> State {
    toolchain::rustc().map_or_else(|_| missing("rustc doesn't start", "see https://rustup.rs"), first_line)
}

fn rust_src() -> State {
    match toolchain::has_rust_src() {
        true => Good("the kernel finds the types of a cell's variables".into()),
        false => missing("missing; cells can't find the types of most variables", "rustup component add rust-src"),
    }
}

fn compiler() -> State {
    let version = process::output(Command::new("c++").arg("--version"));
    version.map_or_else(|| missing("missing", "apt-get install g++"), first_line)
}

fn python(repository: &Repository) -> State {
    let Some(venv) = venv::read(repository) else {
        return missing("missing", SETUP);
    };
    let script = "import torch, jupyterlab, nbclient, nbconvert, sys
print('Python', sys.version.split()[0], '· torch', torch.__version__, '· JupyterLab', jupyterlab.__version__)";
    match process::output(Command::new(repository.venv_bin("python")).args(["-c", script])) {
        Some(text) if venv.own => Good(format!("{text} · your own, by --python")),
        Some(text) => Good(text),
        None => {
            let remedy = match venv.own {
                true => format!("rm -r .venv; {SETUP}"),
                false => format!("rm -r .venv {}; {SETUP}", venv.python.prefix.display()),
            };
            missing("torch or Jupyter can't be imported", &remedy)
        }
    }
}

fn libtorch(repository: &Repository) -> State {
    let link = repository.venv().join("libtorch");
    let library = ["lib/libtorch_cpu.so", "lib/libtorch_cpu.dylib"].iter().any(|name| link.join(name).exists());
    match link.join("version.py").is_file() && library {
        true => Good(link.canonicalize().unwrap_or(link).display().to_string()),
        false => missing(".venv/libtorch leads nowhere", SETUP),
    }
}

fn kernel_program(repository: &Repository) -> State {
    match kernel_build::find(repository) {
        Some(program) => Good(format!("on evcxr {} in {}", kernel_build::EVCXR_VERSION, program.display())),
        None => missing("not built from the present kernel/", SETUP),
    }
}

fn data() -> State {
    match source::find(None) {
        Ok(found) if found.is_synthetic() => {
            Warning(found.to_string(), format!("unset {} for the real data", source::VARIABLE))
        }
        Ok(found) => Good(found.to_string()),
        Err(_) => match download::unfinished(&source::cache_folder()) {
            0 => missing("not found", SETUP),
            bytes => missing(&format!("not found, {:.1} MB are downloaded", bytes as f64 / 1e6), SETUP),
        },
    }
}

fn warm_build(repository: &Repository) -> State {
    let Ok(launch) = Launch::read(repository) else {
        return missing("missing", SETUP);
    };
    if toolchain::rustc().is_ok_and(|rustc| rustc != launch.rustc) {
        return missing("built with another rustc", SETUP);
    }
    match WarmBuild::of(repository, &launch).is_fresh() {
        Ok(true) => Good("first cells start in seconds".into()),
        _ => missing("missing or older than vitlab's sources, so kernels build vitlab themselves", SETUP),
    }
}

fn kernelspec(repository: &Repository) -> State {
    match kernelspec::path(repository).is_file() && repository.venv_bin("lab").is_file() {
        true => Good(format!("\"{}\" in .venv/share/jupyter/kernels", kernelspec::DISPLAY_NAME)),
        false => missing("missing", SETUP),
    }
}
