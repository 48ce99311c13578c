//! The orders that the process that runs cells receives: to run a cell, and the answers to a cell's questions. The
//! orders arrive on a descriptor that cells and their programs can't read. Their standard input is a pipe of this
//! process. When something waits for input from it, the user is asked.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use super::input::CellInput;
use super::waiting::Waiting;
use super::watch::ready;
use super::{ANSWER, ASK, RUN, exit_with, flush};

/// Shortest time between two looks whether something waits for input.
const INTERVAL: Duration = Duration::from_millis(20);
/// The look at a process of many threads takes longer. The time between two is as many times as long.
const RARITY: u32 = 100;
/// Longest time between two looks. On a busy machine a look may take long for other reasons.
const LONGEST: Duration = Duration::from_millis(200);

/// Whether a cell runs. Locked while a question is written, so that no question follows the end of its cell.
#[derive(Clone, Default)]
pub struct Orders(Arc<Mutex<bool>>);

/// The library and the function of a cell.
type Cell = (String, String);

impl Orders {
    /// Moves the orders away from standard input and reads them on a thread of its own.
    pub fn start() -> std::io::Result<(Self, mpsc::Receiver<Cell>)> {
        let moved = fcntl(std::io::stdin().as_fd(), FcntlArg::F_DUPFD_CLOEXEC(3))?;
        // SAFETY: the descriptor was created by the line above.
        let file = unsafe { File::from_raw_fd(moved) };
        let input = CellInput::new()?;
        let orders = Orders::default();
        let (sender, cells) = mpsc::channel();
        let reader = Reader { running: orders.clone(), cells: sender, input, answers: 0, asked: false };
        std::thread::Builder::new().name("orders".into()).spawn(move || reader.read(file))?;
        Ok((orders, cells))
    }

    /// Ends a cell by the marker that `write` writes.
    pub fn end_cell(&self, write: impl FnOnce()) {
        let mut running = self.0.lock().unwrap();
        *running = false;
        write();
    }
}

struct Reader {
    running: Orders,
    cells: mpsc::Sender<Cell>,
    input: CellInput,
    /// How many answers have arrived.
    answers: usize,
    /// Whether a question has no answer yet.
    asked: bool,
}

impl Reader {
    fn read(mut self, orders: File) {
        // A signal handler of a cell expects one of the cell's threads.
        let _ = nix::sys::signal::SigSet::all().thread_block();
        let mut orders = BufReader::new(orders);
        let mut interval = INTERVAL;
        let mut line = String::new();
        loop {
            let looks = !self.asked && self.input.is_open() && *self.running.0.lock().unwrap();
            if orders.buffer().is_empty() && !ready([orders.get_ref().as_fd()], looks.then_some(interval))[0] {
                let begun = Instant::now();
                self.ask_for_input();
                interval = (begun.elapsed() * RARITY).clamp(INTERVAL, LONGEST);
                continue;
            }
            line.clear();
            match orders.read_line(&mut line) {
                Ok(count) if count > 0 => self.follow(line.trim_end_matches('\n')),
                // The process ends after the last cell.
                _ => return,
            }
        }
    }

    fn follow(&mut self, order: &str) {
        if let Some(answer) = order.strip_prefix(ANSWER) {
            let answer = serde_json::from_str(answer)
                .unwrap_or_else(|error| exit_with(&format!("the kernel sent an unknown answer: {error}: {order}")));
            self.answers += 1;
            self.asked = false;
            self.input.give(&answer);
        } else if let Some((library, function)) = order.strip_prefix(RUN).and_then(|cell| cell.rsplit_once(' ')) {
            self.input.begin_cell();
            self.asked = false;
            *self.running.0.lock().unwrap() = true;
            let _ = self.cells.send((library.to_string(), function.to_string()));
        } else {
            exit_with(&format!("evcxr sent an unknown order: {order}"));
        }
    }

    /// Asks the user if something waits for input.
    fn ask_for_input(&mut self) {
        if Waiting::find(self.input.name()).is_empty() || self.input.holds_bytes() {
            return;
        }
        let running = self.running.0.lock().unwrap();
        if *running {
            // The part of a line on standard output is the question.
            flush::flush_stdout();
            println!("{ASK}{}", self.answers);
            self.asked = true;
        }
    }
}
