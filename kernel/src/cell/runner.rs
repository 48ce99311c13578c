//! The process that runs the cells' code. Loads the libraries that evcxr compiles, as evcxr's runtime does. It installs
//! no handler for a signal that ends a process, so that the watcher sees the signal that ended it.

use std::error::Error;
use std::ffi::c_void;
use std::fs;
use std::path::PathBuf;

use libloading::Library;

use super::flush::{self, FLUSH};
use super::loops::Loops;
use super::orders::Orders;
use super::{CHANGED_TYPE, COMPLETE, PANIC, exit_with};

/// Set in this process's environment.
pub const VARIABLE: &str = "VITLAB_CELLS";

/// The file in the kernel's folder that names variables that the next cell must not read.
pub const DROPPED: &str = "dropped";
/// The file in the kernel's folder that makes evcxr forget the variables that the next cell defines. The cell isn't run.
pub const FORGOTTEN: &str = "forgotten";

pub fn run() -> ! {
    // A cell may start another kernel, which must not take itself for this process.
    for name in [VARIABLE, "EVCXR_IS_RUNTIME"] {
        // SAFETY: the process has only this thread so far.
        unsafe { std::env::remove_var(name) };
    }
    let (orders, cells) = Orders::start()
        .unwrap_or_else(|error| exit_with(&format!("the cells' standard input can't be set up: {error}")));
    let mut loops = Loops::default();
    let mut variables = std::ptr::null_mut();
    for (library, function) in cells {
        if report_dropped() {
            orders.end_cell(|| println!("{COMPLETE}"));
            continue;
        }
        // SAFETY: evcxr compiled the library for this call, which receives and returns evcxr's store of variables.
        unsafe {
            let library = Library::new(library)
                .unwrap_or_else(|error| exit_with(&format!("the cell's library can't be loaded: {}", reason(&error))));
            flush::set(library.get::<extern "C" fn()>(FLUSH.as_bytes()).ok().map(|function| *function));
            loops.begin_cell(&library);
            match library.get::<extern "C" fn(*mut c_void) -> *mut c_void>(function.as_bytes()) {
                Ok(function) => variables = function(variables),
                Err(error) => eprintln!("the cell's library lacks its function: {error}"),
            }
            loops.end_cell();
            // Never unloaded: variables and thread-locals refer to its code.
            std::mem::forget(library);
        }
        flush::flush_stdout();
        orders.end_cell(|| println!("{COMPLETE}"));
    }
    std::process::exit(0);
}

/// Reports variables that evcxr must not give to the cell. evcxr then compiles the cell again. Returns `false` if there
/// are none.
fn report_dropped() -> bool {
    let Some(folder) = std::env::var_os("VITLAB_KERNEL").map(PathBuf::from) else { return false };
    if fs::remove_file(folder.join(FORGOTTEN)).is_ok() {
        // After a panic, evcxr keeps no variable that the cell defines.
        println!("{PANIC}");
        return true;
    }
    let file = folder.join(DROPPED);
    let Ok(names) = fs::read_to_string(&file) else { return false };
    let _ = fs::remove_file(file);
    names.lines().for_each(|name| println!("{CHANGED_TYPE}{name}"));
    true
}

/// Returns the loader's own words, which the error's text leaves out.
fn reason(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| source.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_failed_load_is_told() {
        // SAFETY: nothing is loaded.
        let error = unsafe { Library::new("/no/such/library.so") }.unwrap_err();
        assert!(reason(&error).contains("No such file"), "{}", reason(&error));
    }
}
