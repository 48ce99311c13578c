//! `cargo lab`: the commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::repository::Repository;
use lab::setup::{self, Setup};
use lab::{bench, doctor, kernel, run, test};
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
    #[command(after_help = "Examples:
  cargo lab setup                                        everything in the cache folder (VITLAB_HOME moves it)
  cargo lab setup --python $CONDA_PREFIX/bin/python      on a Python environment of your own; remove .venv to go back
  cargo lab setup --data ~/datasets                      with FashionMNIST from there")]
    Setup {
        /// A Python environment of your own with what environment.yml lists [env: VITLAB_PYTHON]
        #[arg(long, value_name = "PROGRAM")]
        python: Option<PathBuf>,
        /// Folder with FashionMNIST's four files, or `synthetic` [env: VITLAB_DATA]
        #[arg(long, value_name = "DIR|synthetic")]
        data: Option<String>,
    },
    /// Execute notebooks on fresh kernels and write them, with an HTML copy, to outputs/
    Run(run::Run),
    /// Open JupyterLab on notebooks/ with the kernel ready
    #[command(after_help = "Examples:
  cargo lab open
  cargo lab open -- --no-browser --port 8890    arguments after -- go to JupyterLab")]
    Open {
        /// Arguments for JupyterLab
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run every test
    Test(test::Test),
    /// Measure how fast this is, beside PyTorch in the same run
    Bench(bench::Bench),
    /// Show what is installed, what is missing and what to type
    #[command(after_help = "Example:
  cargo lab doctor    ends with status 1 when something is missing")]
    Doctor,
    /// What Jupyter starts for a notebook
    #[command(hide = true)]
    Kernel {
        /// As evcxr_jupyter is, without what vitlab adds
        #[arg(long)]
        plain: bool,
        connection_file: PathBuf,
    },
}

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> Result<ExitCode> {
    if let Command::Kernel { plain, connection_file } = command {
        let status = kernel::run(&connection_file, plain)?;
        return Ok(ExitCode::from(status.clamp(0, 255) as u8));
    }
    let repository = Repository::find()?;
    match command {
        Command::Setup { python, data } => {
            Setup { python, data, verbose: true }.run(&repository)?;
        }
        Command::Run(run) => run.run(&repository)?,
        Command::Open { arguments } => {
            Setup { python: None, data: None, verbose: false }.run(&repository)?;
            let mut jupyter = setup::program(&repository, "jupyter");
            test::show(
                jupyter
                    .arg("lab")
                    .arg(repository.notebooks())
                    .arg("--MultiKernelManager.default_kernel_name=vitlab")
                    .args(arguments),
            )?;
        }
        Command::Test(test) => test.run(&repository)?,
        Command::Bench(bench) => bench.run(&repository)?,
        Command::Doctor => doctor::run(&repository)?,
        Command::Kernel { .. } => unreachable!("handled above"),
    }
    Ok(ExitCode::SUCCESS)
}
