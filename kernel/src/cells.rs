//! The process that runs the cells' code: it loads the libraries that evcxr compiles, as evcxr's own does, but leaves
//! signals to the system, so that the watching process sees what ended it.

use std::ffi::c_void;
use std::io::BufRead;

use libloading::Library;

pub const VARIABLE: &str = "VITLAB_CELLS";
/// What evcxr waits for after a cell.
pub const COMPLETE: &str = "EVCXR_EXECUTION_COMPLETE";
/// What evcxr asks for: `LOAD_AND_RUN library function`.
pub const RUN: &str = "LOAD_AND_RUN ";

pub fn is_meant() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

pub fn run() -> ! {
    // What a cell starts may be a kernel itself.
    for name in [VARIABLE, "EVCXR_IS_RUNTIME"] {
        // SAFETY: no other thread is there yet.
        unsafe { std::env::remove_var(name) };
    }
    let mut variables = std::ptr::null_mut();
    for line in std::io::stdin().lock().lines() {
        let Some((library, function)) = line.as_deref().ok().and_then(asked) else {
            eprintln!("evcxr asked for something unknown: {line:?}");
            std::process::exit(99);
        };
        // SAFETY: evcxr compiled the library for this call; it gives and takes its store of variables.
        unsafe {
            let library = match Library::new(library) {
                Ok(library) => library,
                Err(error) => {
                    eprintln!("the cell's library can't be loaded: {error}");
                    std::process::exit(99);
                }
            };
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

fn asked(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix(RUN)?.rsplit_once(' ')
}
