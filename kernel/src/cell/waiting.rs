//! Finds threads that wait for input from a pipe, in this process and in the programs that it started. Linux tells each
//! thread's system call in `/proc`. On other systems nothing is found, so that reading waits for ever.

use std::fs;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Wakes a thread of this process. Ignored by default, and hardly used otherwise.
const WAKE: Signal = Signal::SIGURG;

/// A thread that waits for input.
pub struct Waiting {
    process: String,
    thread: String,
}

impl Waiting {
    /// Finds the threads that read from the pipe with a name such as `pipe:[4711]`.
    pub fn find(pipe: &str) -> Vec<Self> {
        let mut found = Vec::new();
        if pipe.starts_with("pipe:") {
            find_in(&std::process::id().to_string(), pipe, &mut found);
        }
        found
    }

    /// Makes a thread of this process begin its system call again.
    pub fn wake(&self) {
        #[cfg(target_os = "linux")]
        if let (Ok(process), Ok(thread)) = (self.process.parse(), self.thread.parse())
            && process == std::process::id() as i32
        {
            let _: (i32, i32) = (process, thread);
            // SAFETY: the signal has a handler, which does nothing. A thread that has ended receives nothing.
            unsafe { nix::libc::syscall(nix::libc::SYS_tgkill, process, thread, WAKE as i32) };
        }
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

fn find_in(process: &str, pipe: &str, found: &mut Vec<Waiting>) {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    for thread in threads {
        if reads_from(process, &thread.path().join("syscall"), pipe) {
            let thread = thread.file_name().to_string_lossy().into_owned();
            found.push(Waiting { process: process.to_string(), thread });
        }
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.split_whitespace().for_each(|child| find_in(child, pipe, found));
    }
}

/// Returns whether a system call reads from the pipe. The file contains the call's number and its arguments in
/// hexadecimal: `0 0x0 0x7f1706 …`.
#[cfg(target_os = "linux")]
fn reads_from(process: &str, call: &std::path::Path, pipe: &str) -> bool {
    use nix::libc::{SYS_read, SYS_readv};
    let call = fs::read_to_string(call).unwrap_or_default();
    let mut words = call.split(' ');
    let reads =
        words.next().and_then(|number| number.parse().ok()).is_some_and(|it| [SYS_read, SYS_readv].contains(&it));
    let file = words.next().and_then(|it| i32::from_str_radix(it.strip_prefix("0x")?, 16).ok()).filter(|_| reads);
    let name = file.and_then(|file| fs::read_link(format!("/proc/{process}/fd/{file}")).ok());
    name.is_some_and(|name| name.as_os_str() == pipe)
}

#[cfg(not(target_os = "linux"))]
fn reads_from(_process: &str, _call: &std::path::Path, _pipe: &str) -> bool {
    false
}
