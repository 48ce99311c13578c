//! Child processes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::signal::Signal;
use vitlab_dataset::{Error, Result};

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

/// Returns the last `count` lines as one text.
pub fn last_lines<'a>(lines: impl DoubleEndedIterator<Item = &'a str>, count: usize) -> String {
    let mut last: Vec<&str> = lines.rev().take(count).collect();
    last.reverse();
    last.join("\n")
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

/// A line of a child's output.
pub enum Line {
    Stdout(String),
    Stderr(String),
    /// The standard output has ended. A grandchild may still hold the standard error open.
    StdoutEnd,
}

/// Starts a command that ends with this process (SIGTERM), and returns it with the lines of its output as they come. The
/// channel disconnects when both streams have ended.
pub fn spawn_with_lines(command: &mut Command) -> std::io::Result<(Child, Receiver<Line>)> {
    signal_with_parent(command, Signal::SIGTERM);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (sender, lines) = channel();
    forward(child.stderr.take().expect("stderr is piped"), sender.clone(), Line::Stderr, None);
    forward(child.stdout.take().expect("stdout is piped"), sender, Line::Stdout, Some(Line::StdoutEnd));
    Ok((child, lines))
}

/// Sends each line of `stream`, then `end`, from a thread of its own.
fn forward(stream: impl Read + Send + 'static, sender: Sender<Line>, line: fn(String) -> Line, end: Option<Line>) {
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).split(b'\n').map_while(|bytes| bytes.ok());
        for item in lines.map(|bytes| line(String::from_utf8_lossy(&bytes).trim_end().to_string())).chain(end) {
            let _ = sender.send(item);
        }
    });
}
