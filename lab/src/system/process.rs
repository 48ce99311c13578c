//! Child processes.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Error, Result};

/// Runs a program without showing its output. Returns true if it starts and succeeds.
pub fn succeeds(command: &mut Command) -> bool {
    output(command).is_some()
}

/// Runs a program and returns its trimmed standard output, or `None` if it doesn't start or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    output.status.success().then_some(text)
}

/// Prints a command, then runs it in the foreground.
pub fn run_in_foreground(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    eprintln!("$ {text}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::argument(format!("`{text}` failed ({status})"))),
        Err(error) => Err(Error::argument(format!("`{text}` can't be run ({error})"))),
    }
}

/// Returns the path of the running program. On Linux, it stays valid when cargo replaces the program's file.
pub fn this_program() -> Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    let path = if link.exists() { Ok(link) } else { std::env::current_exe() };
    path.map_err(|error| Error::argument(format!("the path of this program is unknown ({error})")))
}

/// Sends `signal` to the command's process when the thread that spawns it ends, even by SIGKILL. Linux only.
pub fn signal_with_parent(command: &mut Command, signal: Signal) {
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec, the closure makes one system call and allocates nothing.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, move || Ok(nix::sys::prctl::set_pdeathsig(signal)?));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (command, signal);
}

/// A line of a running command's output, its end, or its absence.
pub enum OutputEvent {
    Stdout(String),
    Stderr(String),
    /// The standard output has ended. A grandchild may still hold the standard error open.
    StdoutEnd,
    /// No line came for a second.
    Idle,
}

/// Runs a command, which ends with this process (SIGTERM). `handle` receives its output line by line, until both streams
/// have ended or `handle` breaks off.
pub fn follow(command: &mut Command, mut handle: impl FnMut(OutputEvent) -> ControlFlow<()>) -> io::Result<ExitStatus> {
    signal_with_parent(command, Signal::SIGTERM);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, events) = channel();
    forward(child.stderr.take().expect("stderr is piped"), sender.clone(), OutputEvent::Stderr, None);
    forward(child.stdout.take().expect("stdout is piped"), sender, OutputEvent::Stdout, Some(OutputEvent::StdoutEnd));
    loop {
        let event = match events.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Disconnected) => break,
            event => event.unwrap_or(OutputEvent::Idle),
        };
        if handle(event).is_break() {
            break;
        }
    }
    child.wait()
}

/// Sends each line of `stream`, then `end`, from a thread of its own.
fn forward(
    stream: impl Read + Send + 'static,
    sender: Sender<OutputEvent>,
    event: fn(String) -> OutputEvent,
    end: Option<OutputEvent>,
) {
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).split(b'\n').map_while(|bytes| bytes.ok());
        for item in lines.map(|bytes| event(String::from_utf8_lossy(&bytes).trim_end().to_string())).chain(end) {
            let _ = sender.send(item);
        }
    });
}
