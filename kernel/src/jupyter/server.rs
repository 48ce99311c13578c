//! The five sockets of a kernel: binds them, reads requests and sends outputs.

use std::collections::VecDeque;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use jupyter_protocol::{ConnectionInfo, Header, JupyterMessage, UnknownMessage};
use jupyter_zmq_client::{self as zmq, KernelIoPubConnection, RawMessage, RouterRecvConnection};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use zeromq::SocketRecv;

use super::history::History;
use super::input::Input;
use super::kernel_info;
use super::replies::{Replies, Status};
use super::requests::{Shell, serve_control};
use crate::engine;
use crate::engine::state::KernelState;

/// The pause after an error of a socket, because the cause may last.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the clients of a connection file until one of them requests a shutdown, which ends the process.
pub fn run(connection_file: &Path) -> anyhow::Result<()> {
    let read = || anyhow::Ok(serde_json::from_str(&std::fs::read_to_string(connection_file)?)?);
    let info: ConnectionInfo =
        read().with_context(|| format!("{} isn't a connection file", connection_file.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(&info))
}

async fn serve(info: &ConnectionInfo) -> anyhow::Result<()> {
    kernel_info::prepare();
    let session = uuid::Uuid::new_v4().to_string();
    let mut heartbeat = bound(info.hb_port, zmq::create_kernel_heartbeat_connection(info).await)?;
    let iopub = bound(info.iopub_port, zmq::create_kernel_iopub_connection(info, &session).await)?;
    let shell = bound(info.shell_port, zmq::create_kernel_shell_connection(info, &session).await)?;
    let control = bound(info.control_port, zmq::create_kernel_control_connection(info, &session).await)?;
    let stdin = bound(info.stdin_port, zmq::create_kernel_stdin_connection(info, &session).await)?;
    let (shell, shell_requests) = shell.split();
    let (control, control_requests) = control.split();
    let (stdin, stdin_replies) = stdin.split();

    let (to_iopub, outputs) = mpsc::channel(64);
    tokio::spawn(send_all(iopub, outputs));
    tokio::spawn(async move {
        loop {
            // A client that left before the answer causes an error. The other clients still need answers.
            if heartbeat.single_heartbeat().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    let state = Arc::new(KernelState { iopub: to_iopub, cell: Mutex::default(), folder: folder()? });
    let engine = engine::start(Arc::clone(&state))?;
    let stdin = Mutex::new((stdin, queue(stdin_replies)));
    let input = Arc::new(Input { state: Arc::clone(&state), runtime: Handle::current(), stdin });
    let status = Status::new(Arc::clone(&state));
    let control = Replies::new(control, &status);
    tokio::spawn(serve_control(control, Arc::clone(&state), queue(control_requests)));
    let ports = json!({
        "status": "ok", "shell_port": info.shell_port, "iopub_port": info.iopub_port, "stdin_port": info.stdin_port,
        "control_port": info.control_port, "hb_port": info.hb_port,
    });
    let (replies, requests) = (Replies::new(shell, &status), queue(shell_requests));
    let (history, queued_cells) = (History::default(), VecDeque::new());
    Shell { replies, requests, state, engine, input, history, ports, queued_cells }.serve().await;
    Ok(())
}

/// Names the port in the error of a socket that can't be bound. Two clients may choose the same port, because kernels
/// bind ports later than clients choose them.
fn bound<T, E: Display>(port: u16, socket: Result<T, E>) -> anyhow::Result<T> {
    socket.map_err(|error| anyhow::anyhow!("port {port} of the connection file can't be listened on: {error}"))
}

/// Finds or creates the folder of evcxr's build, which belongs to this kernel alone.
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
        // Clients may subscribe to this topic.
        message.zmq_identities = vec![message.header.msg_type.clone().into()];
        if let Err(error) = iopub.send(message).await {
            eprintln!("an output can't be sent: {error}");
        }
    }
}

/// Reads messages as they come, so that later cells can be aborted during an earlier one.
fn queue(mut connection: RouterRecvConnection) -> mpsc::UnboundedReceiver<JupyterMessage> {
    let (sender, queue) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let frames = match connection.socket.recv().await {
                Ok(frames) => frames,
                Err(error) => {
                    eprintln!("a socket can't be read: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            match RawMessage::from_multipart(frames, &connection.mac).map_err(anyhow::Error::from).and_then(parse) {
                Ok(message) => drop(sender.send(message)),
                // The message may be for another kernel and signed with another key.
                Err(error) => eprintln!("a message is ignored, because it can't be read: {error}"),
            }
        }
    });
    queue
}

/// Parses a message but leaves its content untyped, because clients omit fields.
fn parse(raw: RawMessage) -> anyhow::Result<JupyterMessage> {
    let header: Header = serde_json::from_slice(&raw.jparts[0])?;
    let content =
        UnknownMessage { msg_type: header.msg_type.clone(), content: serde_json::from_slice(&raw.jparts[3])? };
    Ok(JupyterMessage { zmq_identities: raw.zmq_identities, header, ..JupyterMessage::new(content, None) })
}
