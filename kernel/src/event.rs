//! What the process that watches the cells tells the kernel: one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A process for the cells is there.
    Started {
        watch: i32,
        cells: i32,
    },
    /// The code of a cell begins to run.
    Run,
    Text {
        stream: Stream,
        text: String,
    },
    Output(Output),
    /// The last thing that a cell showed.
    Result(Bundle),
    /// A panic ended the cell's code; what it wrote on standard error.
    Panic {
        said: String,
    },
    /// A `?` did.
    Question {
        said: String,
    },
    Done,
    /// The process for the cells has ended: by itself with a status, or by a signal.
    Ended {
        status: Option<i32>,
        signal: Option<i32>,
        said: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// One thing to show, in several forms by MIME type.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bundle {
    pub data: Map<String, Value>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// A line `VITLAB_OUTPUT {…}` of a cell.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Shown where it occurs.
    Show(Bundle),
    /// Shown where it occurs, under a name by which it can be changed.
    Display {
        id: String,
        bundle: Bundle,
    },
    Update {
        id: String,
        bundle: Bundle,
    },
    Clear {
        wait: bool,
    },
}
