//! `cargo lab run`: executes notebooks on fresh kernels and writes them, with an HTML copy, to outputs/.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use vitlab_dataset::source::Source;
use vitlab_dataset::{Error, Result};

use crate::repository::Repository;
use crate::setup::{self, Ready, Setup};
use crate::step::{Step, seconds};
use crate::{cache, data, kernelspec, select};

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
    /// A small subset and few epochs; the outputs are named NOTEBOOK-quick
    #[arg(long)]
    quick: bool,
    /// With the committed weights instead of the trainings (the homework's LOAD_MODEL); the outputs are named NOTEBOOK-loaded
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

/// What execute.py tells.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Start { cells: usize },
    Cell { number: usize, title: String },
    Line { text: String },
    Failed(Failure),
    Done,
}

#[derive(Deserialize)]
struct Failure {
    /// Of all cells, from 1.
    position: Option<usize>,
    /// The number in brackets that the executed notebook shows.
    count: Option<usize>,
    message: String,
    traceback: Option<String>,
}

impl Run {
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let notebooks = select::notebooks(repository, &self.notebooks)?;
        let out = self.out.clone().unwrap_or_else(|| repository.outputs());
        std::fs::create_dir_all(&out).and_then(|()| tempfile::tempfile_in(&out)).map_err(|error| {
            Error::file(&out, format!("can't be written to ({error}); name another folder with --out"))
        })?;
        let ready = Setup { python: None, data: self.data.clone(), verbose: false }.run(repository)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        // A Ctrl-C reaches execute.py as well, which ends its kernel; this process waits for it.
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))
            .map_err(|error| Error::argument(format!("signals can't be handled: {error}")))?;
        for notebook in &notebooks {
            let outcome = self.execute(repository, &ready, notebook, &out);
            if interrupted.load(Ordering::Relaxed) {
                return Err(Error::argument(
                    "interrupted; notebooks that were executed before are in the output folder",
                ));
            }
            outcome?;
        }
        Ok(())
    }

    fn execute(&self, repository: &Repository, ready: &Ready, notebook: &Path, out: &Path) -> Result<()> {
        let name = notebook.file_stem().expect("a notebook's name").to_string_lossy().into_owned();
        let variant = if self.quick { Some("quick") } else { self.load_model.then_some("loaded") };
        let written = variant.map_or(name.clone(), |variant| format!("{name}-{variant}"));
        let (ipynb, html) = (out.join(format!("{written}.ipynb")), out.join(format!("{written}.html")));
        let shown = setup::relative(repository, notebook).display().to_string();
        let before = read(notebook)?;
        let job = json!({
            "notebook": notebook,
            "folder": repository.notebooks(),
            "kernel": kernelspec::NAME,
            "display_name": kernelspec::DISPLAY_NAME,
            "metadata": { "quick": self.quick, "data": data::name(&ready.data) },
            "written": ipynb,
            "html": html,
            "removed": machine_folders(repository, ready),
        });
        let mut command = setup::program(repository, "python");
        command.args(["-I", "-c", include_str!("python/execute.py"), &job.to_string()]);
        match &ready.data {
            Source::Folder(folder) => command.env(vitlab_dataset::source::VARIABLE, folder),
            Source::Synthetic => command.env(vitlab_dataset::source::VARIABLE, "synthetic"),
        };
        for (variable, asked) in [("VITLAB_QUICK", self.quick), ("VITLAB_LOAD_MODEL", self.load_model)] {
            if asked {
                command.env(variable, "1")
            } else {
                command.env_remove(variable)
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(target_os = "linux")]
        // SAFETY: one system call between fork and exec. Should this process be killed, execute.py ends its kernel.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?));
        }

        let step = Step::new(variant.map_or(shown.clone(), |variant| format!("{shown} ({variant})")));
        step.line("starting the kernel");
        let failed = |error: std::io::Error| {
            Error::argument(format!("{shown}: can't be executed ({error}); run `cargo lab setup`"))
        };
        let mut child = command.spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let told = sender.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(|line| line.ok()) {
                let _ = told.send(Told::Remark(line));
            }
        });
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(|line| line.ok()) {
                let _ = sender.send(Told::Event(line));
            }
            // Whatever still holds the other stream isn't waited for.
            let _ = sender.send(Told::End);
        });
        let (failure, remarks) = follow(lines, &step);
        let status = child.wait().map_err(failed)?;
        if let Some(failure) = failure {
            step.nothing();
            return Err(Error::argument(failure.sentence(&shown, &ipynb)));
        }
        match status.code() {
            Some(0) => {}
            Some(130) => return Err(Error::argument(format!("{shown}: was interrupted"))),
            _ => {
                return Err(Error::argument(format!(
                    "{shown}: the executor ended with {status}; see `cargo lab doctor`. Its last lines:\n{}",
                    remarks.join("\n")
                )));
            }
        }
        if self.in_place {
            if read(notebook)? != before {
                return Err(Error::argument(format!(
                    "{shown} was edited while it ran and stays as it is; what ran is {}",
                    setup::relative(repository, &ipynb).display()
                )));
            }
            cache::write(notebook, &read(&ipynb)?)?;
        }
        step.done(&format!("{} and .html", setup::relative(repository, &ipynb).display()));
        Ok(())
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::file(path, format!("can't be read ({error})")))
}

impl Failure {
    fn sentence(&self, notebook: &str, written: &Path) -> String {
        let Some(position) = self.position else {
            return format!("{notebook}: {}", self.message);
        };
        let count = self.count.map_or(String::new(), |count| format!(", [{count}]"));
        let mut text = format!("{notebook}: cell {position}{count}: {}", self.message);
        if let Some(traceback) = self.traceback.as_ref().filter(|text| text.trim() != self.message) {
            text += &format!("\n\n{}\n", traceback.trim_end());
        }
        text + &format!("\nWhat ran up to there: {}", written.display())
    }
}

/// A line of execute.py's output, or of what it and the kernel's engine remark on standard error.
enum Told {
    Event(String),
    Remark(String),
    End,
}

/// Shows the events of an execution; returns the failure, if one was told, and the last remarks.
fn follow(told: mpsc::Receiver<Told>, step: &Step) -> (Option<Failure>, Vec<String>) {
    let (mut cells, mut at, mut since) = (0, String::from("starting the kernel"), Instant::now());
    let (mut failure, mut remarks) = (None, Vec::new());
    loop {
        let event = match told.recv_timeout(Duration::from_secs(1)) {
            Ok(Told::Event(line)) => serde_json::from_str(&line).ok(),
            Ok(Told::Remark(line)) => {
                // "   Compiling rand v0.10.0": a dependency that the warm build doesn't hold.
                let building = line.trim().starts_with("Compiling ");
                building.then(|| step.line(&format!("{at} · {}", line.trim())));
                remarks.push(line);
                remarks.drain(..remarks.len().saturating_sub(10));
                continue;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                step.line(&format!("{at} · {}", seconds(since.elapsed())));
                continue;
            }
            Ok(Told::End) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
        };
        match event {
            Some(Event::Start { cells: all }) => cells = all,
            Some(Event::Cell { number, title }) => {
                if number > 1 && since.elapsed() > Duration::from_secs(20) {
                    step.say(&format!("{at} took {}", seconds(since.elapsed())));
                }
                at = format!("cell {number} of {cells}: {title}");
                since = Instant::now();
                step.line(&at);
            }
            Some(Event::Line { text }) => step.line(&format!("{at} · {} · {text}", seconds(since.elapsed()))),
            Some(Event::Failed(told)) => failure = Some(told),
            Some(Event::Done) | None => {}
        }
    }
    (failure, remarks)
}

/// Folders of this machine, and what stands for them in a notebook; the longest first.
fn machine_folders(repository: &Repository, ready: &Ready) -> Vec<(String, String)> {
    let mut folders = vec![
        (format!("{}/", repository.root.display()), String::new()),
        (repository.root.display().to_string(), ".".to_string()),
        (ready.engine.home.display().to_string(), "VITLAB_HOME".to_string()),
    ];
    if let Source::Folder(folder) = &ready.data {
        folders.push((folder.display().to_string(), "FashionMNIST".to_string()));
    }
    if let Some(home) = std::env::var_os("HOME").filter(|home| home.len() > 1) {
        folders.push((home.to_string_lossy().into_owned(), "~".to_string()));
    }
    folders.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.len()));
    folders
}
