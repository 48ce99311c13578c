//! What a step of the set-up shows: what it does, how far it is, how long it took.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use vitlab_dataset::{Error, Result};

/// Without a terminal a long step says so often that it is still at work.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// One line on the terminal with a running clock; plain lines where there is no terminal.
pub struct Step {
    bar: ProgressBar,
    title: String,
    started: Instant,
    announced: std::cell::Cell<Option<Instant>>,
}

impl Step {
    pub fn new(title: impl Into<String>) -> Self {
        let title = title.into();
        let bar = ProgressBar::new_spinner().with_prefix(title.clone());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg:.dim}").expect("a fixed template"),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Step { bar, title, started: Instant::now(), announced: std::cell::Cell::new(None) }
    }

    /// Shows what the step is at.
    pub fn line(&self, text: &str) {
        if !self.bar.is_hidden() {
            return self.bar.set_message(text.trim().to_string());
        }
        let now = Instant::now();
        if self.announced.get().is_none_or(|last| now - last >= HEARTBEAT) {
            self.announced.set(Some(now));
            eprintln!("… {} ({}): {}", self.title, seconds(self.started.elapsed()), text.trim());
        }
    }

    /// Ends the step with what came out of it.
    pub fn done(self, result: &str) {
        self.bar.finish_and_clear();
        eprintln!("✓ {}: {result} ({})", self.title, seconds(self.started.elapsed()));
    }

    /// Ends the step without a word: there was nothing to do.
    pub fn nothing(self) {
        self.bar.finish_and_clear();
    }

    /// A message that stays, above the running line.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("  {text}"));
    }

    /// Runs a command to its end, showing each line of its output through `show` (nothing for `None`).
    ///
    /// The error of a failed command holds its last lines.
    pub fn run(&self, command: &mut Command, mut show: impl FnMut(&str) -> Option<String>) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |error: std::io::Error| Error::argument(format!("{name} can't be run ({error})"));
        #[cfg(target_os = "linux")]
        // SAFETY: one system call between fork and exec. A program must not work on where the next set-up begins.
        unsafe {
            use nix::sys::{prctl, signal::Signal};
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let (sender, lines) = mpsc::channel();
        let read = |stream: Box<dyn Read + Send>| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(|line| line.ok()) {
                    let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_string());
                }
            });
        };
        read(Box::new(child.stdout.take().expect("piped")));
        read(Box::new(child.stderr.take().expect("piped")));
        drop(sender);
        let mut last = VecDeque::new();
        let mut shown = String::from("started");
        loop {
            match lines.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => {
                    if let Some(text) = show(&line) {
                        shown = text;
                        self.line(&shown);
                    }
                    last.push_back(line);
                    if last.len() > 30 {
                        last.pop_front();
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.line(&shown),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        self.bar.finish_and_clear();
        let last: Vec<String> = last.into_iter().collect();
        Err(Error::argument(format!("{}: {name} failed ({status}); its last lines:\n{}", self.title, last.join("\n"))))
    }
}

/// "0.4 s", "12 s", "3 min 5 s".
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else if seconds < 119.5 {
        format!("{seconds:.0} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}
