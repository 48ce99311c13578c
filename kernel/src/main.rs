//! The kernel of vitlab's notebooks. evcxr, as a library, compiles the cells; everything between it and Jupyter is here.
//!
//! `vitlab-kernel CONNECTION_FILE` is that kernel. [`server`] speaks with Jupyter, [`engine`] evaluates cells one after the
//! other, and [`failure`] says what went wrong. evcxr starts [`watch`], which starts [`cells`], the process that runs the
//! cells' code: so panics, `?`, crashes and every line of output are seen where they happen, and told as an [`event`].
//!
//! Under the name `cargo` it is what evcxr and rust-analyzer take for it: [`cargo`].
//! With the arguments of evcxr_jupyter this program is evcxr_jupyter itself.

mod cargo;
mod cells;
mod crates;
mod engine;
mod event;
mod failure;
mod interrupt;
mod publish;
mod requests;
mod rustc;
mod server;
mod sorter;
mod tail;
mod text;
mod types;
mod watch;

use std::path::Path;
use std::process::ExitCode;

/// rust-analyzer, which finds the types of a cell's variables, allocates more than it computes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if cargo::is_meant() {
        return ended(cargo::run());
    }
    if rustc::is_meant() {
        return ended(rustc::run());
    }
    if let Some(events) = watch::events() {
        watch::run(events);
    }
    if cells::is_meant() {
        cells::run();
    }
    // Of a plain evcxr_jupyter, and of evcxr's wrapper around rustc.
    evcxr::runtime_hook();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ended(
        match &arguments[..] {
            [file] if !file.starts_with('-') => server::run(Path::new(file)),
            _ => evcxr_jupyter::main(),
        }
        .map(|()| ExitCode::SUCCESS),
    )
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("vitlab-kernel: {error:#}");
        ExitCode::FAILURE
    })
}
