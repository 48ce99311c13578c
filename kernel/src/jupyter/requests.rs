//! Answers the requests on the shell and control sockets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use jupyter_zmq_client::RouterSendConnection;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::completeness::is_complete;
use super::history::History;
use super::input::Input;
use crate::engine::interrupt::{end_children, interrupt};
use crate::engine::state::{KernelState, message};
use crate::engine::{Engine, EngineHandle};

/// Answers requests at once, even while a cell runs.
pub struct Control {
    pub control: RouterSendConnection,
    pub state: Arc<KernelState>,
}

impl Control {
    pub async fn serve(mut self, mut requests: UnboundedReceiver<JupyterMessage>) {
        while let Some(request) = requests.recv().await {
            let (kind, reply) = match request.header.msg_type.as_str() {
                "interrupt_request" => {
                    let state = Arc::clone(&self.state);
                    tokio::task::spawn_blocking(move || interrupt(&state));
                    ("interrupt_reply", json!({ "status": "ok" }))
                }
                "shutdown_request" => ("shutdown_reply", shutdown_reply(&request)),
                "kernel_info_request" => ("kernel_info_reply", kernel_info()),
                _ => continue,
            };
            let _ = self.control.send(message(kind, reply, &request)).await;
            if kind == "shutdown_reply" {
                shut_down(&self.state, &request).await;
            }
        }
    }
}

/// Answers one request after the other.
pub struct Shell {
    shell: RouterSendConnection,
    state: Arc<KernelState>,
    engine: EngineHandle,
    input: Arc<Input>,
    history: History,
    /// Requests of other kinds that came between aborted cells.
    postponed: VecDeque<JupyterMessage>,
}

impl Shell {
    pub fn new(shell: RouterSendConnection, state: Arc<KernelState>, engine: EngineHandle, input: Arc<Input>) -> Self {
        Shell { shell, state, engine, input, history: History::default(), postponed: VecDeque::new() }
    }

    pub async fn serve(mut self, mut requests: UnboundedReceiver<JupyterMessage>) {
        loop {
            let request = match self.postponed.pop_front() {
                Some(request) => request,
                None => match requests.recv().await {
                    Some(request) => request,
                    None => return,
                },
            };
            let request = Arc::new(request);
            // The cell is noted before a client learns that the kernel is busy and interrupts it.
            if request.header.msg_type == "execute_request" {
                self.state.expect_cell();
            }
            self.publish_status("busy", &request).await;
            let aborted = self.answer(&request, &mut requests).await;
            self.publish_status("idle", &request).await;
            for request in aborted {
                self.publish_status("busy", &request).await;
                self.send("execute_reply", json!({ "status": "aborted" }), &request).await;
                self.publish_status("idle", &request).await;
            }
        }
    }

    async fn publish_status(&self, status: &str, request: &JupyterMessage) {
        self.state.publish("status", json!({ "execution_state": status }), request).await;
    }

    async fn send(&mut self, kind: &str, reply: Value, request: &JupyterMessage) {
        let _ = self.shell.send(message(kind, reply, request)).await;
    }

    /// Sends the reply to a request. Returns the queued cells that must not run after it.
    async fn answer(
        &mut self,
        request: &Arc<JupyterMessage>,
        requests: &mut UnboundedReceiver<JupyterMessage>,
    ) -> Vec<JupyterMessage> {
        let content = content(request);
        let code = content["code"].as_str().unwrap_or_default().to_string();
        let cursor = content["cursor_pos"].as_u64().unwrap_or(u64::MAX) as usize;
        let mut aborted = Vec::new();
        let (kind, reply) = match request.header.msg_type.as_str() {
            "execute_request" => {
                let reply = self.execute(Arc::clone(request), &content).await;
                let failed = reply["status"] == "error" && content["stop_on_error"] != false;
                if failed || self.state.cell().interrupts > 0 {
                    aborted = self.take_queued_cells(requests).await;
                }
                ("execute_reply", reply)
            }
            "complete_request" => ("complete_reply", self.ask(move |engine| engine.complete(&code, cursor)).await),
            "inspect_request" => ("inspect_reply", self.ask(move |engine| engine.inspect(&code, cursor)).await),
            "kernel_info_request" => ("kernel_info_reply", kernel_info()),
            "is_complete_request" => ("is_complete_reply", is_complete(&code)),
            "history_request" => ("history_reply", self.history.reply(&content)),
            "comm_info_request" => ("comm_info_reply", json!({ "status": "ok", "comms": {} })),
            "comm_open" => {
                // The kernel has no widgets, so it closes the channel.
                let close = json!({ "comm_id": content["comm_id"], "data": {} });
                self.state.publish("comm_close", close, request).await;
                return aborted;
            }
            "shutdown_request" => ("shutdown_reply", shutdown_reply(request)),
            _ => return aborted,
        };
        self.send(kind, reply, request).await;
        if kind == "shutdown_reply" {
            shut_down(&self.state, request).await;
        }
        aborted
    }

    async fn execute(&mut self, request: Arc<JupyterMessage>, content: &Value) -> Value {
        let (sent, input) = (content.clone(), Arc::clone(&self.input));
        let allowed = content["allow_stdin"] == true;
        let read_input =
            move |prompt: &str, password| if allowed { input.request(prompt, password) } else { String::new() };
        let reply = self.ask(move |engine| engine.execute(request, &sent, read_input)).await;
        if content["silent"] != true && content["store_history"] != false {
            let count = reply["execution_count"].as_u64().unwrap_or_default() as usize;
            let code = content["code"].as_str().unwrap_or_default();
            self.history.add(count, code, self.state.cell().result.take());
        }
        reply
    }

    async fn ask(&self, task: impl FnOnce(&mut Engine) -> Value + Send + 'static) -> Value {
        let message = "evcxr's thread has ended; restart the kernel";
        let ended = json!({ "status": "error", "ename": "Error", "evalue": message, "traceback": [] });
        self.engine.run(task).await.unwrap_or(ended)
    }

    /// Takes the cells that clients sent before they learn the outcome of the current one.
    async fn take_queued_cells(&mut self, requests: &mut UnboundedReceiver<JupyterMessage>) -> Vec<JupyterMessage> {
        // Run All sends all cells at once, but the last ones may not have arrived.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut cells = Vec::new();
        while let Ok(request) = requests.try_recv() {
            match request.header.msg_type.as_str() {
                "execute_request" => cells.push(request),
                _ => self.postponed.push_back(request),
            }
        }
        cells
    }
}

/// Returns the content of a message.
pub fn content(message: &JupyterMessage) -> Value {
    serde_json::to_value(&message.content).unwrap_or_default()
}

fn kernel_info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": env!("CARGO_PKG_NAME"),
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "Rust",
            "version": "",
            "mimetype": "text/rust",
            "file_extension": ".rs",
            "pygments_lexer": "rust",
            "codemirror_mode": "rust",
        },
        "banner": "Rust on evcxr 0.22",
        "help_links": [{ "text": "Rust's standard library", "url": "https://doc.rust-lang.org/stable/std/" }],
        "debugger": false,
    })
}

fn shutdown_reply(request: &JupyterMessage) -> Value {
    json!({ "status": "ok", "restart": content(request)["restart"] == true })
}

/// Publishes the shutdown and ends every process of the kernel.
async fn shut_down(state: &KernelState, request: &JupyterMessage) {
    let _ = tokio::time::timeout(Duration::from_millis(100), async {
        state.publish("shutdown_reply", shutdown_reply(request), request).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    end_children();
    std::process::exit(0);
}
