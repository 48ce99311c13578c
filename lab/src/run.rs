//! `cargo lab run`: executes notebooks on fresh kernels and writes them, with an HTML copy, to outputs/.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use vitlab_dataset::source::{self, Source};

use crate::setup::{Ready, Setup, kernelspec, venv};
use crate::system::process::{self, OutputEvent};
use crate::system::{Error, Progress, Repository, Result, file, human_duration};

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
    /// Train on a small subset for few epochs; the outputs are named NOTEBOOK-quick
    #[arg(long)]
    quick: bool,
    /// Load the committed weights instead of training (the homework's LOAD_MODEL); the outputs are named NOTEBOOK-loaded
    #[arg(long, conflicts_with = "quick")]
    load_model: bool,
    /// Folder with FashionMNIST's four files, or `synthetic`
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    /// Write the executed notebook over the original as well
    #[arg(long, conflicts_with_all = ["quick", "load_model"])]
    in_place: bool,
    /// Folder to write to [default: outputs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A report of execute.py, one line of its standard output.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Report {
    Start { cells: usize },
    Cell { number: usize, title: String },
    Line { text: String },
    Failed(Failure),
    Done,
}

#[derive(Deserialize)]
struct Failure {
    /// Position among all cells, from 1; none if no cell has failed.
    position: Option<usize>,
    /// The number in brackets that the executed notebook shows.
    count: Option<usize>,
    message: String,
    traceback: Option<String>,
}

impl Run {
    /// Sets the clone up, then executes the selected notebooks in order.
    ///
    /// # Errors
    /// Fails if a notebook isn't found, the output folder can't be written, the set-up fails or a cell fails.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let notebooks = repository.select_notebooks(&self.notebooks)?;
        let out = self.out.clone().unwrap_or_else(|| repository.root.join("outputs"));
        fs::create_dir_all(&out).and_then(|()| tempfile::tempfile_in(&out)).map_err(|error| {
            Error::file(&out, format!("can't be written to ({error}); name another folder with --out"))
        })?;
        let ready = Setup { data: self.data.clone(), ..Setup::default() }.run(repository)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        // Ctrl-C also reaches execute.py, which ends its kernel. This process waits for it.
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
            .map_err(|error| Error::argument(format!("signals can't be handled: {error}")))?;
        for notebook in &notebooks {
            let outcome = self.execute(repository, &ready, notebook, &out);
            if interrupted.load(Ordering::Relaxed) {
                return Err(Error::argument("interrupted; the output folder holds the notebooks executed so far"));
            }
            outcome?;
        }
        Ok(())
    }

    fn execute(&self, repository: &Repository, ready: &Ready, notebook: &Path, out: &Path) -> Result<()> {
        let (suffix, note) = match (self.quick, self.load_model) {
            (true, _) => ("-quick", " (quick)"),
            (_, true) => ("-loaded", " (loaded)"),
            _ => ("", ""),
        };
        let shown = repository.relative(notebook).display();
        let name = notebook.file_stem().expect("a notebook's name").to_string_lossy();
        let ipynb = out.join(format!("{name}{suffix}.ipynb"));
        let before = file::read(notebook)?;
        let mut command = self.executor(repository, ready, notebook, &ipynb);
        let progress = Progress::new(format!("{shown}{note}"));
        run_executor(&mut command, &ipynb, &progress)
            .map_err(|problem| Error::argument(format!("{shown}: {problem}")))?;
        let written = repository.relative(&ipynb).display();
        if self.in_place {
            if file::read(notebook)? != before {
                let problem = "was edited during its execution and stays as it is; the executed notebook is";
                return Err(Error::argument(format!("{shown} {problem} {written}")));
            }
            file::write(notebook, &file::read(&ipynb)?)?;
        }
        progress.finish(&format!("{written} and .html"));
        Ok(())
    }

    /// Returns the command that runs execute.py on a notebook and writes it to `ipynb`.
    fn executor(&self, repository: &Repository, ready: &Ready, notebook: &Path, ipynb: &Path) -> Command {
        let data = if ready.data.is_synthetic() { "synthetic" } else { "FashionMNIST" };
        let job = json!({
            "notebook": notebook,
            "folder": repository.notebooks(),
            "kernel": kernelspec::NAME,
            "display_name": kernelspec::DISPLAY_NAME,
            "metadata": { "quick": self.quick, "data": data },
            "written": ipynb,
            "html": ipynb.with_extension("html"),
            "removed": machine_folders(repository, ready),
        });
        let mut command = venv::command(repository, "python");
        command.args(["-I", "-c", include_str!("python/execute.py"), &job.to_string()]);
        match &ready.data {
            Source::Folder(folder) => command.env(source::VARIABLE, folder),
            Source::Synthetic => command.env(source::VARIABLE, "synthetic"),
        };
        command.env_remove("VITLAB_QUICK").envs(self.quick.then_some(("VITLAB_QUICK", "1")));
        command.env_remove("VITLAB_LOAD_MODEL").envs(self.load_model.then_some(("VITLAB_LOAD_MODEL", "1")));
        command
    }
}

/// Runs execute.py to its end and shows its reports. The error lacks the notebook's name, which the caller adds.
fn run_executor(command: &mut Command, ipynb: &Path, progress: &Progress) -> Result<(), String> {
    let (mut cells, mut activity, mut since) = (0, String::from("starting the kernel"), Instant::now());
    let (mut failure, mut remarks) = (None, Vec::new());
    progress.message(&activity);
    let status = process::follow(command, |event| {
        let mut report = None;
        match event {
            OutputEvent::Stdout(line) => report = serde_json::from_str(&line).ok(),
            OutputEvent::Stderr(line) => {
                // "   Compiling rand v0.10.0": a dependency that isn't in the warm build.
                if line.trim().starts_with("Compiling ") {
                    progress.message(&format!("{activity} · {}", line.trim()));
                }
                remarks.push(line);
                remarks.drain(..remarks.len().saturating_sub(10));
            }
            OutputEvent::Idle => progress.message(&format!("{activity} · {}", human_duration(since.elapsed()))),
            OutputEvent::StdoutEnd => return ControlFlow::Break(()),
        }
        match report {
            Some(Report::Start { cells: total }) => cells = total,
            Some(Report::Cell { number, title }) => {
                if number > 1 && since.elapsed() > Duration::from_secs(20) {
                    progress.print_line(&format!("{activity} took {}", human_duration(since.elapsed())));
                }
                activity = format!("cell {number} of {cells}: {title}");
                since = Instant::now();
                progress.message(&activity);
            }
            Some(Report::Line { text }) => {
                progress.message(&format!("{activity} · {} · {text}", human_duration(since.elapsed())));
            }
            Some(Report::Failed(report)) => failure = Some(report),
            Some(Report::Done) | None => {}
        }
        ControlFlow::Continue(())
    });
    let status = status.map_err(|error| format!("can't be executed ({error}); run `cargo lab setup`"))?;
    match (failure, status.code()) {
        (Some(failure), _) => Err(failure.sentence(ipynb)),
        (None, Some(0)) => Ok(()),
        (None, Some(130)) => Err("was interrupted".to_string()),
        (None, _) => {
            let last = remarks.join("\n");
            Err(format!("the executor ended with {status}; see `cargo lab doctor`. Its last lines:\n{last}"))
        }
    }
}

impl Failure {
    fn sentence(&self, ipynb: &Path) -> String {
        let Some(position) = self.position else { return self.message.clone() };
        let count = self.count.map_or(String::new(), |count| format!(", [{count}]"));
        let mut text = format!("cell {position}{count}: {}", self.message);
        if let Some(traceback) = self.traceback.as_ref().filter(|text| text.trim() != self.message) {
            text += &format!("\n\n{}\n", traceback.trim_end());
        }
        text + &format!("\nThe cells up to there were executed into {}", ipynb.display())
    }
}

/// Returns the folders of this machine and their replacements in an executed notebook, the longest first.
fn machine_folders(repository: &Repository, ready: &Ready) -> Vec<(String, &'static str)> {
    let root = repository.root.display();
    let home = std::env::var_os("HOME").filter(|home| home.len() > 1);
    let mut folders = vec![
        (format!("{root}/"), ""),
        (root.to_string(), "."),
        (ready.launch.home.display().to_string(), "VITLAB_HOME"),
    ];
    if let Source::Folder(folder) = &ready.data {
        folders.push((folder.display().to_string(), "FashionMNIST"));
    }
    folders.extend(home.map(|home| (home.to_string_lossy().into_owned(), "~")));
    folders.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
    folders
}
