//! Interrupts the current cell. A training announces in the kernel's folder that it listens, checks there for an
//! interrupt after each step, and stops after the step. The loops of the cell's own source check in each turn
//! ([`loops`](super::loops)), and unwind. Other code is ended together with its process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::state::{KernelState, Phase};
use crate::cell::loops;

/// File by which the kernel asks a training to stop.
const ASKED: &str = "interrupt";
/// File by which a training announces that it listens.
const LISTENING: &str = "listening";
/// File in which the kernel writes the number of the running cell.
const CELL: &str = "cell";
/// Code without checks is ended after this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// Code with checks is ended after this time. It may be within a call that returns to a loop.
const PATIENCE_WITH_CHECKS: Duration = Duration::from_secs(5);

/// Removes the last cell's files and writes this one's number.
pub fn begin_cell(folder: &Path, number: u64) {
    for name in [ASKED, LISTENING, loops::ASKED] {
        let _ = fs::remove_file(folder.join(name));
    }
    let _ = fs::write(folder.join(CELL), number.to_string());
}

/// Interrupts the current cell, if there is one. Asks it to stop; ends it if it doesn't stop in time, or at the second
/// interrupt.
pub fn interrupt(state: &KernelState) {
    let (number, interrupts) = {
        let mut cell = state.cell();
        if cell.phase == Phase::Idle {
            return;
        }
        cell.interrupts += 1;
        // The state is locked meanwhile, so that the next cell can't find the file.
        let _ = fs::write(state.folder.join(ASKED), "");
        (cell.number, cell.interrupts)
    };
    let asked = Instant::now();
    loop {
        let mut cell = state.cell();
        // A later interrupt has taken over, or evcxr starts the processes anew.
        if cell.number != number || cell.interrupts != interrupts || cell.process_has_ended() {
            return;
        }
        match cell.phase {
            // The engine checks the number of interrupts before it begins a cell.
            Phase::Idle | Phase::Waiting => return,
            Phase::Compiling => {
                let watcher = cell.watcher;
                for child in children(std::process::id() as i32).into_iter().filter(|child| *child != watcher) {
                    cell.ended_by_interrupt = true;
                    end(child);
                }
            }
            Phase::Running => {
                let listens = state.folder.join(LISTENING).exists();
                if !listens {
                    let _ = fs::write(state.folder.join(loops::ASKED), "");
                }
                let patience = if cell.has_checks { PATIENCE_WITH_CHECKS } else { PATIENCE };
                let ends = interrupts > 1 || (!listens && asked.elapsed() > patience);
                if ends {
                    cell.ended_by_interrupt = true;
                    end(cell.runner);
                }
                if ends || listens {
                    return;
                }
            }
        }
        drop(cell);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends every process that this one has started.
pub fn end_children() {
    children(std::process::id() as i32).into_iter().for_each(end);
}

fn end(process: i32) {
    children(process).into_iter().for_each(end);
    if process > 0 {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

fn children(process: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>()).collect()
}
