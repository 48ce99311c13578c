//! The kernel of vitlab's notebooks: speaks with Jupyter, and compiles cells with evcxr, which it uses as a library.
//!
//! The path of an `execute_request`:
//!
//! ```text
//!   Jupyter client
//!      | execute_request                 ^ execute_reply (shell socket)       ^ stream, display_data,
//!      v                                 |                                    | execute_result, error (iopub)
//!   +--------------------------- kernel process ------------------------------|------------------+
//!   |  jupyter::server     reads the message                                  |                  |
//!   |      v                                                                  |                  |
//!   |  jupyter::requests   runs one cell after the other, aborts cells after  |                  |
//!   |      v               a failure; answers other requests at once          |                  |
//!   |  engine              evaluates the cell on its own thread          engine::state           |
//!   |      v                                                                  ^                  |
//!   |  evcxr -----> build::cargo, build::rustc   (as separate processes)      |                  |
//!   |      |             compile the cell to a library                        |                  |
//!   |      |                                                                  |                  |
//!   |      |        engine::failure  <-- panic, question, ended --  engine::events               |
//!   |      |             decides whether the cell failed                      ^                  |
//!   +------|------------------------------------------------------------------|------------------+
//!          | LOAD_AND_RUN, on standard input                                  | events (JSON lines)
//!   +------v------------------------ watcher ---------------------------------|------------------+
//!   |  cell::watch         passes evcxr's markers on                     cell::sorter            |
//!   |      |                                                                  ^                  |
//!   +------|------------------------------------------------------------------|------------------+
//!   +------v------------------------ runner ----------------------------------|------------------+
//!   |  cell::runner        loads the library, calls its function -------------+ stdout, stderr   |
//!   +--------------------------------------------------------------------------------------------+
//! ```
//!
//! `jupyter` depends on `engine`, and `engine` on `cell` and `build`. `build` depends on the markers of `cell` only.

mod build;
mod cell;
mod engine;
mod jupyter;

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// mimalloc, because rust-analyzer spends most of its time on allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The part that this process plays. The program starts itself again for the other parts.
enum Role {
    /// `cargo`, as evcxr and rust-analyzer call it.
    Cargo,
    /// `rustc`, as cargo calls it.
    Rustc,
    /// The process between evcxr and the one that runs cells. Holds the file descriptor for events.
    Watcher(RawFd),
    /// The process that runs cells.
    Runner,
    /// The kernel for the clients of a connection file.
    Kernel(PathBuf),
    /// evcxr_jupyter without changes.
    PlainEvcxr,
}

impl Role {
    fn of_this_process() -> Self {
        let is_set = |name| std::env::var_os(name).is_some();
        let mut arguments = std::env::args_os().map(PathBuf::from);
        let program = arguments.next().unwrap_or_default();
        if program.file_name().is_some_and(|name| name == "cargo") {
            Role::Cargo
        } else if is_set(build::rustc::VARIABLE) || is_set(build::rustc::EVCXR_WRAPPER) {
            Role::Rustc
        } else if let Some(events) = std::env::var(cell::watch::VARIABLE).ok().and_then(|number| number.parse().ok()) {
            Role::Watcher(events)
        } else if is_set(cell::runner::VARIABLE) {
            Role::Runner
        } else {
            match (arguments.next(), arguments.next()) {
                (Some(file), None) if !file.to_string_lossy().starts_with('-') => Role::Kernel(file),
                _ => Role::PlainEvcxr,
            }
        }
    }
}

fn main() -> ExitCode {
    let result = match Role::of_this_process() {
        Role::Cargo => build::cargo::run(),
        Role::Rustc => build::wrapper::run(),
        Role::Watcher(events) => cell::watch::run(events),
        Role::Runner => cell::runner::run(),
        Role::Kernel(file) => jupyter::run(&file).map(|()| ExitCode::SUCCESS),
        Role::PlainEvcxr => evcxr_jupyter::main().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("vitlab-kernel: {error:#}");
        ExitCode::FAILURE
    })
}
