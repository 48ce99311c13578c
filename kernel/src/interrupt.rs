//! Interrupts. A training listens: it says so in the kernel's folder, looks there after each step, and stops in order. What
//! doesn't listen is ended with its process.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::event::Event;
use crate::publish::{Kernel, Phase};

/// Made by the kernel, looked for by a training.
const ASKED: &str = "interrupt";
/// Made by a training.
const LISTENING: &str = "listening";
/// Made by the kernel: the cell that runs.
const CELL: &str = "cell";

/// Takes away what the cell before left, and leaves this one's number.
pub fn begin(folder: &Path, cell: u64) {
    for name in [ASKED, LISTENING] {
        let _ = fs::remove_file(folder.join(name));
    }
    let _ = fs::write(folder.join(CELL), cell.to_string());
}

/// Interrupts the present cell, if there is one: asks first, and ends what hasn't listened within a second or is
/// interrupted again.
pub fn interrupt(kernel: &Kernel) {
    let (cell, mine) = {
        let mut now = kernel.now();
        if now.phase == Phase::Idle {
            return;
        }
        now.interrupts += 1;
        // Under the lock, lest the next cell finds it.
        let _ = fs::write(kernel.folder.join(ASKED), "");
        (now.cell, now.interrupts)
    };
    let asked = Instant::now();
    loop {
        let mut now = kernel.now();
        // A later interrupt has taken over, or the processes are being started anew.
        let over = matches!(now.problem, Some(Event::Ended { .. }));
        if now.cell != cell || now.interrupts != mine || over {
            return;
        }
        match now.phase {
            // The engine looks at the count before it begins.
            Phase::Idle | Phase::Waiting => return,
            Phase::Compiling => {
                let compilers = children(std::process::id() as i32);
                let compilers = compilers.into_iter().filter(|child| *child != now.watch);
                for compiler in compilers.collect::<Vec<_>>() {
                    now.ended_by_interrupt = true;
                    end(compiler);
                }
            }
            Phase::Running => {
                let listens = kernel.folder.join(LISTENING).exists();
                if mine > 1 || (!listens && asked.elapsed() > Duration::from_secs(1)) {
                    now.ended_by_interrupt = true;
                    end(now.cells);
                    return;
                }
                if listens {
                    return;
                }
            }
        }
        drop(now);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends every process that this one started, before this one ends.
pub fn end_all() {
    for child in children(std::process::id() as i32) {
        end(child);
    }
}

fn end(process: i32) {
    for child in children(process) {
        end(child);
    }
    if process > 0 {
        let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
    }
}

fn children(process: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let read = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.filter_map(|thread| read(thread.ok()?)).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|child| child.parse().ok()).collect()
}
