//! The process that runs the cells' code. Loads the libraries that evcxr compiles, as evcxr's runtime does. It installs
//! no handler for a signal that ends a process, so that the watcher sees the signal that ended it.

use std::ffi::c_void;

use libloading::Library;

use super::flush::{self, FLUSH};
use super::orders::Orders;
use super::{COMPLETE, exit_with};

/// Set in this process's environment.
pub const VARIABLE: &str = "VITLAB_CELLS";

pub fn run() -> ! {
    // A cell may start another kernel, which must not take itself for this process.
    for name in [VARIABLE, "EVCXR_IS_RUNTIME"] {
        // SAFETY: the process has only this thread so far.
        unsafe { std::env::remove_var(name) };
    }
    let (orders, cells) = Orders::start()
        .unwrap_or_else(|error| exit_with(&format!("the cells' standard input can't be set up: {error}")));
    let mut variables = std::ptr::null_mut();
    for (library, function) in cells {
        // SAFETY: evcxr compiled the library for this call, which receives and returns evcxr's store of variables.
        unsafe {
            let library = Library::new(library)
                .unwrap_or_else(|error| exit_with(&format!("the cell's library can't be loaded: {error}")));
            flush::set(library.get::<extern "C" fn()>(FLUSH.as_bytes()).ok().map(|function| *function));
            match library.get::<extern "C" fn(*mut c_void) -> *mut c_void>(function.as_bytes()) {
                Ok(function) => variables = function(variables),
                Err(error) => eprintln!("the cell's library lacks its function: {error}"),
            }
            // Never unloaded: variables and thread-locals refer to its code.
            std::mem::forget(library);
        }
        flush::flush_stdout();
        orders.end_cell(|| println!("{COMPLETE}"));
    }
    std::process::exit(0);
}
