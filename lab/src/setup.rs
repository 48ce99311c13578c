//! `cargo lab setup`: everything the notebooks need, each step only when its result isn't there yet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use vitlab_dataset::Result;
use vitlab_dataset::source::{self, Source};

use crate::engine::Engine;
use crate::python::Python;
use crate::repository::Repository;
use crate::step::{Step, seconds};
use crate::warm::Warm;
use crate::{cache, data, environment, evcxr, kernelspec, overlay, python, system};

/// Names the user's own Python, as `--python` does.
pub const PYTHON_VARIABLE: &str = "VITLAB_PYTHON";

pub struct Setup {
    /// A Python environment of the user's own.
    pub python: Option<PathBuf>,
    /// A data folder, or `synthetic`.
    pub data: Option<String>,
    /// Speak of what is there already, too.
    pub verbose: bool,
}

/// What is ready after a set-up.
pub struct Ready {
    pub data: Source,
    pub engine: Engine,
}

impl Setup {
    pub fn run(&self, repository: &Repository) -> Result<Ready> {
        let started = Instant::now();
        if self.verbose {
            eprintln!(
                "Setting up {}; what is shared by all clones is kept in {}",
                repository.root.display(),
                cache::home()?.display()
            );
        }
        let first = overlay::read(repository).is_none();
        // The data first: a folder that was named in vain should be told at once.
        let step = Step::new("FashionMNIST");
        let before = source::find(self.data.as_deref()).is_ok();
        let data = data::install(self.data.as_deref(), &step)?;
        self.finish(step, !before, &data.to_string());
        if data.is_synthetic() {
            eprintln!(
                "! the data is a synthetic stand-in, not FashionMNIST: good for trying things out, not for results"
            );
        }
        let python = self.python(repository)?;
        let kernel = self.kernel(repository)?;
        if first || self.verbose {
            rust_src();
        }
        let engine = Engine::new(kernel, python.libtorch()?)?;
        let step = Step::new("Warm build of the kernel");
        let built = Warm::of(repository, &engine).install(repository, &engine, &python, &step)?;
        self.finish(step, built, "first cells start in seconds");
        engine.write(repository)?;
        kernelspec::install(repository)?;
        if self.verbose {
            eprintln!(
                "✓ Kernelspec: \"{}\" in .venv\nReady after {}. Next: cargo lab run, cargo lab open",
                kernelspec::DISPLAY_NAME,
                seconds(started.elapsed())
            );
        }
        Ok(Ready { data, engine })
    }

    /// The environment and the clone's layer on it.
    fn python(&self, repository: &Repository) -> Result<Python> {
        let environment = environment::read(&repository.environment_yml())?;
        let step = Step::new("Python environment");
        let there = overlay::read(repository);
        let own = self
            .python
            .clone()
            .or_else(|| std::env::var_os(PYTHON_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from));
        // A choice made once holds for later set-ups of the clone.
        let own = own.or_else(|| there.filter(|overlay| overlay.own).map(|overlay| overlay.python.executable));
        let before = python::cached(&environment).is_some();
        let python = match &own {
            Some(executable) => python::own(executable, &environment, &step)?,
            None => python::install(&environment, &step)?,
        };
        python::ensure_compiler(&step)?;
        let _lock = cache::lock(&format!("overlay-{}", cache::key(&[&repository.root.to_string_lossy()])), &step)?;
        let linked = overlay::install(repository, &python, own.is_some(), &step)?;
        let (major, minor, patch) = python.version;
        self.finish(
            step,
            linked || (own.is_none() && !before),
            &format!("Python {major}.{minor}.{patch} in {}", python.prefix.display()),
        );
        Ok(python)
    }

    fn kernel(&self, repository: &Repository) -> Result<PathBuf> {
        let step = Step::new(format!("Kernel on evcxr {}", evcxr::VERSION));
        let before = evcxr::find(repository).is_some();
        let program = evcxr::install(repository, &step)?;
        self.finish(step, !before, &program.display().to_string());
        Ok(program)
    }

    fn finish(&self, step: Step, worked: bool, result: &str) {
        if worked || self.verbose { step.done(result) } else { step.nothing() }
    }
}

/// The standard library's sources: without them evcxr finds the types of few variables.
fn rust_src() {
    if evcxr::has_rust_src() {
        return;
    }
    let step = Step::new("rust-src");
    step.line("rustup component add rust-src");
    if system::succeeds(Command::new("timeout").args(["60", "rustup", "component", "add", "rust-src"])) {
        return step.done("the kernel finds the types of variables");
    }
    step.nothing();
    eprintln!(
        "! rust-src couldn't be added, so cells won't find the types of most variables: `let v = vec![1];` fails. Add it with `rustup component add rust-src`, or your distribution's package of that name"
    );
}

/// The environment that a program of the overlay is started with.
pub fn program(repository: &Repository, name: &str) -> Command {
    let mut command = Command::new(repository.venv_bin(name));
    let bin = repository.venv().join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(bin).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(path).expect("paths that came from a list"));
    command.env("VIRTUAL_ENV", repository.venv());
    command
}

/// `path` as a user would write it from the clone's root.
pub fn relative<'a>(repository: &Repository, path: &'a Path) -> &'a Path {
    path.strip_prefix(&repository.root).unwrap_or(path)
}
