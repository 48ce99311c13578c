//! Interrupts the loops of cells, in the process that runs them. The kernel adds checks to the loops of each cell, which
//! read a state within the cell's own library. A thread of this process sets these states: it looks for the file by
//! which the kernel asks, and tells the loops how time passes.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use libloading::Library;

/// File by which the kernel asks the loops of the running cell to end.
pub const ASKED: &str = "end_loops";
/// Name of the function by which a library returns its state.
const FUNCTION: &[u8] = b"vitlab_loops";
/// Time between two ticks.
const TICK: Duration = Duration::from_millis(5);
/// The file is looked for at every tick of this number.
const TICKS_PER_LOOK: u32 = 4;

// Values of `State::interrupt`.
const GO_ON: u32 = 0;
/// Every thread ends its loops.
const INTERRUPT_ALL: u32 = 1;
/// Only the thread that runs cells ends its loops.
const INTERRUPT_RUNNER: u32 = 2;

/// The state of one library, as the cells' module declares it.
#[repr(C)]
struct State {
    interrupt: AtomicU32,
    /// Counts the ticks while a cell runs.
    tick: AtomicU32,
    /// The thread that runs cells. The library sets it.
    _runner: AtomicUsize,
    /// The last thread that an interrupt has ended.
    unwinding: AtomicUsize,
}

#[derive(Default)]
struct Libraries {
    states: Vec<&'static State>,
    /// Whether a cell runs.
    running: bool,
    /// Whether the last state belongs to the running cell.
    current: bool,
}

/// The loops of all libraries that this process has loaded.
#[derive(Default)]
pub struct Loops {
    libraries: Arc<(Mutex<Libraries>, Condvar)>,
    started: bool,
}

impl Loops {
    /// Begins a cell. Must be called by the thread that runs cells.
    ///
    /// # Safety
    ///
    /// The library must never be unloaded, and its function `vitlab_loops`, if it has one, must be the one of the cells'
    /// module.
    pub unsafe fn begin_cell(&mut self, library: &Library) {
        // SAFETY: the function returns the address of a static with this layout, which lives as long as the library.
        let state = unsafe {
            library.get::<extern "C" fn() -> *const State>(FUNCTION).ok().and_then(|function| function().as_ref())
        };
        let (libraries, begun) = &*self.libraries;
        let mut libraries = libraries.lock().unwrap();
        libraries.states.extend(state);
        libraries.current = state.is_some();
        libraries.running = true;
        libraries.set(GO_ON, GO_ON);
        libraries.states.iter().for_each(|state| state.unwinding.store(0, Relaxed));
        begun.notify_one();
        drop(libraries);
        // A cell without loops needs no thread.
        if state.is_some() && !self.started {
            self.start();
        }
    }

    /// Ends a cell.
    pub fn end_cell(&self) {
        self.libraries.0.lock().unwrap().running = false;
    }

    fn start(&mut self) {
        let Some(folder) = std::env::var_os("VITLAB_KERNEL") else { return };
        let asked = Path::new(&folder).join(ASKED);
        let libraries = Arc::clone(&self.libraries);
        let watch = move || {
            for tick in 0_u32.. {
                let (libraries, begun) = &*libraries;
                let idle = |libraries: &mut Libraries| !libraries.running;
                let libraries = begun.wait_while(libraries.lock().unwrap(), idle).unwrap();
                libraries.states.iter().for_each(|state| state.tick.store(tick, Relaxed));
                // Both under the lock, so that a file of this cell doesn't interrupt the next one.
                if tick % TICKS_PER_LOOK == 0 && asked.exists() {
                    libraries.set(INTERRUPT_ALL, INTERRUPT_RUNNER);
                }
                drop(libraries);
                thread::sleep(TICK);
            }
        };
        // Without the thread an interrupt ends the process, as it does if a cell has no loop.
        self.started = thread::Builder::new().name("vitlab-loops".into()).spawn(watch).is_ok();
    }
}

impl Libraries {
    /// Sets the states of the running cell's library and of the earlier ones.
    fn set(&self, current: u32, earlier: u32) {
        let from = self.states.len() - usize::from(self.current);
        self.states[..from].iter().for_each(|state| state.interrupt.store(earlier, Relaxed));
        self.states[from..].iter().for_each(|state| state.interrupt.store(current, Relaxed));
    }
}
