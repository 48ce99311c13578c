//! `cargo lab test`: every test, after setting up what they need.

use std::process::Command;

use vitlab_dataset::{Error, Result};

use crate::evcxr;
use crate::repository::Repository;
use crate::setup::{self, Setup};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab test                           every test
  cargo lab test -- --test model views     only tests of tests/model.rs with `views` in their name
  cargo lab test -- -p lab                 only the tests of set-up, kernel and run")]
pub struct Test {
    /// Arguments for `cargo test`, which tests the package vitlab unless they name another
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    pub fn run(&self, repository: &Repository) -> Result<()> {
        Setup { python: None, data: None, verbose: false }.run(repository)?;
        let cargo_test = |arguments: &[String]| {
            let mut cargo = Command::new("cargo");
            cargo.arg("test").args(arguments);
            show(cargo.current_dir(&repository.root))
        };
        if !self.arguments.is_empty() {
            return cargo_test(&self.arguments);
        }
        // One after the other: together, cargo would link lab with libtorch, which only the crate's features ask for.
        for package in ["vitlab", "lab"] {
            cargo_test(&["--locked", "--package", package].map(String::from))?;
        }
        // Where set-up compiled what it depends on.
        let mut kernel = Command::new("cargo");
        kernel
            .args(["test", "--locked", "--release", "--manifest-path"])
            .arg(repository.kernel().join("Cargo.toml"))
            .arg("--target-dir")
            .arg(evcxr::target());
        evcxr::clean_cargo(&mut kernel);
        show(&mut kernel)?;
        let mut pytest = setup::program(repository, "python");
        // Much of the time these wait.
        let pytest = pytest.args(["-m", "pytest", "tests", "-n", "2", "--dist", "loadfile"]);
        show(pytest.current_dir(&repository.root))
    }
}

/// Runs a command in the foreground after printing it.
pub fn show(command: &mut Command) -> Result<()> {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let text = words.join(" ");
    eprintln!("$ {text}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::argument(format!("`{text}` failed ({status})"))),
        Err(error) => Err(Error::argument(format!("`{text}` can't be run ({error})"))),
    }
}
