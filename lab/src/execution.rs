//! Executes a notebook on a fresh kernel, through execute.py: for `cargo lab run` and `cargo lab check --run`.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use vitlab_dataset::source::{self, Source};

use crate::setup::{Ready, Setup, kernelspec, venv};
use crate::system::process::{self, OutputEvent};
use crate::system::{Error, Progress, Repository, Result, human_duration};

/// The way in which notebooks are executed.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// Train on a small subset for few epochs; the outputs are named NOTEBOOK-quick
    #[arg(long)]
    pub quick: bool,
    /// Load the committed weights instead of training (the homework's LOAD_MODEL); the outputs are named NOTEBOOK-loaded
    #[arg(long, conflicts_with = "quick")]
    pub load_model: bool,
    /// Folder with FashionMNIST's four files, or `synthetic`
    #[arg(long, value_name = "DIR|synthetic")]
    pub data: Option<String>,
}

/// Why an execution ended early.
pub struct Stopped {
    /// A sentence, with the traceback of the cell that failed below it.
    pub message: String,
    /// True if a cell failed, so that the new file holds the cells up to there.
    pub written: bool,
}

/// Executes notebooks of a clone that is set up. Ctrl-C ends the running one.
pub struct Executor<'a> {
    repository: &'a Repository,
    ready: Ready,
    options: &'a Options,
    interrupted: Arc<AtomicBool>,
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

impl<'a> Executor<'a> {
    /// Sets the clone up.
    ///
    /// # Errors
    /// Fails if the set-up fails.
    pub fn new(repository: &'a Repository, options: &'a Options) -> Result<Self> {
        let ready = Setup { data: options.data.clone(), ..Setup::default() }.run(repository)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        // Ctrl-C also reaches execute.py, which ends its kernel. This process waits for it.
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
            .map_err(|error| Error::argument(format!("signals can't be handled: {error}")))?;
        Ok(Executor { repository, ready, options, interrupted })
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Executes `notebook` into the new file `ipynb`. A cell that fails ends the execution; the file then holds the cells up to
    /// there.
    ///
    /// # Errors
    /// Fails with the reason, without the notebook's name.
    pub fn execute(&self, notebook: &Path, ipynb: &Path, progress: &Progress) -> Result<(), Stopped> {
        run_executor(&mut self.command(notebook, ipynb), progress)
    }

    /// Returns the command that runs execute.py on a notebook and writes it to `ipynb`.
    fn command(&self, notebook: &Path, ipynb: &Path) -> Command {
        let (repository, ready) = (self.repository, &self.ready);
        let data = if ready.data.is_synthetic() { "synthetic" } else { "FashionMNIST" };
        let job = json!({
            "notebook": notebook,
            "folder": repository.notebooks(),
            "kernel": kernelspec::NAME,
            "display_name": kernelspec::DISPLAY_NAME,
            "metadata": { "quick": self.options.quick, "data": data },
            "written": ipynb,
            "removed": machine_folders(repository, ready),
        });
        let mut command = venv::command(repository, "python");
        command.args(["-I", "-c", include_str!("python/execute.py"), &job.to_string()]);
        match &ready.data {
            Source::Folder(folder) => command.env(source::VARIABLE, folder),
            Source::Synthetic => command.env(source::VARIABLE, "synthetic"),
        };
        command.env_remove("VITLAB_QUICK").envs(self.options.quick.then_some(("VITLAB_QUICK", "1")));
        command.env_remove("VITLAB_LOAD_MODEL").envs(self.options.load_model.then_some(("VITLAB_LOAD_MODEL", "1")));
        command
    }
}

/// Runs execute.py to its end and shows its reports.
fn run_executor(command: &mut Command, progress: &Progress) -> Result<(), Stopped> {
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
    let unwritten = |message| Stopped { message, written: false };
    let status = status.map_err(|error| unwritten(format!("can't be executed ({error}); run `cargo lab setup`")))?;
    match (failure, status.code()) {
        (Some(failure), _) => Err(Stopped { message: failure.sentence(), written: failure.position.is_some() }),
        (None, Some(0)) => Ok(()),
        (None, Some(130)) => Err(unwritten("was interrupted".to_string())),
        (None, _) => {
            let last = remarks.join("\n");
            let problem = format!("the executor ended with {status}; see `cargo lab doctor`. Its last lines:\n{last}");
            Err(unwritten(problem))
        }
    }
}

impl Failure {
    fn sentence(&self) -> String {
        let Some(position) = self.position else { return self.message.clone() };
        let count = self.count.map_or(String::new(), |count| format!(", [{count}]"));
        let mut text = format!("cell {position}{count}: {}", self.message);
        if let Some(traceback) = self.traceback.as_ref().filter(|text| text.trim() != self.message) {
            text += &format!("\n\n{}\n", traceback.trim_end());
        }
        text
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
