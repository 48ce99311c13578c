//! The command line of `cargo lab`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::setup::Setup;
use lab::system::{Repository, Result};
use lab::{bench, check, course, doctor, export, hand_in, kernel, open, run, test};

/// Sets up, runs and tests the notebooks of vitlab
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
#[command(after_help = "Begin with:
  cargo lab run --quick    sets up whatever is missing, then executes the notebooks in minutes
  cargo lab open           JupyterLab with the kernel ready")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set up whatever is missing
    Setup(Setup),
    /// Execute notebooks on fresh kernels and write them, with an HTML copy, to outputs/
    Run(run::Run),
    /// Open JupyterLab on notebooks/ with the kernel ready
    Open(open::Open),
    /// Check whether notebooks are fit to hand in
    Check(check::Check),
    /// Write notebooks as PDF, HTML and slides to outputs/
    Export(export::Export),
    /// Write one zip file with notebooks, exports, weights and the crate, which runs on another machine
    HandIn(hand_in::HandIn),
    /// Make a course for nbgrader: assignments, tests that grade them, a page for teachers
    Course(course::Course),
    /// Run the tests
    Test(test::Test),
    /// Measure the speed, beside PyTorch in the same run
    Bench(bench::Bench),
    /// Show what is installed, what is missing and what to type
    #[command(after_help = "Example:
  cargo lab doctor    ends with status 1 when something is missing")]
    Doctor,
    /// Run a kernel for Jupyter
    #[command(hide = true)]
    Kernel(kernel::Kernel),
}

fn main() -> ExitCode {
    run_command(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run_command(command: Command) -> Result<ExitCode> {
    let repository = Repository::find;
    match command {
        Command::Setup(setup) => Setup { verbose: true, ..setup }.run(&repository()?).map(drop),
        Command::Run(run) => run.run(&repository()?),
        Command::Open(open) => open.run(&repository()?),
        Command::Check(check) => return check.run(&repository()?),
        Command::Export(export) => export.run(&repository()?),
        Command::HandIn(hand_in) => return hand_in.run(&repository()?),
        Command::Course(course) => course.run(&repository()?),
        Command::Test(test) => test.run(&repository()?),
        Command::Bench(bench) => bench.run(&repository()?),
        Command::Doctor => doctor::run(&repository()?),
        Command::Kernel(kernel) => return kernel.run(),
    }?;
    Ok(ExitCode::SUCCESS)
}
