//! The two processes behind evcxr. evcxr starts the watcher ([`watch`]), which starts the process that runs the cells'
//! code ([`runner`]) and interrupts their loops ([`loops`]). The watcher separates evcxr's markers from the cell's output
//! ([`sorter`]) and reports every output, panic, `?` and crash to the kernel as an [`event`].

pub mod event;
pub mod flush;
pub mod input;
pub mod loops;
mod meaning;
mod orders;
pub mod runner;
mod sorter;
mod stderr;
mod waiting;
pub mod watch;

// The lines by which evcxr, the code that evcxr generates and vitlab communicate on standard input and output.

/// evcxr's order to load a library and call one of its functions: `LOAD_AND_RUN library function`.
const RUN: &str = "LOAD_AND_RUN ";
/// Ends a cell. evcxr waits for it.
const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
/// Reports that a panic ended the cell's code.
pub const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
/// Reports that a `?` ended the cell's code.
const QUESTION: &str = "EVCXR_ERROR_OCCURRED";
/// Precedes the text of the panic's payload, with NUL in the place of line breaks. [`PANIC`] follows on another line.
pub const PANIC_TEXT: &str = "VITLAB_PANIC ";
/// Precedes the text of the `?`'s error in the same way. [`QUESTION`] follows.
pub const QUESTION_TEXT: &str = "VITLAB_QUESTION ";
/// Begins a block of one MIME type, written by `evcxr_display`.
const BEGIN_CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
/// Ends such a block.
const END_CONTENT: &str = "EVCXR_END_CONTENT";
/// Reports that a variable has a new type.
const CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// The request for input of the crate `evcxr_input`: `EVCXR_INPUT_REQUEST:prompt`.
const REQUEST: &str = "EVCXR_INPUT_REQUEST";
/// Follows [`REQUEST`] if the input is a password.
const PASSWORD: &str = "_PASSWORD";
/// The common beginning of evcxr's markers.
const EVCXR: &str = "EVCXR_";
/// The common beginning of vitlab's markers.
const VITLAB: &str = "VITLAB_";
/// Precedes an [`Output`](event::Output) as JSON, written by vitlab.
const OUTPUT: &str = "VITLAB_OUTPUT ";

/// Ends the line on standard output at which something began to wait for standard input. Contains the number of answers
/// that the cells' process has received: `VITLAB_ASK 0`.
const ASK: &str = "VITLAB_ASK ";
/// The kernel's order that gives the cell's process an [`Answer`](input::Answer) as JSON. evcxr passes it on.
pub const ANSWER: &str = "VITLAB_ANSWER ";

/// Exit status of a watcher or runner after a fault of the kernel itself.
const FAULT: i32 = 99;

fn exit_with(fault: &str) -> ! {
    eprintln!("{fault}");
    std::process::exit(FAULT);
}
