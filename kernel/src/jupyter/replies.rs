//! Sends the replies on a socket, and the kernel's status before and after each of them.

use std::sync::Arc;
use std::time::Duration;

use jupyter_protocol::JupyterMessage;
use jupyter_zmq_client::RouterSendConnection;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::engine::interrupt::end_children;
use crate::engine::state::{KernelState, Phase, content, message};

/// Publishes whether the kernel is busy, for all sockets.
pub struct Status {
    state: Arc<KernelState>,
    /// Held while a status is published, because the next one depends on it.
    order: Mutex<()>,
}

impl Status {
    pub fn new(state: Arc<KernelState>) -> Arc<Self> {
        Arc::new(Status { state, order: Mutex::default() })
    }

    pub async fn busy(&self, request: &JupyterMessage) {
        self.publish("busy", Some(request)).await;
    }

    /// Publishes that a request is done. A client takes this for the status of the kernel, so the kernel is busy again
    /// directly afterwards if a cell still runs. No request is the parent of that message.
    pub async fn idle(&self, request: &JupyterMessage) {
        let _order = self.order.lock().await;
        self.publish("idle", Some(request)).await;
        if self.state.cell().phase != Phase::Idle {
            self.publish("busy", None).await;
        }
    }

    async fn publish(&self, status: &str, request: Option<&JupyterMessage>) {
        self.state.publish("status", json!({ "execution_state": status }), request).await;
    }
}

/// The sending half of a socket.
pub struct Replies {
    socket: Mutex<RouterSendConnection>,
    pub status: Arc<Status>,
}

impl Replies {
    pub fn new(socket: RouterSendConnection, status: &Arc<Status>) -> Arc<Self> {
        Arc::new(Replies { socket: Mutex::new(socket), status: Arc::clone(status) })
    }

    /// Sends the reply to a request, if it gets one, and publishes that the request is done. After the reply to a
    /// shutdown, publishes it and ends every process of the kernel.
    pub async fn finish(&self, request: &JupyterMessage, reply: Option<Value>) {
        self.finish_with(request, reply, json!({})).await;
    }

    /// Does the same for a reply with metadata.
    pub async fn finish_with(&self, request: &JupyterMessage, reply: Option<Value>, metadata: Value) {
        if let Some(reply) = reply {
            let kind = request.header.msg_type.replace("_request", "_reply");
            let reply = message(&kind, reply, request).with_metadata(metadata);
            let _ = self.socket.lock().await.send(reply).await;
            if kind == "shutdown_reply" {
                self.shut_down(request).await;
            }
        }
        self.status.idle(request).await;
    }

    async fn shut_down(&self, request: &JupyterMessage) {
        let _ = tokio::time::timeout(Duration::from_millis(100), async {
            self.status.state.publish("shutdown_reply", shutdown_reply(request), Some(request)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        })
        .await;
        end_children();
        std::process::exit(0);
    }
}

pub fn shutdown_reply(request: &JupyterMessage) -> Value {
    json!({ "status": "ok", "restart": content(request)["restart"] == true })
}

/// Returns the content of the reply to a request that this kernel doesn't know. `None` for a message that isn't a
/// request.
pub fn unknown(request: &JupyterMessage) -> Option<Value> {
    let kind = &request.header.msg_type;
    let reason = match kind.as_str() {
        "debug_request" => return Some(no_debugger(&content(request))),
        "create_subshell_request" | "delete_subshell_request" | "list_subshell_request" => {
            "cells run one after the other, so the kernel has no subshells".to_string()
        }
        _ => format!("the kernel doesn't know messages of the type {kind}"),
    };
    let error = json!({ "status": "error", "ename": "NotSupported", "evalue": reason, "traceback": [] });
    kind.ends_with("_request").then_some(error)
}

/// Answers a request of the Debug Adapter Protocol.
fn no_debugger(request: &Value) -> Value {
    json!({
        "type": "response", "request_seq": request["seq"], "seq": request["seq"], "command": request["command"],
        "success": false, "message": "the kernel has no debugger; the command `:vars` lists the variables", "body": {},
    })
}
