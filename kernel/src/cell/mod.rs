//! The two processes behind evcxr. evcxr starts the watcher ([`watch`]), which starts the process that runs the cells'
//! code ([`runner`]). The watcher separates evcxr's markers from the cell's output ([`sorter`]) and reports every
//! output, panic, `?` and crash to the kernel as an [`event`].

pub mod event;
pub mod marker;
pub mod runner;
mod sorter;
pub mod watch;

use std::fmt::Display;

/// Exit status of a watcher or runner after a fault of the kernel itself.
const FAULT: i32 = 99;

fn exit_with(fault: impl Display) -> ! {
    eprintln!("{fault}");
    std::process::exit(FAULT);
}
