//! The standard input of cells and of the programs that they start: a pipe, into which the answers to questions are
//! written.

use std::fs::File;
use std::io::{ErrorKind, PipeWriter, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::dup2_stdin;
use serde::{Deserialize, Serialize};

use super::waiting::{self, Waiting};
use super::watch::ready;

/// The threads of the cell are woken for this time at most.
const WAKE: Duration = Duration::from_millis(500);

/// The answer to a question of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Line(String),
    /// The input of the cell has ended.
    End,
    /// The user interrupted the cell instead.
    Interrupt,
    /// The cell ended before.
    Nothing,
}

pub struct CellInput {
    /// `None` after the end of a cell's input.
    writer: Option<PipeWriter>,
    /// The pipe's name in `/proc`.
    name: String,
}

impl CellInput {
    /// Makes the end of a new pipe this process's standard input.
    pub fn new() -> std::io::Result<Self> {
        waiting::handle_wake()?;
        let (reader, writer) = std::io::pipe()?;
        dup2_stdin(&reader)?;
        // An answer that nothing reads to its end must not block the orders.
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let name = std::fs::read_link("/proc/self/fd/0").unwrap_or_default().to_string_lossy().into_owned();
        Ok(CellInput { writer: Some(writer), name })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_open(&self) -> bool {
        self.writer.is_some()
    }

    /// Gives the cell an input again that ended during the last one.
    pub fn begin_cell(&mut self) {
        if !self.is_open() {
            match CellInput::new() {
                Ok(new) => *self = new,
                Err(error) => {
                    eprintln!("the cell's standard input has ended, because a new one can't be made: {error}")
                }
            }
        }
    }

    /// Returns whether the pipe holds bytes that can be read.
    pub fn holds_bytes(&self) -> bool {
        ready([std::io::stdin().as_fd()], Some(Duration::ZERO))[0]
    }

    pub fn give(&mut self, answer: &Answer) {
        match answer {
            Answer::Line(line) => self.write(line),
            Answer::End => self.writer = None,
            Answer::Interrupt => self.fail(),
            Answer::Nothing => {}
        }
    }

    fn write(&mut self, line: &str) {
        let Some(writer) = &mut self.writer else { return };
        if let Err(error) = writer.write_all(format!("{line}\n").as_bytes()) {
            match error.kind() {
                ErrorKind::WouldBlock => eprintln!("the answer is longer than a pipe, so its end is missing"),
                _ => eprintln!("the answer can't be written: {error}"),
            }
        }
    }

    /// Makes reading fail, so that a `?` or `unwrap` after it ends the cell. A directory in the place of the pipe has that
    /// effect on everything that reads from now on. A thread that waits for the pipe is woken by a signal and reads again.
    fn fail(&mut self) {
        let waiting = Waiting::find(&self.name);
        if File::open("/").is_ok_and(|directory| dup2_stdin(directory).is_ok()) {
            let begun = Instant::now();
            // A thread that still reads the pipe when the writer is closed gets an end of file.
            while waiting.iter().filter(|thread| thread.wake()).count() > 0 && begun.elapsed() < WAKE {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Programs that the cell started get an end of file.
        self.writer = None;
    }
}
