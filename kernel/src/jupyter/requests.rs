//! Answers the requests on the shell and control sockets.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::history::History;
use super::input::Input;
use super::kernel_info::kernel_info;
use super::replies::{Replies, shutdown_reply, unknown};
use crate::cell::event::Question;
use crate::engine::EngineHandle;
use crate::engine::brackets::is_complete;
use crate::engine::interrupt::interrupt;
use crate::engine::state::{KernelState, Phase, content, message};

/// A completion waits for the end of the running cell at most for this time. JupyterLab waits for 1 s.
const PATIENCE: Duration = Duration::from_millis(500);

/// Answers the requests on the control socket at once, even while a cell runs.
pub async fn serve_control(
    replies: Arc<Replies>,
    state: Arc<KernelState>,
    mut requests: UnboundedReceiver<JupyterMessage>,
) {
    while let Some(request) = requests.recv().await {
        replies.status.busy(&request).await;
        let reply = match request.header.msg_type.as_str() {
            "interrupt_request" => {
                let state = Arc::clone(&state);
                tokio::task::spawn_blocking(move || interrupt(&state));
                Some(json!({ "status": "ok" }))
            }
            "shutdown_request" => Some(shutdown_reply(&request)),
            "kernel_info_request" => Some(kernel_info().await),
            _ => unknown(&request),
        };
        replies.finish(&request, reply).await;
    }
}

/// Answers the requests on the shell socket. Cells run one after the other. The other requests don't wait for them.
pub struct Shell {
    pub replies: Arc<Replies>,
    pub requests: UnboundedReceiver<JupyterMessage>,
    pub state: Arc<KernelState>,
    pub engine: EngineHandle,
    pub input: Arc<Input>,
    pub history: History,
    /// The content of a `connect_reply`.
    pub ports: Value,
    /// Requests to run a cell that came during an earlier cell.
    pub queued_cells: VecDeque<JupyterMessage>,
}

impl Shell {
    pub async fn serve(mut self) {
        loop {
            let queued = self.queued_cells.pop_front();
            let next = if queued.is_some() { queued } else { self.requests.recv().await };
            let Some(request) = next.map(Arc::new) else { return };
            match request.header.msg_type.as_str() {
                "execute_request" => self.execute(request).await,
                _ => self.answer(request).await,
            }
        }
    }

    /// Answers a request that runs no cell. Only questions to rust-analyzer are answered later.
    async fn answer(&self, request: Arc<JupyterMessage>) {
        self.replies.status.busy(&request).await;
        let content = content(&request);
        let code = content["code"].as_str().unwrap_or_default();
        let reply = match request.header.msg_type.as_str() {
            "complete_request" | "inspect_request" => return self.analyze(request, &content),
            "kernel_info_request" => Some(kernel_info().await),
            "is_complete_request" => Some(is_complete(code)),
            "history_request" => Some(self.history.reply(&content)),
            "comm_info_request" => Some(json!({ "status": "ok", "comms": {} })),
            "comm_open" => {
                // The kernel has no widgets, so it closes the channel.
                let close = json!({ "comm_id": content["comm_id"], "data": {} });
                self.state.publish("comm_close", close, Some(&request)).await;
                None
            }
            "connect_request" => Some(self.ports.clone()),
            "shutdown_request" => Some(shutdown_reply(&request)),
            _ => unknown(&request),
        };
        self.replies.finish(&request, reply).await;
    }

    /// Passes a question on to rust-analyzer, which can't answer while a cell runs. A question that comes during a
    /// cell is answered without it if the cell doesn't end soon.
    fn analyze(&self, request: Arc<JupyterMessage>, content: &Value) {
        let code: Arc<str> = content["code"].as_str().unwrap_or_default().into();
        let cursor = content["cursor_pos"].as_u64().unwrap_or(u64::MAX) as usize;
        let completes = request.header.msg_type == "complete_request";
        let asked = Arc::clone(&code);
        let answer = self.engine.run(move |engine| match completes {
            true => engine.complete(&asked, cursor),
            false => engine.inspect(&asked, cursor),
        });
        let during_cell = self.state.cell().phase != Phase::Idle;
        let (replies, names) = (Arc::clone(&self.replies), Arc::clone(&self.engine.names));
        tokio::spawn(async move {
            let reply = if during_cell {
                let known = || {
                    let names = names.lock().unwrap();
                    if completes { names.complete(&code, cursor) } else { names.inspect(&code, cursor) }
                };
                tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| known())
            } else {
                answer.await
            };
            replies.finish(&request, Some(reply)).await;
        });
    }

    async fn execute(&mut self, request: Arc<JupyterMessage>) {
        // The cell is noted before a client learns that the kernel is busy and interrupts it.
        {
            let mut cell = self.state.cell();
            (cell.phase, cell.interrupts) = (Phase::Waiting, 0);
        }
        self.replies.status.busy(&request).await;
        let content = content(&request);
        let code = content["code"].as_str().unwrap_or_default().to_string();
        let input = Arc::clone(&self.input);
        let (allowed, stops) = (content["allow_stdin"] == true, content["stop_on_error"] != false);
        let stored = content["silent"] != true && content["store_history"] != false;
        let started = message("execute_reply", Value::Null, &request).header.date;
        let answer = move |question: &Question| if allowed { input.request(question) } else { input.refuse() };
        let parent = Arc::clone(&request);
        let reply = self.engine.run(move |engine| engine.execute(parent, &content, answer));
        let reply = self.answer_until(reply).await;
        if stored {
            let count = reply["execution_count"].as_u64().unwrap_or_default() as usize;
            self.history.add(count, &code, self.state.cell().result.take());
        }
        let mut aborted = VecDeque::new();
        if (reply["status"] == "error" && stops) || self.state.cell().interrupts > 0 {
            // Run All sends all cells at once, but the last ones may not have arrived.
            self.answer_until(tokio::time::sleep(Duration::from_millis(20))).await;
            aborted = std::mem::take(&mut self.queued_cells);
        }
        let metadata = json!({ "started": started, "status": reply["status"] });
        self.replies.finish_with(&request, Some(reply), metadata).await;
        for request in aborted {
            self.replies.status.busy(&request).await;
            self.replies.finish(&request, Some(json!({ "status": "aborted" }))).await;
        }
    }

    /// Waits for an event. Meanwhile, queues the cells that arrive and answers the other requests.
    async fn answer_until<T>(&mut self, event: impl Future<Output = T>) -> T {
        let mut event = pin!(event);
        loop {
            let request = tokio::select! {
                biased;
                done = &mut event => return done,
                Some(request) = self.requests.recv() => request,
            };
            match request.header.msg_type.as_str() {
                "execute_request" => self.queued_cells.push_back(request),
                _ => self.answer(Arc::new(request)).await,
            }
        }
    }
}
