//! `lab kernel CONNECTION_FILE`: what the kernelspec `vitlab` starts. The kernel itself is the program of `kernel/`; this gives
//! it a folder of its own with a copy of the warm build, the libraries' paths, and an orderly end.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use vitlab_dataset::{Error, Result};

use crate::engine::Engine;
use crate::repository::Repository;
use crate::warm::Warm;
use crate::{analysis, cache};

/// Runs a kernel until its client shuts it down; returns its exit status.
///
/// When the crate has changed since the last set-up the kernel works all the same: cargo builds vitlab again in the
/// kernel's own folder, which makes the first cell slower.
pub fn run(connection_file: &Path, plain: bool) -> Result<i32> {
    let program = std::env::current_exe().map_err(|error| Error::file("lab", error.to_string()))?;
    let repository = Repository::containing(&program)?;
    let engine = Engine::read(&repository)?;
    let folder = KernelFolder::create(&engine.home.join("kernels"))?;
    Warm::of(&repository, &engine).copy_to(&folder.path)?;

    let mut command = Command::new(&engine.kernel);
    // Its standard output holds remarks about itself; what cells print goes through the protocol.
    command
        // With it the program is evcxr_jupyter.
        .args(plain.then_some("--control_file"))
        .arg(connection_file)
        .stdout(Stdio::null());
    engine.prepare(&mut command, &folder.path.join("ctx"));
    if !plain {
        analysis::limit(&engine, &mut command);
        analysis::postpone(&folder.path, &mut command);
    }
    let lock = folder.lock.as_raw_fd();
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // Inherited, so that the folder counts as used as long as any process of the kernel lives.
            nix::fcntl::fcntl(
                std::os::fd::BorrowedFd::borrow_raw(lock),
                nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
            )?;
            Ok(())
        });
    }
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| Error::argument(error.to_string()))?;
    // Caught from before the engine starts: a signal that comes at once must not leave the folder behind.
    let signals = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGINT])
        .map_err(|error| Error::argument(format!("signals can't be handled: {error}")))?;
    let mut child = command
        .spawn()
        .map_err(|error| Error::file(&engine.kernel, format!("doesn't start ({error}); run `cargo lab setup`")))?;
    end_on_signals(signals, &child);
    end_with_client(&child);
    let status = child.wait().map_err(|error| Error::file(&engine.kernel, error.to_string()))?;
    end_descendants();
    Ok(status.code().unwrap_or(1))
}

/// SIGTERM and SIGHUP end the kernel; SIGINT doesn't (interrupts come as messages, a Ctrl-C is meant for the client).
fn end_on_signals(mut signals: signal_hook::iterator::Signals, child: &Child) {
    let kernel = Pid::from_raw(child.id() as i32);
    std::thread::spawn(move || {
        for signal in signals.forever().filter(|signal| *signal != SIGINT) {
            let _ = kill(kernel, Signal::try_from(signal).unwrap_or(Signal::SIGTERM));
        }
    });
}

/// Ends the kernel when the program that started it is gone, as it may be already. Jupyter says by a variable which that is,
/// unless it wants the kernel to outlive it.
fn end_with_client(child: &Child) {
    let kernel = Pid::from_raw(child.id() as i32);
    let Some(client) = std::env::var("JPY_PARENT_PID").ok().and_then(|named| named.parse().ok()).map(Pid::from_raw)
    else {
        return;
    };
    let parent = nix::unistd::getppid();
    let gone = parent == Pid::from_raw(1) && kill(client, None).is_err();
    if parent == client || gone {
        std::thread::spawn(move || {
            while nix::unistd::getppid() == client {
                std::thread::sleep(Duration::from_secs(1));
            }
            let _ = kill(kernel, Signal::SIGTERM);
        });
    }
}

/// Ends what the kernel left behind, such as compilers that were at work. Such processes come to this one, their subreaper.
fn end_descendants() {
    let children = || fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for _ in 0..100 {
        let pids: Vec<i32> = children().split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), None);
        }
    }
}

/// A kernel's folder. It is removed with the value; should the process be killed, the next kernel removes it.
struct KernelFolder {
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl KernelFolder {
    fn create(kernels: &Path) -> Result<Self> {
        cache::create(kernels)?;
        let io = |error: std::io::Error| Error::file(kernels, format!("can't hold a kernel's folder ({error})"));
        // One at a time: nobody must take a lock file for free between its making and its locking.
        let turn = File::create(kernels.join("turn")).map_err(io)?;
        turn.lock().map_err(io)?;
        sweep(kernels).map_err(io)?;
        let path = tempfile::Builder::new().prefix("kernel-").tempdir_in(kernels).map_err(io)?.keep();
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(io)?;
        lock.lock().map_err(io)?;
        Ok(KernelFolder { path, lock_path, lock })
    }
}

impl Drop for KernelFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes the folders of kernels that were killed: those whose lock is free.
fn sweep(kernels: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(kernels)? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        let lock_path = folder.with_extension("lock");
        if File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_err()) {
            continue;
        }
        // Should one resist, new kernels start all the same.
        if fs::remove_dir_all(&folder).is_ok() {
            let _ = fs::remove_file(lock_path);
        }
    }
    Ok(())
}
