//! Input that a cell requests from the user, on the stdin socket.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use jupyter_zmq_client::RouterSendConnection;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::engine::state::{KernelState, message};

pub struct Input {
    state: Arc<KernelState>,
    runtime: Handle,
    sender: mpsc::Sender<String>,
    /// The socket for requests, and the answers to them.
    stdin: Mutex<(RouterSendConnection, mpsc::Receiver<String>)>,
}

impl Input {
    pub fn new(stdin: RouterSendConnection, state: Arc<KernelState>) -> Self {
        let (sender, answers) = mpsc::channel();
        Input { state, runtime: Handle::current(), sender, stdin: Mutex::new((stdin, answers)) }
    }

    /// Receives the content of an `input_reply`.
    pub fn receive(&self, reply: &Value) {
        let _ = self.sender.send(reply["value"].as_str().unwrap_or_default().to_string());
    }

    /// Requests a line and waits for it. Returns an empty line if the cell is interrupted.
    pub fn request(&self, prompt: &str, password: bool) -> String {
        let Some(request) = self.state.cell().request.clone() else { return String::new() };
        let (stdin, answers) = &mut *self.stdin.lock().unwrap();
        // Discard answers to cells that were interrupted.
        while answers.try_recv().is_ok() {}
        let content = json!({ "prompt": prompt, "password": password });
        let sent = self.runtime.block_on(stdin.send(message("input_request", content, &request)));
        let stopped = || {
            let cell = self.state.cell();
            cell.ended_by_interrupt || cell.process_has_ended()
        };
        while sent.is_ok() && !stopped() {
            if let Ok(answer) = answers.recv_timeout(Duration::from_millis(50)) {
                return answer;
            }
        }
        String::new()
    }
}
