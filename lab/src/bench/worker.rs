//! The two sides: programs that measure what they are asked for, a JSON request a line, one of them at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use vitlab::{Error, Result};

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
            Error::argument(format!(
                "{name}: can't be started ({error}); run `cargo lab setup`"
            ))
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
            return Err(Error::argument(format!(
                "{}: ended during {request}; its last lines:\n{last}",
                self.name
            )));
        }
        match serde_json::from_str(&line) {
            Ok(Reply::Ok(value)) => Ok(value),
            Ok(Reply::Error(error)) => Err(Error::argument(format!("{}: {error}", self.name))),
            Err(error) => Err(Error::argument(format!(
                "{}: an answer can't be read ({error})",
                self.name
            ))),
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

/// This crate and PyTorch.
pub struct Pair {
    pub ours: Worker,
    pub torch: Worker,
}

impl Pair {
    pub fn start(repository: &Repository, data: &Path, threads: u32) -> Result<Self> {
        let step = Step::new("Command vitlab");
        let mut cargo = Command::new("cargo");
        cargo
            .args([
                "build",
                "--locked",
                "--package",
                "vitlab",
                "--bin",
                "vitlab",
            ])
            .current_dir(&repository.root);
        step.run(&mut cargo, |line| Some(line.to_string()))?;
        step.nothing();
        // Cargo gives its place to the program.
        let mut cargo = Command::new("cargo");
        cargo
            .args([
                "run",
                "--quiet",
                "--locked",
                "--package",
                "vitlab",
                "--bin",
                "vitlab",
                "--",
                "bench",
            ])
            .current_dir(&repository.root);
        let mut python = setup::program(repository, "python");
        python
            .arg(repository.root.join("tests/reference/bench.py"))
            .current_dir(&repository.root);
        let mut pair = Pair {
            ours: Worker::start("vitlab", &mut cargo)?,
            torch: Worker::start("PyTorch", &mut python)?,
        };
        let hello = json!({ "do": "hello", "data": data, "threads": threads });
        pair.ours.ask(&hello)?;
        pair.torch.ask(&hello)?;
        Ok(pair)
    }
}

/// A number of an answer.
pub fn number(answer: &Value, field: &str) -> Result<f64> {
    answer[field]
        .as_f64()
        .ok_or_else(|| Error::argument(format!("an answer has no number \"{field}\": {answer}")))
}
