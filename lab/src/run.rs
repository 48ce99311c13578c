//! `cargo lab run`: executes notebooks on fresh kernels and writes them, with an HTML copy, to outputs/.

use std::path::{Path, PathBuf};

use crate::execution::{Executor, Options, Stopped};
use crate::export;
use crate::system::{Error, Progress, Repository, Result, file};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab run                                 all notebooks of notebooks/
  cargo lab run 0_vision_transformer --quick    one of them, in minutes on a small subset
  cargo lab run 2                               a unique beginning of its name is enough
  cargo lab run --load-model                    all of them with the committed weights, nothing is trained
  cargo lab run --data synthetic --quick        on a generated stand-in for FashionMNIST
  cargo lab run 0 --in-place                    renew the outputs of the notebook itself, too")]
pub struct Run {
    /// Notebooks by name, unique beginning of the name, or path [default: all of notebooks/]
    notebooks: Vec<String>,
    #[command(flatten)]
    options: Options,
    /// Write the executed notebook over the original as well
    #[arg(long, conflicts_with_all = ["quick", "load_model"])]
    in_place: bool,
    /// Folder to write to [default: outputs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Run {
    /// Sets the clone up, then executes the selected notebooks in order.
    ///
    /// # Errors
    /// Fails if a notebook isn't found, the output folder can't be written, the set-up fails or a cell fails.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let notebooks = repository.select_notebooks(&self.notebooks)?;
        let out = export::folder(repository, self.out.as_deref())?;
        let executor = Executor::new(repository, &self.options)?;
        for notebook in &notebooks {
            let outcome = self.execute(repository, &executor, notebook, &out);
            if executor.is_interrupted() {
                return Err(Error::argument("interrupted; the output folder holds the notebooks executed so far"));
            }
            outcome?;
        }
        Ok(())
    }

    fn execute(&self, repository: &Repository, executor: &Executor, notebook: &Path, out: &Path) -> Result<()> {
        let (suffix, note) = match (self.options.quick, self.options.load_model) {
            (true, _) => ("-quick", " (quick)"),
            (_, true) => ("-loaded", " (loaded)"),
            _ => ("", ""),
        };
        let shown = repository.relative(notebook).display();
        let name = notebook.file_stem().expect("a notebook's name").to_string_lossy();
        let ipynb = out.join(format!("{name}{suffix}.ipynb"));
        let before = file::read(notebook)?;
        let progress = Progress::new(format!("{shown}{note}"));
        let outcome = executor.execute(notebook, &ipynb, &progress);
        let html = match outcome.as_ref().err().is_none_or(|stopped| stopped.written) {
            true => {
                progress.message("writing the HTML copy");
                let pictures = notebook.parent().expect("a notebook's folder");
                export::html(repository, &ipynb, &ipynb.with_extension("html"), pictures, &progress)
            }
            false => Ok(()),
        };
        let written = repository.relative(&ipynb).display();
        outcome.map_err(|Stopped { message, written: partly }| {
            let note =
                if partly { format!("\nThe cells up to there were executed into {written}") } else { String::new() };
            Error::argument(format!("{shown}: {message}{note}"))
        })?;
        if self.in_place {
            if file::read(notebook)? != before {
                let problem = "was edited during its execution and stays as it is; the executed notebook is";
                return Err(Error::argument(format!("{shown} {problem} {written}")));
            }
            file::write(notebook, &file::read(&ipynb)?)?;
        }
        // Last, because the execution took longer than a copy that can be exported again.
        html?;
        progress.finish(&format!("{written} and .html"));
        Ok(())
    }
}
