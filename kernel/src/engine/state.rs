//! The state that requests, the engine and interrupts share: the progress of the current cell, and the channel by which
//! outputs reach the clients.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::SubsecRound;
use jupyter_protocol::{JupyterMessage, UnknownMessage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::progress::ProgressLine;
use crate::cell::event::{Bundle, Event, Question};

/// The state of a kernel.
pub struct KernelState {
    pub iopub: mpsc::Sender<JupyterMessage>,
    pub cell: Mutex<CellState>,
    /// Holds evcxr's build, and the files by which the kernel and a running cell notify each other.
    pub folder: PathBuf,
}

/// The progress of the current cell, or of the last one.
#[derive(Default)]
pub struct CellState {
    /// Number of the cell in this session, from 1.
    pub number: u64,
    pub phase: Phase,
    /// The request to which outputs are attributed.
    pub request: Option<Arc<JupyterMessage>>,
    pub silent: bool,
    /// The number in brackets beside the cell.
    pub execution_count: usize,
    /// How many interrupts the cell has received.
    pub interrupts: u32,
    /// Whether the cell's code has begun to run.
    pub has_run: bool,
    /// Whether an interrupt reaches the cell's loops.
    pub has_checks: bool,
    /// Whether an interrupt ended the cell's process or its compilation.
    pub ended_by_interrupt: bool,
    /// The panic, the `?` or the end of the process that stopped the cell.
    pub stopped_by: Option<Event>,
    /// Messages of panics that didn't stop the cell, such as those of its threads.
    pub other_panics: String,
    /// Whether anything was shown below the cell, apart from progress.
    pub has_output: bool,
    /// The progress of cargo below the cell.
    pub progress: ProgressLine,
    /// Questions of cells that have no answer yet.
    pub questions: VecDeque<Question>,
    /// Whether the cell was interrupted while it waited for an answer.
    pub interrupted_at_question: bool,
    /// Whether the cell's client was told that it answers no questions.
    pub refusal_told: bool,
    /// The text of the cell's result.
    pub result: Option<String>,
    /// Receives the result of a user expression, which isn't published.
    pub captured: Option<Bundle>,
    /// Process id of the watcher.
    pub watcher: i32,
    /// Process id of the process that runs cells.
    pub runner: i32,
}

impl CellState {
    /// Returns whether the process that runs cells has ended.
    pub fn process_has_ended(&self) -> bool {
        matches!(self.stopped_by, Some(Event::Ended { .. }))
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
pub enum Phase {
    #[default]
    Idle,
    /// The cell is requested, and evcxr starts or is busy.
    Waiting,
    Compiling,
    Running,
}

impl KernelState {
    pub fn cell(&self) -> MutexGuard<'_, CellState> {
        self.cell.lock().unwrap()
    }

    pub async fn publish(&self, kind: &str, content: Value, parent: Option<&JupyterMessage>) {
        let _ = self.iopub.send(message_below(kind, content, parent)).await;
    }

    /// Publishes an output of the current cell. Blocks while the channel is full, which in turn blocks the cell's
    /// output.
    pub fn publish_output(&self, kind: &str, mut content: Value) {
        let mut cell = self.cell();
        cell.has_output |= kind != "execute_input";
        let (request, silent) = (cell.request.clone(), cell.silent);
        drop(cell);
        if let Some(request) = request.filter(|_| !silent) {
            if matches!(kind, "display_data" | "execute_result") {
                keep_checksum(&mut content, &request);
            }
            let _ = self.iopub.blocking_send(message(kind, content, &request));
        }
    }

    pub fn publish_result(&self, bundle: Bundle) {
        let mut cell = self.cell();
        if let Some(captured) = &mut cell.captured {
            *captured = bundle;
            return;
        }
        let text = bundle.data.get("text/plain").and_then(Value::as_str);
        // A cell that ends with a loop has this value. Python doesn't show `None` either.
        if bundle.data.len() == 1 && text == Some("()") {
            return;
        }
        cell.result = text.map(String::from);
        let count = cell.execution_count;
        drop(cell);
        let content = json!({ "execution_count": count, "data": bundle.data, "metadata": bundle.metadata });
        self.publish_output("execute_result", content);
    }
}

/// Adds the SHA-256 of the cell's source to an output's metadata, which front ends save: `cargo lab check` tells by it whether the
/// cell was edited after it ran. An update of another cell's output gets none, because that cell's source is another one.
fn keep_checksum(output: &mut Value, request: &JupyterMessage) {
    if let Some(source) = content(request)["code"].as_str() {
        let checksum: String = Sha256::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        output["metadata"]["vitlab"] = json!({ "source": checksum });
    }
}

/// Makes a message that answers `parent`.
pub fn message(kind: &str, content: Value, parent: &JupyterMessage) -> JupyterMessage {
    message_below(kind, content, Some(parent))
}

fn message_below(kind: &str, content: Value, parent: Option<&JupyterMessage>) -> JupyterMessage {
    let mut message = JupyterMessage::new(UnknownMessage { msg_type: kind.to_string(), content }, parent);
    // jupyter_client reads dates with at most six digits after the seconds.
    message.header.date = message.header.date.trunc_subsecs(6);
    message
}

/// Returns the content of a message.
pub fn content(message: &JupyterMessage) -> Value {
    serde_json::to_value(&message.content).unwrap_or_default()
}
