//! Receives the watcher's events on a thread of its own, and acts on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde_json::json;

use super::state::{KernelState, Phase};
use crate::cell::event::{Bundle, Event, Output};
use crate::cell::watch::ready;

/// More bytes than a socket's buffers hold. A wait ends after so many bytes, even if a thread of the cell continues to
/// write.
const MAX_WAIT: usize = 1 << 20;
/// The reader checks after so many bytes whether the engine waits.
const CHECK_INTERVAL: usize = 1 << 16;

/// The thread that reads events.
pub struct EventReader {
    wake: UnixStream,
    woken: mpsc::Receiver<()>,
}

impl EventReader {
    /// Starts the thread. Also returns the end of the socket that the watcher writes to.
    pub fn start(state: Arc<KernelState>) -> std::io::Result<(Self, UnixStream)> {
        let (sender, events) = UnixStream::pair()?;
        let (wake, wakes) = UnixStream::pair()?;
        let (answer, woken) = mpsc::channel();
        std::thread::spawn(move || read(&state, events, wakes, &answer));
        Ok((EventReader { wake, woken }, sender))
    }

    /// Waits until every event that was sent before is handled.
    pub fn wait(&self) {
        if (&self.wake).write_all(&[1]).is_ok() {
            let _ = self.woken.recv();
        }
    }
}

fn read(state: &KernelState, events: UnixStream, mut wakes: UnixStream, woken: &mpsc::Sender<()>) {
    let mut events = BufReader::new(events);
    let mut line = Vec::new();
    // Bytes read since the last check, and since the engine waits.
    let (mut unchecked, mut waited) = (0, 0);
    loop {
        let buffered = !events.buffer().is_empty();
        if !buffered || unchecked > CHECK_INTERVAL {
            let [readable, wake] = ready([events.get_ref().as_fd(), wakes.as_fd()], buffered.then_some(Duration::ZERO));
            let readable = readable || buffered;
            waited = if wake { waited + unchecked } else { 0 };
            unchecked = 0;
            if wake && (!readable || waited > MAX_WAIT) {
                let _ = wakes.read(&mut [0]);
                let _ = woken.send(());
                waited = 0;
            }
            if !readable {
                continue;
            }
        }
        match events.read_until(b'\n', &mut line) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        unchecked += line.len();
        // A watcher that is killed while it writes leaves a part of a line.
        if let Ok(event) = serde_json::from_slice(&line) {
            handle(state, event);
        }
        line.clear();
    }
}

/// Publishes outputs, and notes the cell's progress.
pub fn handle(state: &KernelState, event: Event) {
    match event {
        Event::Started { watcher, runner } => {
            let mut cell = state.cell();
            (cell.watcher, cell.runner) = (watcher, runner);
        }
        Event::Run => enter(state, Phase::Running),
        Event::Done => enter(state, Phase::Compiling),
        Event::Text { stream, text } => state.publish_output("stream", json!({ "name": stream, "text": text })),
        Event::Result(bundle) => state.publish_result(bundle),
        Event::Output(output) => publish_figure(state, output),
        Event::Panic { .. } | Event::Question { .. } | Event::Ended { .. } => state.cell().stopped_by = Some(event),
    }
}

/// Enters a phase of the current cell. evcxr also runs code of its own between cells, which changes no phase.
fn enter(state: &KernelState, phase: Phase) {
    let mut cell = state.cell();
    if matches!(cell.phase, Phase::Compiling | Phase::Running) {
        cell.phase = phase;
    }
}

fn publish_figure(state: &KernelState, output: Output) {
    let content = |bundle: Bundle, id: Option<String>| {
        let transient = id.map_or(json!({}), |id| json!({ "display_id": id }));
        json!({ "data": bundle.data, "metadata": bundle.metadata, "transient": transient })
    };
    let (kind, content) = match output {
        Output::Show(bundle) => ("display_data", content(bundle, None)),
        Output::Display { id, bundle } => ("display_data", content(bundle, Some(id))),
        Output::Update { id, bundle } => ("update_display_data", content(bundle, Some(id))),
        Output::Clear { wait } => ("clear_output", json!({ "wait": wait })),
    };
    state.publish_output(kind, content);
}
