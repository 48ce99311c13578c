//! `cargo lab open`: JupyterLab on notebooks/ with the kernel ready.

use crate::setup::{Setup, venv};
use crate::system::{Repository, Result, process};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab open
  cargo lab open -- --no-browser --port 8890    arguments after -- go to JupyterLab")]
pub struct Open {
    /// Arguments for JupyterLab
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Open {
    /// Sets the clone up, then runs JupyterLab until the user ends it.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        Setup::default().run(repository)?;
        let mut jupyter = venv::command(repository, "jupyter");
        jupyter.arg("lab").arg(repository.notebooks());
        jupyter.arg("--MultiKernelManager.default_kernel_name=vitlab");
        process::run_in_foreground(jupyter.args(&self.arguments))
    }
}
