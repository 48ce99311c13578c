//! Input that a cell requests from the user, on the stdin socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use jupyter_zmq_client::RouterSendConnection;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use crate::engine::state::{KernelState, content, message};

pub struct Input {
    pub state: Arc<KernelState>,
    pub runtime: Handle,
    /// The socket for requests, and the replies to them.
    pub stdin: Mutex<(RouterSendConnection, UnboundedReceiver<JupyterMessage>)>,
}

impl Input {
    /// Requests a line and waits for it. Returns an empty line if the cell is interrupted.
    pub fn request(&self, prompt: &str, password: bool) -> String {
        let Some(request) = self.state.cell().request.clone() else { return String::new() };
        let (stdin, replies) = &mut *self.stdin.lock().unwrap();
        // Discard replies for cells that were interrupted.
        while replies.try_recv().is_ok() {}
        let prompt = json!({ "prompt": prompt, "password": password });
        let sent = self.runtime.block_on(stdin.send(message("input_request", prompt, &request)));
        let stopped = || {
            let cell = self.state.cell();
            cell.ended_by_interrupt || cell.process_has_ended()
        };
        while sent.is_ok() && !stopped() {
            let reply = async { timeout(Duration::from_millis(50), replies.recv()).await };
            if let Ok(Some(reply)) = self.runtime.block_on(reply) {
                return content(&reply)["value"].as_str().unwrap_or_default().to_string();
            }
        }
        String::new()
    }
}
