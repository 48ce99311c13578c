//! The events that the watcher reports to the kernel, as one JSON object per line.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An event of a cell, or of the process that runs cells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The watcher and the process that runs cells have started; their process ids.
    Started { watcher: i32, runner: i32 },
    /// The code of a cell begins to run.
    Run,
    /// Text written on standard output or standard error.
    Text { stream: Stream, text: String },
    /// A figure, or a change of one.
    Output(Output),
    /// The last figure of a cell.
    Result(Bundle),
    /// A question to the user, as the cell or a program of it waits for input.
    Ask(Question),
    /// A panic ended the cell's code. `stderr` is the message of its hook, `payload` the text of its payload, if it has one.
    Panic { stderr: String, payload: Option<String> },
    /// A `?` ended the cell's code.
    Question { stderr: String },
    /// The cell has ended: its process wrote the last of evcxr's markers.
    Done,
    /// The process that runs cells has ended, by itself or by a signal.
    Ended { status: Option<i32>, signal: Option<i32>, stderr: String },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub prompt: String,
    pub password: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// One figure in several forms, by MIME type.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bundle {
    pub data: Map<String, Value>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// The content of a cell's line `VITLAB_OUTPUT {…}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Shows a figure below the previous output.
    Show(Bundle),
    /// Shows a figure that later outputs can replace by its id.
    Display { id: String, bundle: Bundle },
    /// Replaces the figure with this id.
    Update { id: String, bundle: Bundle },
    /// Removes the cell's outputs, at once or when the next output comes.
    Clear { wait: bool },
}

/// Sends events to the kernel.
#[derive(Clone)]
pub struct EventSender(Arc<Mutex<File>>);

impl EventSender {
    pub fn new(file: File) -> Self {
        EventSender(Arc::new(Mutex::new(file)))
    }

    pub fn send(&self, event: &Event) {
        let mut line = serde_json::to_string(event).expect("plain data");
        line.push('\n');
        // Writing fails only when the kernel has ended.
        let _ = self.0.lock().unwrap().write_all(line.as_bytes());
    }
}
