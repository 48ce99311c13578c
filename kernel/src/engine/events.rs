//! Receives the watcher's events on a thread of its own, and acts on them.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::progress;
use super::state::{KernelState, Phase};
use crate::cell::event::{Event, Output, Stream};
use crate::cell::watch::ready;

/// Most bytes handled during one [`EventReader::wait`]. Larger than a socket's buffers. Without it, a thread that keeps
/// writing would make the wait endless.
const MAX_WAIT: usize = 1 << 20;
/// Most bytes read between two checks whether the engine waits.
const CHECK_INTERVAL: usize = 1 << 16;

/// The thread that reads events. Each byte written to the socket asks for an answer of one byte.
pub struct EventReader(UnixStream);

impl EventReader {
    /// Starts the thread. Also returns the end of the socket that the watcher writes to.
    pub fn start(state: Arc<KernelState>) -> std::io::Result<(Self, UnixStream)> {
        let (sender, events) = UnixStream::pair()?;
        let (waiting, wakes) = UnixStream::pair()?;
        std::thread::spawn(move || read(&state, events, wakes));
        Ok((EventReader(waiting), sender))
    }

    /// Waits until every event that was sent before is handled.
    pub fn wait(&self) {
        let _ = (&self.0).write_all(&[1]).and_then(|()| (&self.0).read_exact(&mut [0]));
    }
}

fn read(state: &KernelState, events: UnixStream, mut wakes: UnixStream) {
    let mut events = BufReader::new(events);
    let mut line = Vec::new();
    // Bytes since the last check, and since the wait began.
    let (mut unchecked, mut waited) = (0, 0);
    loop {
        let buffered = !events.buffer().is_empty();
        if !buffered || unchecked > CHECK_INTERVAL {
            let [readable, wake] = ready([events.get_ref().as_fd(), wakes.as_fd()], buffered.then_some(Duration::ZERO));
            let readable = readable || buffered;
            waited = if wake { waited + unchecked } else { 0 };
            unchecked = 0;
            if wake && (!readable || waited > MAX_WAIT) {
                let _ = wakes.read(&mut [0]).and_then(|_| wakes.write(&[1]));
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
            cell.questions.clear();
        }
        Event::Run => {
            progress::clear(state);
            enter(state, Phase::Running);
        }
        Event::Ask(question) => state.cell().questions.push_back(question),
        Event::Done => enter(state, Phase::Compiling),
        Event::Text { stream, text } => {
            if stream == Stream::Stderr && text.contains("panicked at ") {
                state.cell().other_panics += &text;
            }
            state.publish_output("stream", json!({ "name": stream, "text": text }));
        }
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
        cell.has_run |= phase == Phase::Running;
    }
}

fn publish_figure(state: &KernelState, output: Output) {
    let (kind, id, bundle) = match output {
        Output::Show(bundle) => ("display_data", None, bundle),
        Output::Display { id, bundle } => ("display_data", Some(id), bundle),
        Output::Update { id, bundle } => ("update_display_data", Some(id), bundle),
        Output::Clear { wait } => return state.publish_output("clear_output", json!({ "wait": wait })),
    };
    let transient = id.map_or(json!({}), |id| json!({ "display_id": id }));
    let content = json!({ "data": bundle.data, "metadata": bundle.metadata, "transient": transient });
    state.publish_output(kind, content);
}
