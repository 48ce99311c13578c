//! The command line of `cargo lab`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::kernel::start;
use lab::setup::Setup;
use lab::setup::warm::WarmBuild;
use lab::system::repository::Repository;
use lab::{bench, doctor, open, run, test};
use vitlab_dataset::Result;

#[derive(Parser)]
#[command(
    name = "cargo lab",
    bin_name = "cargo lab",
    about = "Sets up, runs and tests the notebooks of vitlab",
    version
)]
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
    /// Run every test
    Test(test::Test),
    /// Measure the speed, beside PyTorch in the same run
    Bench(bench::Bench),
    /// Show what is installed, what is missing and what to type
    #[command(after_help = "Example:
  cargo lab doctor    ends with status 1 when something is missing")]
    Doctor,
    /// Run a kernel for Jupyter
    #[command(hide = true)]
    Kernel {
        /// Run evcxr_jupyter without vitlab's additions
        #[arg(long)]
        plain: bool,
        connection_file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run_command(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_command(command: Command) -> Result<ExitCode> {
    match command {
        Command::Setup(setup) => drop(Setup { verbose: true, ..setup }.run(&Repository::find()?)?),
        Command::Run(run) => run.run(&Repository::find()?)?,
        Command::Open(open) => open.run(&Repository::find()?)?,
        Command::Test(test) => test.run(&Repository::find()?)?,
        Command::Bench(bench) => bench.run(&Repository::find()?)?,
        Command::Doctor => doctor::run(&Repository::find()?)?,
        Command::Kernel { plain, connection_file } => {
            let status = start::run(&connection_file, plain, |repository, launch, folder| {
                WarmBuild::of(repository, launch).copy_to(folder)
            })?;
            return Ok(ExitCode::from(status.clamp(0, 255) as u8));
        }
    }
    Ok(ExitCode::SUCCESS)
}
