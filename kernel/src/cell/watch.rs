//! The watcher: the process between evcxr and the one that runs cells. It passes the lines for evcxr on and reports
//! everything else to the kernel at once. Output keeps its order within a stream. Across streams, events have the order
//! in which they were read.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio, exit};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::event::{Event, EventSender};
use super::sorter::Sorter;
use super::{FAULT, RUN, exit_with, runner};

/// Names the file descriptor to which the watcher writes events.
pub const VARIABLE: &str = "VITLAB_EVENTS";

/// Starts the process that runs cells, reports its events until it ends, and ends as well.
pub fn run(events: RawFd) -> ! {
    // SAFETY: the kernel opened this descriptor for this process, and nothing else uses it.
    let events = unsafe { File::from_raw_fd(events) };
    let _ = fcntl(&events, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    let events = EventSender::new(events);
    let mut child =
        start().unwrap_or_else(|error| exit_with(&format!("the process that runs cells can't be started: {error}")));
    events.send(&Event::Started { watcher: std::process::id() as i32, runner: child.id() as i32 });
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    pass_orders(child.stdin.take().expect("piped"), events.clone());
    // The pipe closes when the process ends, so that `poll` can wait for that, too.
    let (ended, end) = std::io::pipe().expect("a free file descriptor");
    let waiting = std::thread::spawn(move || {
        let _open_until_then = end;
        child.wait()
    });
    let mut sorter = Sorter::new(events.clone());
    follow(&mut sorter, stdout, stderr, ended);
    let status = waiting.join().ok().and_then(Result::ok);
    sorter.end();
    let (status, signal) = (status.and_then(|it| it.code()), status.and_then(|it| it.signal()));
    events.send(&Event::Ended { status, signal, stderr: sorter.last_stderr() });
    exit(FAULT);
}

fn start() -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(std::env::args_os().skip(1))
        .env_remove(VARIABLE)
        .env(runner::VARIABLE, "1")
        // A backtrace of a cell has no line numbers and delays the panic's message.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    end_with_parent(&mut command);
    command.spawn()
}

/// Makes the started process end when this one does.
pub fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: makes one system call between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL)?));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Passes evcxr's orders on, and reports each order to run a cell.
fn pass_orders(mut stdin: ChildStdin, events: EventSender) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.starts_with(RUN) {
                events.send(&Event::Run);
            }
            if writeln!(stdin, "{line}").and_then(|()| stdin.flush()).is_err() {
                break;
            }
        }
    });
}

/// Reads the output until the process has ended. A process that it started may keep the streams open longer.
fn follow(sorter: &mut Sorter, mut stdout: ChildStdout, mut stderr: ChildStderr, ended: impl AsFd) {
    let mut bytes = [0; 1 << 16];
    loop {
        let wait = sorter.held_for();
        let [readable, error, end] = ready([stdout.as_fd(), stderr.as_fd(), ended.as_fd()], wait);
        // Read standard error first, because a marker on standard output refers to the text before it.
        let more_stderr = error && read_stderr(sorter, &mut stderr);
        let count = if readable { stdout.read(&mut bytes).unwrap_or(0) } else { 0 };
        while count > 0 && ready([stderr.as_fd()], Some(Duration::ZERO))[0] && read_stderr(sorter, &mut stderr) {}
        sorter.stdout(&bytes[..count]);
        sorter.release_due();
        if end && !more_stderr && count == 0 {
            return;
        }
    }
}

fn read_stderr(sorter: &mut Sorter, stderr: &mut ChildStderr) -> bool {
    let mut bytes = [0; 1 << 16];
    let count = stderr.read(&mut bytes).unwrap_or(0);
    sorter.stderr(&bytes[..count]);
    count > 0
}

/// Waits until a file can be read or has ended, at most for `wait`. Returns for each file whether that is the case.
pub fn ready<const N: usize>(files: [BorrowedFd; N], wait: Option<Duration>) -> [bool; N] {
    let mut polled = files.map(|file| PollFd::new(file, PollFlags::POLLIN));
    let timeout = wait.map_or(PollTimeout::NONE, |wait| {
        PollTimeout::try_from(wait.as_millis() as i32 + i32::from(!wait.is_zero())).unwrap_or(PollTimeout::MAX)
    });
    let succeeded = poll(&mut polled, timeout).is_ok();
    polled.map(|file| succeeded && file.any().unwrap_or(false))
}
