//! The two sides: programs that measure what they are asked for, a JSON request a line, one of them at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use vitlab_dataset::{Error, Result};

use crate::repository::Repository;
use crate::setup;
use crate::step::Step;

pub struct Worker {
    name: &'static str,
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    /// What it writes to standard error.
    remarks: File,
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
        let remarks = tempfile::tempfile().map_err(failed)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(remarks.try_clone().map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        Ok(Worker {
            name,
            requests: child.stdin.take().expect("piped"),
            replies: BufReader::new(child.stdout.take().expect("piped")),
            child,
            remarks,
        })
    }

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
            Err(error) => Err(Error::argument(format!("{}: an answer can't be read ({error})", self.name))),
        }
    }

    fn last_lines(&mut self) -> String {
        let mut text = String::new();
        let _ = self.remarks.rewind();
        let _ = self.remarks.read_to_string(&mut text);
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

/// Starts this crate's side and PyTorch's. Each model gets processes of its own, so that none counts another's memory.
pub struct Sides<'a> {
    repository: &'a Repository,
    hello: Value,
}

impl<'a> Sides<'a> {
    /// Builds the command `vitlab`. `data` is the folder with FashionMNIST, `threads` what each side works with.
    pub fn new(repository: &'a Repository, data: &Path, threads: u32) -> Result<Self> {
        let step = Step::new("Command vitlab");
        step.run(&mut cargo(repository, "build", &[]), |line| Some(line.to_string()))?;
        step.nothing();
        let hello = json!({ "do": "hello", "data": data, "threads": threads });
        Ok(Sides { repository, hello })
    }

    pub fn ours(&self) -> Result<Worker> {
        // Cargo gives its place to the program.
        let mut command = cargo(self.repository, "run", &["--", "bench"]);
        self.greeted(Worker::start("vitlab", &mut command)?)
    }

    pub fn torch(&self) -> Result<Worker> {
        let root = &self.repository.root;
        let mut python = setup::program(self.repository, "python");
        python.arg(root.join("tests/reference/bench.py")).current_dir(root);
        self.greeted(Worker::start("PyTorch", &mut python)?)
    }

    fn greeted(&self, mut worker: Worker) -> Result<Worker> {
        worker.ask(&self.hello)?;
        Ok(worker)
    }
}

fn cargo(repository: &Repository, verb: &str, further: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args([verb, "--quiet", "--locked"])
        .args(["--package", "vitlab", "--bin", "vitlab"])
        .args(further)
        .current_dir(&repository.root);
    cargo
}

/// A number of an answer.
pub fn number(answer: &Value, field: &str) -> Result<f64> {
    answer[field].as_f64().ok_or_else(|| Error::argument(format!("an answer has no number \"{field}\": {answer}")))
}
