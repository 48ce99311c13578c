//! The process between evcxr and the one that runs the cells: passes evcxr's own lines on and tells the kernel everything
//! else, as it happens. What is written on one stream stays in order; between the two the order is what reading them tells.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cells;
use crate::event::Event;
use crate::sorter::Sorter;

/// Holds the number of the file descriptor that events go to.
pub const VARIABLE: &str = "VITLAB_EVENTS";

pub fn events() -> Option<RawFd> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}

pub fn run(events: RawFd) -> ! {
    // SAFETY: the kernel opened it for this process.
    let events = unsafe { File::from_raw_fd(events) };
    let _ = fcntl(&events, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    let teller = Teller::new(events);
    let (mut child, stdin) = match start() {
        Ok(started) => started,
        Err(error) => {
            eprintln!("the process for the cells can't be started: {error}");
            std::process::exit(99);
        }
    };
    teller.tell(&Event::Started { watch: std::process::id() as i32, cells: child.id() as i32 });
    pass_orders(stdin, teller.clone());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (stdout.expect("piped"), stderr.expect("piped"));
    let (ended, end) = std::io::pipe().expect("room for a pipe");
    let waiting = std::thread::spawn(move || {
        let status = child.wait();
        drop(end);
        status
    });
    let mut sorter = Sorter::new(teller.clone());
    follow(&mut sorter, stdout, stderr, ended);
    let status = waiting.join().ok().and_then(Result::ok);
    sorter.end();
    teller.tell(&Event::Ended {
        status: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        said: sorter.said(),
    });
    std::process::exit(99);
}

fn start() -> std::io::Result<(Child, std::process::ChildStdin)> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(std::env::args_os().skip(1))
        .env_remove(VARIABLE)
        .env(cells::VARIABLE, "1")
        // Without line numbers it would only delay the message.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    end_with_parent(&mut command);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().expect("piped");
    Ok((child, stdin))
}

/// Makes a process end when this one does.
pub fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL)?));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Passes on what evcxr orders, and tells when it orders to run a cell.
fn pass_orders(mut to: std::process::ChildStdin, teller: Teller) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.starts_with(cells::RUN) {
                teller.tell(&Event::Run);
            }
            if writeln!(to, "{line}").and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    });
}

#[derive(Clone)]
pub struct Teller(Arc<Mutex<File>>);

impl Teller {
    pub fn new(events: File) -> Self {
        Teller(Arc::new(Mutex::new(events)))
    }

    pub fn tell(&self, event: &Event) {
        let mut line = serde_json::to_string(event).expect("plain data");
        line.push('\n');
        // Nobody is left to tell when the kernel is gone.
        let _ = self.0.lock().unwrap().write_all(line.as_bytes());
    }
}

/// Until the process has ended. A process that it started may keep its output open longer.
fn follow(sorter: &mut Sorter, mut stdout: ChildStdout, mut stderr: ChildStderr, ended: impl AsFd) {
    let mut bytes = [0; 1 << 16];
    loop {
        let wait = sorter.held_for();
        let [out, error, end] = ready([stdout.as_fd(), stderr.as_fd(), ended.as_fd()], wait);
        // First what was written on standard error before the lines that follow.
        let heard = error && hear(sorter, &mut stderr);
        let count = match out {
            true => stdout.read(&mut bytes).unwrap_or(0),
            false => 0,
        };
        while count > 0 && ready([stderr.as_fd()], Some(Duration::ZERO))[0] && hear(sorter, &mut stderr) {}
        sorter.output(&bytes[..count]);
        if sorter.held_for() == Some(Duration::ZERO) {
            sorter.release();
        }
        if end && !heard && count == 0 {
            return;
        }
    }
}

fn hear(sorter: &mut Sorter, stderr: &mut ChildStderr) -> bool {
    let mut bytes = [0; 1 << 16];
    let count = stderr.read(&mut bytes).unwrap_or(0);
    sorter.error(&bytes[..count]);
    count > 0
}

/// Which of them can be read, or have ended, within `wait`.
fn ready<const N: usize>(files: [BorrowedFd; N], wait: Option<Duration>) -> [bool; N] {
    let mut polled = files.map(|file| PollFd::new(file, PollFlags::POLLIN));
    let timeout = wait.map_or(PollTimeout::NONE, |wait| {
        PollTimeout::try_from(wait.as_millis() as i32 + i32::from(!wait.is_zero())).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut polled, timeout) {
        Ok(_) => polled.map(|file| file.any().unwrap_or(false)),
        Err(_) => [false; N],
    }
}
