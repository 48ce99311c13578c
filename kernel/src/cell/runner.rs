//! The process that runs the cells' code. Loads the libraries that evcxr compiles, as evcxr's runtime does. It installs
//! no signal handlers, so that the watcher sees the signal that ended it.

use std::error::Error;
use std::ffi::c_void;
use std::io::BufRead;

use libloading::Library;

use super::{COMPLETE, RUN, exit_with};

/// Set in this process's environment.
pub const VARIABLE: &str = "VITLAB_CELLS";

pub fn run() -> ! {
    // A cell may start another kernel, which must not take itself for this process.
    for name in [VARIABLE, "EVCXR_IS_RUNTIME"] {
        // SAFETY: the process has only this thread so far.
        unsafe { std::env::remove_var(name) };
    }
    let mut variables = std::ptr::null_mut();
    for line in std::io::stdin().lock().lines() {
        let order = line.as_deref().ok().and_then(|line| line.strip_prefix(RUN)?.rsplit_once(' '));
        let Some((library, function)) = order else { exit_with(&format!("evcxr sent an unknown order: {line:?}")) };
        // SAFETY: evcxr compiled the library for this call, which receives and returns evcxr's store of variables.
        unsafe {
            let library = Library::new(library)
                .unwrap_or_else(|error| exit_with(&format!("the cell's library can't be loaded: {}", reason(&error))));
            match library.get::<extern "C" fn(*mut c_void) -> *mut c_void>(function.as_bytes()) {
                Ok(function) => variables = function(variables),
                Err(error) => eprintln!("the cell's library lacks its function: {error}"),
            }
            // Never unloaded: variables and thread-locals refer to its code.
            std::mem::forget(library);
        }
        println!("{COMPLETE}");
    }
    std::process::exit(0);
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
