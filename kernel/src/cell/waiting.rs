//! Finds threads that wait for input from a pipe, in this process and in the programs that it started. Linux tells each
//! thread's system call in `/proc`. On other systems nothing is found, so that reading waits for ever.

use std::fs;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Wakes a thread of this process. Ignored by default, and hardly used otherwise.
const WAKE: Signal = Signal::SIGURG;

/// A thread that waits for input.
pub struct Waiting {
    process: i32,
    thread: i32,
}

impl Waiting {
    /// Finds the threads that read from the pipe with a name such as `pipe:[4711]`.
    pub fn find(pipe: &str) -> Vec<Self> {
        let mut found = Vec::new();
        if pipe.starts_with("pipe:") {
            find_in(std::process::id() as i32, pipe, &mut found);
        }
        found
    }

    /// Makes the thread begin its system call again if it belongs to this process. Returns whether it still waits.
    pub fn wake(&self) -> bool {
        let waits = self.process == std::process::id() as i32 && file_read(self.process, self.thread).is_some();
        #[cfg(target_os = "linux")]
        if waits {
            // SAFETY: the signal has a handler, which does nothing. A thread that has ended receives nothing.
            unsafe { nix::libc::syscall(nix::libc::SYS_tgkill, self.process, self.thread, WAKE as i32) };
        }
        waits
    }
}

/// Installs the handler of the signal that wakes threads. Without one, the signal would be ignored.
pub fn handle_wake() -> nix::Result<()> {
    extern "C" fn nothing(_: i32) {}
    // System calls begin again after the signal.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(WAKE, &action) }.map(drop)
}

fn find_in(process: i32, pipe: &str, found: &mut Vec<Waiting>) {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for thread in threads.filter_map(|folder| folder.file_name().to_str()?.parse().ok()) {
        let file = file_read(process, thread);
        let name = file.and_then(|file| fs::read_link(format!("/proc/{process}/fd/{file}")).ok());
        if name.is_some_and(|name| name.as_os_str() == pipe) {
            found.push(Waiting { process, thread });
        }
        let children = fs::read_to_string(format!("/proc/{process}/task/{thread}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|it| it.parse().ok()).for_each(|child| find_in(child, pipe, found));
    }
}

/// Returns the descriptor of the file that a thread waits to read. Linux gives the number of the thread's system call and
/// the call's arguments in hexadecimal: `0 0x0 0x7f1706 …`.
#[cfg(target_os = "linux")]
fn file_read(process: i32, thread: i32) -> Option<i32> {
    use nix::libc::{SYS_read, SYS_readv};
    let call = fs::read_to_string(format!("/proc/{process}/task/{thread}/syscall")).ok()?;
    let mut words = call.split(' ');
    let reads = [SYS_read, SYS_readv].contains(&words.next()?.parse().ok()?);
    let file = i32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    reads.then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn file_read(_process: i32, _thread: i32) -> Option<i32> {
    None
}
