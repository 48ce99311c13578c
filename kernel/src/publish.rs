//! What every part of the kernel shares: the way to the clients' screens, and where the present cell stands.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use jupyter_protocol::{JupyterMessage, UnknownMessage};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::event::{Bundle, Event, Output};

pub struct Kernel {
    iopub: mpsc::Sender<JupyterMessage>,
    now: Mutex<Now>,
    /// Where a running cell and the kernel leave notes for each other.
    pub folder: PathBuf,
}

/// Where the present cell stands, or the last one.
#[derive(Default)]
pub struct Now {
    /// Counted from 1.
    pub cell: u64,
    pub phase: Phase,
    /// The request that outputs belong to.
    pub request: Option<Arc<JupyterMessage>>,
    pub silent: bool,
    /// The number in brackets.
    pub count: usize,
    pub interrupts: u32,
    /// Whether an interrupt ended its process or its compilation.
    pub ended_by_interrupt: bool,
    /// A panic, a `?` or the end of the process.
    pub problem: Option<Event>,
    pub result: Option<String>,
    /// The processes that watch and run the cells.
    pub watch: i32,
    pub cells: i32,
}

#[derive(Clone, Copy, Default, PartialEq)]
pub enum Phase {
    #[default]
    Idle,
    /// Asked for, while evcxr starts or is at something else.
    Waiting,
    Compiling,
    Running,
}

impl Kernel {
    pub fn new(iopub: mpsc::Sender<JupyterMessage>, folder: PathBuf) -> Self {
        Kernel { iopub, now: Mutex::default(), folder }
    }

    pub fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap()
    }

    /// A cell is asked for: from now on it can be interrupted.
    pub fn expect(&self) {
        let mut now = self.now();
        now.phase = Phase::Waiting;
        now.interrupts = 0;
    }

    pub async fn publish(&self, kind: &str, content: Value, parent: &JupyterMessage) {
        let _ = self.iopub.send(message(kind, content, parent)).await;
    }

    /// Publishes an output of the present cell. Waits, and with it the cell, while the socket is behind; what a client hasn't
    /// read yet is kept for it.
    pub fn show(&self, kind: &str, content: Value) {
        let now = self.now();
        let (request, silent) = (now.request.clone(), now.silent);
        drop(now);
        if let Some(request) = request.filter(|_| !silent) {
            let _ = self.iopub.blocking_send(message(kind, content, &request));
        }
    }

    pub fn result(&self, bundle: Bundle) {
        let mut now = self.now();
        let text = bundle.data.get("text/plain").and_then(Value::as_str);
        // Of a cell that ends with a loop; Python shows no `None` either.
        if bundle.data.len() == 1 && text == Some("()") {
            return;
        }
        now.result = text.map(String::from);
        let count = now.count;
        drop(now);
        self.show(
            "execute_result",
            json!({ "execution_count": count, "data": bundle.data, "metadata": bundle.metadata }),
        );
    }

    /// Acts on what the watching process told.
    pub fn take(&self, event: Event) {
        match event {
            Event::Started { watch, cells } => {
                let mut now = self.now();
                (now.watch, now.cells) = (watch, cells);
            }
            Event::Run => self.enter(Phase::Running),
            Event::Done => self.enter(Phase::Compiling),
            Event::Text { stream, text } => self.show("stream", json!({ "name": stream.name(), "text": text })),
            Event::Result(bundle) => self.result(bundle),
            Event::Output(output) => self.output(output),
            Event::Panic { .. } | Event::Question { .. } | Event::Ended { .. } => self.now().problem = Some(event),
        }
    }

    /// evcxr runs code of its own when no cell is at work.
    fn enter(&self, phase: Phase) {
        let mut now = self.now();
        if matches!(now.phase, Phase::Compiling | Phase::Running) {
            now.phase = phase;
        }
    }

    fn output(&self, output: Output) {
        let content = |bundle: Bundle, id: Option<String>| {
            let transient = id.map_or(json!({}), |id| json!({ "display_id": id }));
            json!({ "data": bundle.data, "metadata": bundle.metadata, "transient": transient })
        };
        match output {
            Output::Show(bundle) => self.show("display_data", content(bundle, None)),
            Output::Display { id, bundle } => self.show("display_data", content(bundle, Some(id))),
            Output::Update { id, bundle } => self.show("update_display_data", content(bundle, Some(id))),
            Output::Clear { wait } => self.show("clear_output", json!({ "wait": wait })),
        }
    }
}

pub fn message(kind: &str, content: Value, parent: &JupyterMessage) -> JupyterMessage {
    let content = UnknownMessage { msg_type: kind.to_string(), content };
    JupyterMessage::new(content, Some(parent))
}
