//! Shows the progress of cargo below a cell that waits for it, in one place, and removes it before the cell's own output.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::state::{CellState, KernelState, message};
use crate::build::progress;

/// The time between two looks at the progress.
const INTERVAL: Duration = Duration::from_millis(250);
/// A cell that takes less time than this shows no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// The progress of a cell.
#[derive(Default)]
pub enum ProgressLine {
    #[default]
    Hidden,
    /// The id of the output, and its text.
    Shown(String, String),
    /// The cell has begun to run.
    Over,
}

/// Shows progress until it is dropped.
pub struct Follower {
    state: Arc<KernelState>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Begins to show the progress of the current cell.
pub fn follow(state: &Arc<KernelState>) -> Follower {
    progress::remove(&state.folder);
    let (sender, end) = mpsc::channel::<()>();
    let shared = Arc::clone(state);
    let thread = std::thread::spawn(move || {
        let started = Instant::now();
        while end.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            if started.elapsed() > PATIENCE
                && let Some(text) = progress::read(&shared.folder)
            {
                show(&shared, text);
            }
        }
    });
    Follower { state: Arc::clone(state), thread: Some((sender, thread)) }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
        clear(&self.state);
    }
}

fn show(state: &KernelState, text: String) {
    let mut cell = state.cell();
    let (kind, id) = match &cell.progress {
        ProgressLine::Over => return,
        ProgressLine::Shown(_, shown) if *shown == text => return,
        ProgressLine::Shown(id, _) => ("update_display_data", id.clone()),
        ProgressLine::Hidden => ("display_data", uuid::Uuid::new_v4().to_string()),
    };
    let content = display(&text, &id);
    cell.progress = ProgressLine::Shown(id, text);
    send(state, &cell, kind, content);
}

/// Removes the progress. No more is shown below this cell.
pub fn clear(state: &KernelState) {
    let mut cell = state.cell();
    if let ProgressLine::Shown(id, _) = std::mem::replace(&mut cell.progress, ProgressLine::Over) {
        // Clearing would also remove earlier outputs.
        match cell.has_output {
            false => send(state, &cell, "clear_output", json!({ "wait": false })),
            true => send(state, &cell, "update_display_data", display("", &id)),
        }
    }
}

fn display(text: &str, id: &str) -> Value {
    json!({ "data": { "text/plain": text }, "metadata": {}, "transient": { "display_id": id } })
}

/// Sends while the state is locked, so that no progress follows its removal.
fn send(state: &KernelState, cell: &MutexGuard<CellState>, kind: &str, content: Value) {
    if let Some(request) = cell.request.as_ref().filter(|_| !cell.silent) {
        let _ = state.iopub.blocking_send(message(kind, content, request));
    }
}
