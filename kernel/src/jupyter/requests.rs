//! Answers the requests on the shell and control sockets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use jupyter_zmq_client::RouterSendConnection;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::history::History;
use super::input::Input;
use crate::cell::event::Question;
use crate::engine::EngineHandle;
use crate::engine::interrupt::{end_children, interrupt};
use crate::engine::state::{KernelState, Phase, content, message};
use crate::engine::syntax::is_complete;

/// Answers the requests on the control socket at once, even while a cell runs.
pub async fn serve_control(
    mut control: RouterSendConnection,
    state: Arc<KernelState>,
    mut requests: UnboundedReceiver<JupyterMessage>,
) {
    while let Some(request) = requests.recv().await {
        let reply = match request.header.msg_type.as_str() {
            "interrupt_request" => {
                let state = Arc::clone(&state);
                tokio::task::spawn_blocking(move || interrupt(&state));
                json!({ "status": "ok" })
            }
            "shutdown_request" => shutdown_reply(&request),
            "kernel_info_request" => kernel_info(),
            _ => continue,
        };
        send_reply(&mut control, &state, reply, &request).await;
    }
}

/// Answers the requests on the shell socket, one after the other.
pub struct Shell {
    pub shell: RouterSendConnection,
    pub requests: UnboundedReceiver<JupyterMessage>,
    pub state: Arc<KernelState>,
    pub engine: EngineHandle,
    pub input: Arc<Input>,
    pub history: History,
    /// Queued cells that must not run, because the current one failed.
    pub aborted: Vec<JupyterMessage>,
    /// Requests of other kinds that came between aborted cells.
    pub postponed: VecDeque<JupyterMessage>,
}

impl Shell {
    pub async fn serve(mut self) {
        loop {
            let postponed = self.postponed.pop_front();
            let next = if postponed.is_some() { postponed } else { self.requests.recv().await };
            let Some(request) = next.map(Arc::new) else { return };
            // The cell is noted before a client learns that the kernel is busy and interrupts it.
            if request.header.msg_type == "execute_request" {
                let mut cell = self.state.cell();
                (cell.phase, cell.interrupts) = (Phase::Waiting, 0);
            }
            self.publish_status("busy", &request).await;
            if let Some(reply) = self.answer(&request).await {
                send_reply(&mut self.shell, &self.state, reply, &request).await;
            }
            self.publish_status("idle", &request).await;
            for request in std::mem::take(&mut self.aborted) {
                self.publish_status("busy", &request).await;
                send_reply(&mut self.shell, &self.state, json!({ "status": "aborted" }), &request).await;
                self.publish_status("idle", &request).await;
            }
        }
    }

    async fn publish_status(&self, status: &str, request: &JupyterMessage) {
        self.state.publish("status", json!({ "execution_state": status }), request).await;
    }

    /// Returns the content of the reply to a request. `None` for a message that gets no reply.
    async fn answer(&mut self, request: &Arc<JupyterMessage>) -> Option<Value> {
        let content = content(request);
        let code = content["code"].as_str().unwrap_or_default().to_string();
        let cursor = content["cursor_pos"].as_u64().unwrap_or(u64::MAX) as usize;
        Some(match request.header.msg_type.as_str() {
            "execute_request" => self.execute(Arc::clone(request), content, &code).await,
            "complete_request" => self.engine.run(move |engine| engine.complete(&code, cursor)).await,
            "inspect_request" => self.engine.run(move |engine| engine.inspect(&code, cursor)).await,
            "kernel_info_request" => kernel_info(),
            "is_complete_request" => is_complete(&code),
            "history_request" => self.history.reply(&content),
            "comm_info_request" => json!({ "status": "ok", "comms": {} }),
            "comm_open" => {
                // The kernel has no widgets, so it closes the channel.
                let close = json!({ "comm_id": content["comm_id"], "data": {} });
                self.state.publish("comm_close", close, request).await;
                return None;
            }
            "shutdown_request" => shutdown_reply(request),
            _ => return None,
        })
    }

    async fn execute(&mut self, request: Arc<JupyterMessage>, content: Value, code: &str) -> Value {
        let input = Arc::clone(&self.input);
        let (allowed, stops) = (content["allow_stdin"] == true, content["stop_on_error"] != false);
        let stored = content["silent"] != true && content["store_history"] != false;
        let answer = move |question: &Question| if allowed { input.request(question) } else { input.refuse() };
        let reply = self.engine.run(move |engine| engine.execute(request, &content, answer)).await;
        if stored {
            let count = reply["execution_count"].as_u64().unwrap_or_default() as usize;
            self.history.add(count, code, self.state.cell().result.take());
        }
        if (reply["status"] == "error" && stops) || self.state.cell().interrupts > 0 {
            self.abort_queued_cells().await;
        }
        reply
    }

    /// Takes the cells that clients sent before they learn the outcome of the current one.
    async fn abort_queued_cells(&mut self) {
        // Run All sends all cells at once, but the last ones may not have arrived.
        tokio::time::sleep(Duration::from_millis(20)).await;
        while let Ok(request) = self.requests.try_recv() {
            match request.header.msg_type.as_str() {
                "execute_request" => self.aborted.push(request),
                _ => self.postponed.push_back(request),
            }
        }
    }
}

/// Sends the reply to a request. After the reply to a shutdown, also publishes it and ends every process of the kernel.
async fn send_reply(socket: &mut RouterSendConnection, state: &KernelState, reply: Value, request: &JupyterMessage) {
    let kind = request.header.msg_type.replace("_request", "_reply");
    let _ = socket.send(message(&kind, reply, request)).await;
    if kind == "shutdown_reply" {
        let _ = tokio::time::timeout(Duration::from_millis(100), async {
            state.publish(&kind, shutdown_reply(request), request).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        })
        .await;
        end_children();
        std::process::exit(0);
    }
}

fn kernel_info() -> Value {
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": env!("CARGO_PKG_NAME"),
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "Rust", "version": "", "mimetype": "text/rust", "file_extension": ".rs",
            "pygments_lexer": "rust", "codemirror_mode": "rust",
        },
        "banner": "Rust on evcxr 0.22",
        "help_links": [{ "text": "Rust's standard library", "url": "https://doc.rust-lang.org/stable/std/" }],
        "debugger": false,
    })
}

fn shutdown_reply(request: &JupyterMessage) -> Value {
    json!({ "status": "ok", "restart": content(request)["restart"] == true })
}
