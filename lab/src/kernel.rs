//! `lab kernel CONNECTION_FILE`, the command of the kernelspec. It runs the kernel's program in a folder of its own, which
//! holds a copy of the warm build, and ends all of the kernel's processes with it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::{TempDir, TempPath};

use crate::setup::{Launch, WarmBuild, rust_analyzer};
use crate::system::{Error, Repository, Result, cache, process};

#[derive(clap::Args)]
pub struct Kernel {
    /// Run evcxr_jupyter without vitlab's additions; a cell's `:dep` then compiles the crate
    #[arg(long)]
    plain: bool,
    /// Start the kernel's program through this shell script, which gets the command as its arguments
    #[arg(long, value_name = "SCRIPT")]
    through: Option<PathBuf>,
    connection_file: PathBuf,
}

impl Kernel {
    /// Runs a kernel until its client shuts it down and returns its exit status.
    ///
    /// A kernel also works if the crate has changed since the last set-up: cargo rebuilds vitlab in the kernel's own folder,
    /// which makes the first cell slower.
    ///
    /// # Errors
    /// Fails if the clone isn't set up, the kernel's folder can't be filled, or the kernel's program doesn't start.
    pub fn run(&self) -> Result<ExitCode> {
        let program = std::env::current_exe().map_err(|error| Error::file("lab", error.to_string()))?;
        let repository = Repository::containing(&program)?;
        let launch = Launch::read(&repository)?;
        let folder = KernelFolder::create(&launch.home.join("kernels"))?;
        let path = folder.folder.path();
        WarmBuild::of(&repository, &launch).copy_to(path)?;

        let mut command = match &self.through {
            None => Command::new(&launch.kernel),
            Some(script) => {
                let mut command = Command::new("sh");
                command.arg(script).arg(&launch.kernel);
                command
            }
        };
        // The program's standard output holds only remarks about itself: the output of cells goes through the protocol.
        command.args(self.plain.then_some("--control_file")).arg(&self.connection_file).stdout(Stdio::null());
        launch.prepare(&mut command, &path.join("ctx"));
        rust_analyzer::replace_cargo(&launch, &mut command);
        if self.plain {
            command.env("VITLAB_PLAIN", "1");
        } else {
            rust_analyzer::limit(&launch, &mut command);
            rust_analyzer::postpone(path, &mut command);
        }
        process::signal_with_parent(&mut command, Signal::SIGKILL);
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true).map_err(|error| Error::argument(error.to_string()))?;
        // Registered before the program starts, so that an early signal doesn't leave the folder behind.
        let signals = Signals::new([SIGTERM, SIGHUP, SIGINT])
            .map_err(|error| Error::argument(format!("signals can't be handled: {error}")))?;
        let failed = |problem| Error::file(&launch.kernel, problem);
        let child = command.spawn();
        let mut child = child.map_err(|error| failed(format!("doesn't start ({error}); run `cargo lab setup`")))?;
        let pid = Pid::from_raw(child.id() as i32);
        end_on_signals(signals, pid);
        end_with_client(pid);
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        end_descendants();
        Ok(ExitCode::from(status.code().unwrap_or(1).clamp(0, 255) as u8))
    }
}

/// Ends the kernel on SIGTERM and SIGHUP. Ignores SIGINT: interrupts come as messages, and Ctrl-C is for the client.
fn end_on_signals(mut signals: Signals, kernel: Pid) {
    std::thread::spawn(move || {
        if signals.forever().any(|signal| signal != SIGINT) {
            end(kernel);
        }
    });
}

/// Ends the kernel. Kills it if it is still there after five seconds: a program that starts it, such as `unshare`, may ignore
/// SIGTERM.
fn end(kernel: Pid) {
    let _ = kill(kernel, Signal::SIGTERM);
    std::thread::sleep(Duration::from_secs(5));
    let _ = kill(kernel, Signal::SIGKILL);
}

/// Ends the kernel when its client is gone, which may be the case already. Jupyter names the client in `JPY_PARENT_PID`,
/// unless the kernel is to outlive it.
fn end_with_client(kernel: Pid) {
    let Some(client) = std::env::var("JPY_PARENT_PID").ok().and_then(|pid| pid.parse().ok()).map(Pid::from_raw) else {
        return;
    };
    let gone = getppid() == Pid::from_raw(1) && kill(client, None).is_err();
    if getppid() == client || gone {
        std::thread::spawn(move || {
            while getppid() == client {
                std::thread::sleep(Duration::from_secs(1));
            }
            end(kernel);
        });
    }
}

/// Kills processes that the kernel left behind, such as compilers. They are children of this process, their subreaper.
fn end_descendants() {
    for _ in 0..100 {
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        if children.is_empty() {
            return;
        }
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw) {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
    }
}

/// The folder of one kernel, removed on drop. If this process is killed, the next kernel's start removes it.
struct KernelFolder {
    folder: TempDir,
    _lock_path: TempPath,
    /// Held as long as any process of the kernel lives, because the kernel inherits it.
    _lock: File,
}

impl KernelFolder {
    fn create(kernels: &Path) -> Result<Self> {
        cache::create(kernels)?;
        let create = || {
            // Without this lock, another kernel's start could remove the new folder before it is locked.
            let creation = File::create(kernels.join("creation.lock"))?;
            creation.lock()?;
            remove_unused(kernels)?;
            let folder = tempfile::Builder::new().prefix("kernel-").tempdir_in(kernels)?;
            let lock_path = folder.path().with_extension("lock");
            let lock = File::create(&lock_path)?;
            lock.lock()?;
            fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(KernelFolder { folder, _lock_path: TempPath::try_from_path(lock_path)?, _lock: lock })
        };
        create().map_err(|error: io::Error| Error::file(kernels, format!("can't hold a kernel's folder ({error})")))
    }
}

/// Removes the folders of killed kernels: those that no process locks.
fn remove_unused(kernels: &Path) -> io::Result<()> {
    for entry in fs::read_dir(kernels)? {
        let folder = entry?.path();
        let lock_path = folder.with_extension("lock");
        if !folder.is_dir() || File::open(&lock_path).is_ok_and(|lock| lock.try_lock().is_err()) {
            continue;
        }
        // A folder that can't be removed doesn't keep new kernels from starting.
        if fs::remove_dir_all(&folder).is_ok() {
            let _ = fs::remove_file(lock_path);
        }
    }
    Ok(())
}
