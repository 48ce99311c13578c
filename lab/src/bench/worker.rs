//! The programs that measure, one of vitlab and one of PyTorch: a line of JSON asks for a measurement, a line answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use vitlab_dataset::{Error, Result};

use crate::setup::venv;
use crate::system::progress::Progress;
use crate::system::repository::Repository;

pub struct Worker {
    name: &'static str,
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    /// Receives its standard error.
    stderr: File,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(Value),
    Error(String),
}

impl Worker {
    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::argument(format!("{name}: can't be started ({error}); run `cargo lab setup`"))
        };
        let stderr = tempfile::tempfile().map_err(failed)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        Ok(Worker {
            name,
            requests: child.stdin.take().expect("piped"),
            replies: BufReader::new(child.stdout.take().expect("piped")),
            child,
            stderr,
        })
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// Fails if the worker answers with an error or ends.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        let mut line = String::new();
        let sent = writeln!(self.requests, "{request}").and_then(|()| self.requests.flush());
        let read = sent.and_then(|()| self.replies.read_line(&mut line));
        if read.is_err() || line.is_empty() {
            let last = self.last_lines();
            return Err(Error::argument(format!("{}: ended during {request}; its last lines:\n{last}", self.name)));
        }
        match serde_json::from_str(&line) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Error(error)) => Err(Error::argument(format!("{}: {error}", self.name))),
            Err(error) => Err(Error::argument(format!("{}: its answer can't be read ({error})", self.name))),
        }
    }

    fn last_lines(&mut self) -> String {
        let mut text = String::new();
        let _ = self.stderr.rewind();
        let _ = self.stderr.read_to_string(&mut text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts workers. Each model gets workers of its own, so that its peak memory isn't another model's.
pub struct Workers<'a> {
    repository: &'a Repository,
    hello: Value,
}

impl<'a> Workers<'a> {
    /// Builds the command `vitlab`. `data` is the folder of FashionMNIST, `threads` the number of threads of a worker.
    pub fn new(repository: &'a Repository, data: &Path, threads: u32) -> Result<Self> {
        let progress = Progress::new("Command vitlab");
        progress.run(&mut cargo(repository, "build", &[]), |line| Some(line.to_string()))?;
        progress.clear();
        let hello = json!({ "do": "hello", "data": data, "threads": threads });
        Ok(Workers { repository, hello })
    }

    pub fn vitlab(&self) -> Result<Worker> {
        // On Unix, `cargo run` replaces itself by the program.
        let mut command = cargo(self.repository, "run", &["--", "bench"]);
        self.with_hello(Worker::start("vitlab", &mut command)?)
    }

    pub fn pytorch(&self) -> Result<Worker> {
        let root = &self.repository.root;
        let mut python = venv::command(self.repository, "python");
        python.arg(root.join("tests/reference/bench.py")).current_dir(root);
        self.with_hello(Worker::start("PyTorch", &mut python)?)
    }

    fn with_hello(&self, mut worker: Worker) -> Result<Worker> {
        worker.ask(&self.hello)?;
        Ok(worker)
    }
}

fn cargo(repository: &Repository, subcommand: &str, arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args([subcommand, "--quiet", "--locked"])
        .args(["--package", "vitlab", "--bin", "vitlab"])
        .args(arguments)
        .current_dir(&repository.root);
    cargo
}

/// Reads a number from an answer.
pub fn number(answer: &Value, field: &str) -> Result<f64> {
    answer[field].as_f64().ok_or_else(|| Error::argument(format!("an answer has no number \"{field}\": {answer}")))
}
