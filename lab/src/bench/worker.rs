//! The programs that measure, one of vitlab and one of PyTorch: a line of JSON asks for a measurement, a line answers.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use vitlab_dataset::source::Source;

use crate::setup::venv;
use crate::system::{Error, Progress, Repository, Result, toolchain};

pub struct Worker {
    name: &'static str,
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    stderr: File,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Ok(Value),
    Error(String),
}

impl Worker {
    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// Fails if the worker answers with an error or ends.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        let mut line = String::new();
        let sent = writeln!(self.requests, "{request}").and_then(|()| self.requests.flush());
        let read = sent.and_then(|()| self.replies.read_line(&mut line));
        if read.is_err() || line.is_empty() {
            let mut text = String::new();
            let _ = self.stderr.rewind();
            let _ = self.stderr.read_to_string(&mut text);
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(10)..].join("\n");
            return Err(Error::argument(format!("{}: ended during {request}; its last lines:\n{last}", self.name)));
        }
        let problem = match serde_json::from_str(&line) {
            Ok(Reply::Ok(value)) => return Ok(value),
            Ok(Reply::Error(error)) => error,
            Err(error) => format!("its answer can't be read ({error})"),
        };
        Err(Error::argument(format!("{}: {problem}", self.name)))
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
    pub repository: &'a Repository,
    hello: Value,
}

impl<'a> Workers<'a> {
    /// Builds the command `vitlab`. `threads` is the number of threads of a worker.
    ///
    /// # Errors
    /// Fails if the command can't be built, or if the data aren't in files.
    pub fn new(repository: &'a Repository, data: &Source, threads: u32) -> Result<Self> {
        let Source::Folder(data) = data else {
            return Err(Error::argument(
                "PyTorch can't read the synthetic stand-in, which has no files; unset VITLAB_DATA or name a folder with FashionMNIST",
            ));
        };
        let progress = Progress::new("Command vitlab");
        progress.run(&mut cargo(repository, "build"), |line| Some(line.to_string()))?;
        progress.clear();
        Ok(Workers { repository, hello: json!({ "do": "hello", "data": data, "threads": threads }) })
    }

    pub fn vitlab(&self) -> Result<Worker> {
        // On Unix, `cargo run` replaces itself by the program.
        self.start("vitlab", cargo(self.repository, "run").args(["--", "bench"]))
    }

    pub fn pytorch(&self) -> Result<Worker> {
        let root = &self.repository.root;
        let mut python = venv::command(self.repository, "python");
        self.start("PyTorch", python.arg(root.join("tests/reference/bench.py")).current_dir(root))
    }

    fn start(&self, name: &'static str, command: &mut Command) -> Result<Worker> {
        let failed =
            |error: io::Error| Error::argument(format!("{name}: can't be started ({error}); run `cargo lab setup`"));
        let stderr = tempfile::tempfile().map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr.try_clone().map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let requests = child.stdin.take().expect("piped");
        let replies = BufReader::new(child.stdout.take().expect("piped"));
        let mut worker = Worker { name, child, requests, replies, stderr };
        worker.ask(&self.hello)?;
        Ok(worker)
    }
}

fn cargo(repository: &Repository, subcommand: &str) -> Command {
    let mut cargo = toolchain::cargo(&repository.root);
    cargo.args([subcommand, "--quiet", "--locked", "--package", "vitlab", "--bin", "vitlab"]);
    cargo
}

/// Reads a number from an answer.
pub fn number(answer: &Value, field: &str) -> Result<f64> {
    answer[field].as_f64().ok_or_else(|| Error::argument(format!("an answer has no number \"{field}\": {answer}")))
}
