//! `cargo lab test`: every test, after setting up what they need.

use std::process::Command;

use vitlab::{Error, Result};

use crate::repository::Repository;
use crate::setup::{self, Setup};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab test                           every test
  cargo lab test -- --package vitlab       arguments after -- go to `cargo test`
  cargo lab test -- --test model -- views  only tests of tests/model.rs with `views` in their name")]
pub struct Test {
    /// Arguments for `cargo test`
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    pub fn run(&self, repository: &Repository) -> Result<()> {
        Setup {
            python: None,
            data: None,
            verbose: false,
        }
        .run(repository)?;
        let mut cargo = Command::new("cargo");
        cargo.arg("test");
        if !self
            .arguments
            .iter()
            .any(|argument| ["-p", "--package", "--workspace"].contains(&argument.as_str()))
        {
            cargo.arg("--workspace");
        }
        show(cargo.args(&self.arguments).current_dir(&repository.root))?;
        if self.arguments.is_empty() {
            let mut pytest = setup::program(repository, "python");
            show(
                pytest
                    .args(["-m", "pytest", "tests"])
                    .current_dir(&repository.root),
            )?;
        }
        Ok(())
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
