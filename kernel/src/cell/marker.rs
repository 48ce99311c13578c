//! The lines by which evcxr, the code that evcxr generates and vitlab communicate on standard input and output.

/// evcxr's order to load a library and call one of its functions: `LOAD_AND_RUN library function`.
pub const RUN: &str = "LOAD_AND_RUN ";
/// Ends a cell. evcxr waits for it.
pub const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
/// Reports that a panic ended the cell's code.
pub const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
/// Reports that a `?` ended the cell's code.
pub const QUESTION: &str = "EVCXR_ERROR_OCCURRED";
/// Begins a block of one MIME type, written by `evcxr_display`.
pub const BEGIN_CONTENT: &str = "EVCXR_BEGIN_CONTENT ";
/// Ends such a block.
pub const END_CONTENT: &str = "EVCXR_END_CONTENT";
/// The other messages for evcxr: a variable has a new type, the cell requests input.
pub const FOR_EVCXR: [&str; 2] = ["EVCXR_VARIABLE_CHANGED_TYPE:", "EVCXR_INPUT_REQUEST"];
/// The common beginning of evcxr's markers.
pub const EVCXR: &str = "EVCXR_";
/// Precedes an [`Output`](super::event::Output) as JSON, written by vitlab.
pub const OUTPUT: &str = "VITLAB_OUTPUT ";
