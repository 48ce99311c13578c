//! The kernel's side of Jupyter's protocol 5.3: five sockets, and one request after the other on the shell's.

use std::collections::VecDeque;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::mpsc as sync;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use jupyter_protocol::{ConnectionInfo, Header, JupyterMessage, UnknownMessage};
use jupyter_zmq_client::{
    KernelIoPubConnection, RawMessage, RouterRecvConnection, RouterSendConnection, create_kernel_control_connection,
    create_kernel_heartbeat_connection, create_kernel_iopub_connection, create_kernel_shell_connection,
    create_kernel_stdin_connection,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use zeromq::SocketRecv;

use crate::engine::{self, Line};
use crate::event::Event;
use crate::interrupt;
use crate::publish::{Kernel, message};
use crate::requests::{History, is_complete, kernel_info};

/// After an error of a socket, which may last.
const PAUSE: Duration = Duration::from_millis(100);

pub fn run(connection_file: &Path) -> anyhow::Result<()> {
    let info = std::fs::read_to_string(connection_file).map_err(anyhow::Error::from);
    let info: ConnectionInfo = info
        .and_then(|text| Ok(serde_json::from_str(&text)?))
        .with_context(|| format!("{} isn't a connection file", connection_file.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&info))
}

/// Until a client asks to shut down, which ends the process.
async fn serve(info: &ConnectionInfo) -> anyhow::Result<()> {
    let session = uuid::Uuid::new_v4().to_string();
    let mut heartbeat = bound(info.hb_port, create_kernel_heartbeat_connection(info).await)?;
    let iopub = create_kernel_iopub_connection(info, &session).await;
    let iopub = bound(info.iopub_port, iopub)?;
    let shell = create_kernel_shell_connection(info, &session).await;
    let (shell, shell_requests) = bound(info.shell_port, shell)?.split();
    let control = create_kernel_control_connection(info, &session).await;
    let (control, control_requests) = bound(info.control_port, control)?.split();
    let stdin = create_kernel_stdin_connection(info, &session).await;
    let (stdin, stdin_replies) = bound(info.stdin_port, stdin)?.split();

    let (to_iopub, published) = mpsc::channel(64);
    tokio::spawn(send_all(iopub, published));
    tokio::spawn(async move {
        loop {
            // Whoever asked may be gone before the answer; others ask on.
            if heartbeat.single_heartbeat().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    let kernel = Arc::new(Kernel::new(to_iopub, folder()?));
    let engine = engine::start(Arc::clone(&kernel))?;
    let input = Arc::new(Input::new(stdin, Arc::clone(&kernel)));
    tokio::spawn(read_all(stdin_replies, {
        let input = Arc::clone(&input);
        move |reply| input.take(&reply)
    }));
    tokio::spawn(Control { control, kernel: Arc::clone(&kernel) }.serve(queue(control_requests)));
    let shell = Shell { shell, kernel, engine, input, history: History::default(), waiting: VecDeque::new() };
    shell.serve(queue(shell_requests)).await;
    Ok(())
}

/// Clients draw ports before kernels take them: two that draw at once can draw the same.
fn bound<T, E: Display>(port: u16, socket: Result<T, E>) -> anyhow::Result<T> {
    socket.map_err(|error| anyhow::anyhow!("port {port} of the connection file can't be listened on: {error}"))
}

/// evcxr's folder, where nobody else writes.
fn folder() -> std::io::Result<PathBuf> {
    match std::env::var_os("EVCXR_TMPDIR") {
        Some(folder) => std::path::absolute(folder),
        None => {
            let folder = std::env::temp_dir().join(format!("vitlab-kernel-{}", std::process::id()));
            std::fs::create_dir_all(&folder)?;
            Ok(folder)
        }
    }
}

async fn send_all(mut iopub: KernelIoPubConnection, mut messages: mpsc::Receiver<JupyterMessage>) {
    while let Some(mut message) = messages.recv().await {
        // The topic, by which clients may subscribe.
        message.zmq_identities = vec![message.header.msg_type.clone().into()];
        if let Err(error) = iopub.send(message).await {
            eprintln!("an output can't be sent: {error}");
        }
    }
}

/// Reads requests as they come, so that later ones can be aborted while one is at work.
fn queue(requests: RouterRecvConnection) -> mpsc::UnboundedReceiver<JupyterMessage> {
    let (sender, queue) = mpsc::unbounded_channel();
    tokio::spawn(read_all(requests, move |request| {
        let _ = sender.send(request);
    }));
    queue
}

async fn read_all(mut connection: RouterRecvConnection, take: impl Fn(JupyterMessage)) {
    loop {
        let frames = match connection.socket.recv().await {
            Ok(frames) => frames,
            Err(error) => {
                eprintln!("a socket can't be read: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match RawMessage::from_multipart(frames, &connection.mac).map_err(anyhow::Error::from).and_then(parsed) {
            Ok(message) => take(message),
            // Such as one that another key has signed: it is for another kernel.
            Err(error) => eprintln!("a message that can't be read is left out: {error}"),
        }
    }
}

/// With its content as it came: clients leave fields out.
fn parsed(raw: RawMessage) -> anyhow::Result<JupyterMessage> {
    let header: Header = serde_json::from_slice(&raw.jparts[0])?;
    let content =
        UnknownMessage { msg_type: header.msg_type.clone(), content: serde_json::from_slice(&raw.jparts[3])? };
    Ok(JupyterMessage { zmq_identities: raw.zmq_identities, header, ..JupyterMessage::new(content, None) })
}

fn content(message: &JupyterMessage) -> Value {
    serde_json::to_value(&message.content).unwrap_or_default()
}

struct Control {
    control: RouterSendConnection,
    kernel: Arc<Kernel>,
}

impl Control {
    async fn serve(mut self, mut requests: mpsc::UnboundedReceiver<JupyterMessage>) {
        while let Some(request) = requests.recv().await {
            let kind = request.header.msg_type.as_str();
            if kind == "interrupt_request" {
                // Before anything is published: a flood of output may be on its way.
                let kernel = Arc::clone(&self.kernel);
                tokio::task::spawn_blocking(move || interrupt::interrupt(&kernel));
            }
            let (kind, reply) = match kind {
                "interrupt_request" => ("interrupt_reply", json!({ "status": "ok" })),
                "shutdown_request" => shut_down(&request),
                "kernel_info_request" => ("kernel_info_reply", kernel_info()),
                _ => continue,
            };
            let _ = self.control.send(message(kind, reply, &request)).await;
            if kind == "shutdown_reply" {
                end(&self.kernel, &request).await;
            }
        }
    }
}

fn shut_down(request: &JupyterMessage) -> (&'static str, Value) {
    let restart = content(request)["restart"] == true;
    ("shutdown_reply", json!({ "status": "ok", "restart": restart }))
}

async fn end(kernel: &Kernel, request: &JupyterMessage) {
    let _ = tokio::time::timeout(Duration::from_millis(100), async {
        kernel.publish("shutdown_reply", shut_down(request).1, request).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    interrupt::end_all();
    std::process::exit(0);
}

struct Shell {
    shell: RouterSendConnection,
    kernel: Arc<Kernel>,
    engine: Line,
    input: Arc<Input>,
    history: History,
    /// Requests that came while others were aborted.
    waiting: VecDeque<JupyterMessage>,
}

impl Shell {
    async fn serve(mut self, mut requests: mpsc::UnboundedReceiver<JupyterMessage>) {
        loop {
            let request = match self.waiting.pop_front() {
                Some(request) => request,
                None => match requests.recv().await {
                    Some(request) => request,
                    None => return,
                },
            };
            let request = Arc::new(request);
            // Before anybody is told that it is at work and interrupts it.
            if request.header.msg_type == "execute_request" {
                self.kernel.expect();
            }
            self.state("busy", &request).await;
            let behind = self.answer(&request, &mut requests).await;
            self.state("idle", &request).await;
            for request in behind {
                self.abort(&request).await;
            }
        }
    }

    async fn state(&self, state: &str, request: &JupyterMessage) {
        let content = json!({ "execution_state": state });
        self.kernel.publish("status", content, request).await;
    }

    /// Returns the cells that are not to be run after this one.
    async fn answer(
        &mut self,
        request: &Arc<JupyterMessage>,
        requests: &mut mpsc::UnboundedReceiver<JupyterMessage>,
    ) -> Vec<JupyterMessage> {
        let content = content(request);
        let code = content["code"].as_str().unwrap_or_default().to_string();
        let cursor = content["cursor_pos"].as_u64().unwrap_or(u64::MAX) as usize;
        let mut behind = Vec::new();
        let (kind, reply) = match request.header.msg_type.as_str() {
            "execute_request" => {
                let (asked, sent, input) = (Arc::clone(request), content.clone(), Arc::clone(&self.input));
                let reply = self.engine.ask(move |engine| engine.execute(asked, &sent, &input)).await;
                let reply = reply.unwrap_or_else(gone);
                self.remember(&content, &reply);
                let interrupted = self.kernel.now().interrupts > 0;
                let failed = reply["status"] == "error" && content["stop_on_error"] != false;
                if interrupted || failed {
                    behind = self.behind(requests).await;
                }
                ("execute_reply", reply)
            }
            "complete_request" => {
                let reply = self.engine.ask(move |engine| engine.complete(&code, cursor)).await;
                ("complete_reply", reply.unwrap_or_else(gone))
            }
            "inspect_request" => {
                let reply = self.engine.ask(move |engine| engine.inspect(&code, cursor)).await;
                ("inspect_reply", reply.unwrap_or_else(gone))
            }
            "kernel_info_request" => ("kernel_info_reply", kernel_info()),
            "is_complete_request" => ("is_complete_reply", is_complete(&code)),
            "history_request" => ("history_reply", self.history.reply(&content)),
            "comm_info_request" => ("comm_info_reply", json!({ "status": "ok", "comms": {} })),
            "comm_open" => {
                // There are no widgets: whoever opens a channel is told that it is closed.
                let close = json!({ "comm_id": content["comm_id"], "data": {} });
                self.kernel.publish("comm_close", close, request).await;
                return behind;
            }
            "shutdown_request" => shut_down(request),
            _ => return behind,
        };
        let _ = self.shell.send(message(kind, reply, request)).await;
        if kind == "shutdown_reply" {
            end(&self.kernel, request).await;
        }
        behind
    }

    fn remember(&mut self, request: &Value, reply: &Value) {
        if request["silent"] != true && request["store_history"] != false {
            let count = reply["execution_count"].as_u64().unwrap_or_default() as usize;
            let code = request["code"].as_str().unwrap_or_default();
            self.history.add(count, code, self.kernel.now().result.take());
        }
    }

    /// The cells that were sent before the present one's end is told.
    async fn behind(&mut self, requests: &mut mpsc::UnboundedReceiver<JupyterMessage>) -> Vec<JupyterMessage> {
        // Run All sends them all at once; the last may still be on their way.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut cells = Vec::new();
        while let Ok(request) = requests.try_recv() {
            match request.header.msg_type.as_str() {
                "execute_request" => cells.push(request),
                _ => self.waiting.push_back(request),
            }
        }
        cells
    }

    async fn abort(&mut self, request: &JupyterMessage) {
        self.state("busy", request).await;
        let reply = json!({ "status": "aborted" });
        let _ = self.shell.send(message("execute_reply", reply, request)).await;
        self.state("idle", request).await;
    }
}

fn gone() -> Value {
    json!({ "status": "error", "ename": "Error", "evalue": "evcxr is gone; restart the kernel", "traceback": [] })
}

/// Lines that a cell asks the user for.
pub struct Input {
    stdin: tokio::sync::Mutex<RouterSendConnection>,
    kernel: Arc<Kernel>,
    runtime: Handle,
    given: sync::Sender<String>,
    taken: Mutex<sync::Receiver<String>>,
}

impl Input {
    fn new(stdin: RouterSendConnection, kernel: Arc<Kernel>) -> Self {
        let (given, taken) = sync::channel();
        Input {
            stdin: tokio::sync::Mutex::new(stdin),
            kernel,
            runtime: Handle::current(),
            given,
            taken: Mutex::new(taken),
        }
    }

    fn take(&self, reply: &JupyterMessage) {
        let value = content(reply)["value"].as_str().unwrap_or_default().to_string();
        let _ = self.given.send(value);
    }

    /// Waits for the user; nothing when the cell is interrupted.
    pub fn ask(&self, prompt: &str, password: bool) -> String {
        let Some(request) = self.kernel.now().request.clone() else {
            return String::new();
        };
        let taken = self.taken.lock().unwrap();
        // Answers to questions of cells that were interrupted.
        while taken.try_recv().is_ok() {}
        let content = json!({ "prompt": prompt, "password": password });
        let asked = self.runtime.block_on(async {
            let mut stdin = self.stdin.lock().await;
            stdin.send(message("input_request", content, &request)).await
        });
        let over = || {
            let now = self.kernel.now();
            now.ended_by_interrupt || matches!(now.problem, Some(Event::Ended { .. }))
        };
        while asked.is_ok() && !over() {
            if let Ok(value) = taken.recv_timeout(Duration::from_millis(50)) {
                return value;
            }
        }
        String::new()
    }
}
