//! The two processes behind evcxr. evcxr starts the watcher ([`watch`]), which starts the process that runs the cells'
//! code ([`runner`]) and interrupts their loops ([`loops`]). The watcher separates evcxr's markers from the cell's output
//! ([`sorter`]) and reports every output, panic, `?` and crash to the kernel as an [`event`].

pub mod event;
pub mod loops;
pub mod runner;
mod sorter;
pub mod watch;

// The lines by which evcxr, the code that evcxr generates and vitlab communicate on standard input and output.

/// evcxr's order to load a library and call one of its functions: `LOAD_AND_RUN library function`.
const RUN: &str = "LOAD_AND_RUN ";
/// Ends a cell. evcxr waits for it.
const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
/// Reports that a panic ended the cell's code.
const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
/// Reports that a `?` ended the cell's code.
const QUESTION: &str = "EVCXR_ERROR_OCCURRED";
/// Begins a block of one MIME type, written by `evcxr_display`.
const BEGIN_CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
/// Ends such a block.
const END_CONTENT: &str = "EVCXR_END_CONTENT";
/// Reports a variable that can't be read, because its type has changed.
const CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// The other messages for evcxr. The last one requests input.
const FOR_EVCXR: [&str; 2] = [CHANGED_TYPE, "EVCXR_INPUT_REQUEST"];
/// The common beginning of evcxr's markers.
const EVCXR: &str = "EVCXR_";
/// Precedes an [`Output`](event::Output) as JSON, written by vitlab.
const OUTPUT: &str = "VITLAB_OUTPUT ";

/// Exit status of a watcher or runner after a fault of the kernel itself.
const FAULT: i32 = 99;

fn exit_with(fault: &str) -> ! {
    eprintln!("{fault}");
    std::process::exit(FAULT);
}
