//! Progress of a long step: its title, its present activity and the elapsed time.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::process::{self, OutputEvent};
use super::{Error, Result, human_duration};

/// Interval between two messages of a step where there is no terminal.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The lines of all steps that run at the same time, one below the other.
static LINES: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One line on the terminal with a running clock. Without a terminal: plain lines, at most one per heartbeat.
pub struct Progress {
    bar: ProgressBar,
    announced: Cell<Option<Instant>>,
}

impl Progress {
    pub fn new(title: impl Into<String>) -> Self {
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg:.dim}");
        let bar = ProgressBar::new_spinner().with_prefix(title.into()).with_style(style.expect("a fixed template"));
        let bar = LINES.add(bar);
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress { bar, announced: Cell::new(None) }
    }

    /// Shows the present activity.
    pub fn message(&self, text: &str) {
        if !self.bar.is_hidden() {
            return self.bar.set_message(text.trim().to_string());
        }
        let now = Instant::now();
        if self.announced.get().is_none_or(|last| now - last >= HEARTBEAT) {
            self.announced.set(Some(now));
            eprintln!("… {} ({}): {}", self.bar.prefix(), human_duration(self.bar.elapsed()), text.trim());
        }
    }

    /// Prints a line that stays above the progress line.
    pub fn print_line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("  {text}"));
    }

    /// Replaces the progress line by the result and the elapsed time.
    pub fn finish(self, result: &str) {
        self.bar.finish_and_clear();
        let (title, elapsed) = (self.bar.prefix(), human_duration(self.bar.elapsed()));
        LINES.suspend(|| eprintln!("✓ {title}: {result} ({elapsed})"));
    }

    /// Removes the progress line.
    pub fn clear(self) {
        self.bar.finish_and_clear();
    }

    /// Runs a command to its end. `show` turns a line of its output into a message, or into `None` to skip it.
    ///
    /// # Errors
    /// Fails if the program doesn't start or fails; the error quotes the last lines of its output.
    pub fn run(&self, command: &mut Command, mut show: impl FnMut(&str) -> Option<String>) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut last = Vec::new();
        let mut shown = String::from("started");
        let status = process::follow(command, |event| {
            match event {
                OutputEvent::Stdout(line) | OutputEvent::Stderr(line) => {
                    if let Some(text) = show(&line) {
                        shown = text;
                        self.message(&shown);
                    }
                    last.push(line);
                    last.drain(..last.len().saturating_sub(30));
                }
                OutputEvent::Idle => self.message(&shown),
                OutputEvent::StdoutEnd => {}
            }
            ControlFlow::Continue(())
        });
        let status = status.map_err(|error| Error::argument(format!("{name} can't be run ({error})")))?;
        if status.success() {
            return Ok(());
        }
        self.bar.finish_and_clear();
        let (title, last) = (self.bar.prefix(), last.join("\n"));
        Err(Error::argument(format!("{title}: {name} failed ({status}); its last lines:\n{last}")))
    }
}
