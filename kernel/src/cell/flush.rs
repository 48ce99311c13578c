//! Flushes the cells' standard output. Cells share the standard library's shared library, which buffers the part of a
//! line. This process has a standard library of its own and can't reach that buffer, but a function in every cell's
//! library can.

use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// The function in the library of a cell, which the [build](crate::build) adds.
pub const FLUSH: &str = "vitlab_flush";

/// A flush takes longer if a thread of a cell holds the lock of standard output, perhaps for ever.
const PATIENCE: Duration = Duration::from_millis(250);

struct Flush {
    function: Option<extern "C" fn()>,
    /// Whether an earlier flush still waits for the lock. It will flush everything that was written until then.
    waits: bool,
}

static STATE: Mutex<Flush> = Mutex::new(Flush { function: None, waits: false });

/// Sets the function, which stays loaded. A cell whose library lacks it keeps the function of an earlier cell.
pub fn set(function: Option<extern "C" fn()>) {
    let mut state = STATE.lock().unwrap();
    state.function = function.or(state.function);
}

/// Flushes what the cell's libraries in C have written, which C's standard library buffers even after a line.
fn flush_c() {
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" {
            static stdout: *mut nix::libc::FILE;
        }
        // SAFETY: C's standard library has opened the stream, and locks it during the call.
        unsafe { nix::libc::fflush(stdout) };
    }
}

/// Flushes, unless a thread of a cell holds the lock.
pub fn flush_stdout() {
    let mut state = STATE.lock().unwrap();
    let Some(function) = state.function.filter(|_| !state.waits) else { return };
    state.waits = true;
    drop(state);
    let (sender, flushed) = mpsc::channel::<()>();
    let flush = move || {
        function();
        flush_c();
        STATE.lock().unwrap().waits = false;
        drop(sender);
    };
    if std::thread::Builder::new().spawn(flush).is_err() {
        STATE.lock().unwrap().waits = false;
    }
    let _: Result<(), RecvTimeoutError> = flushed.recv_timeout(PATIENCE);
}
