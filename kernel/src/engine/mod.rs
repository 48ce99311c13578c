//! evcxr, on a thread of its own: evaluates one cell after the other.

mod advice;
mod analysis;
mod async_runtime;
pub mod brackets;
mod commands;
mod definitions;
mod diagnostic;
mod earlier;
mod evaluate;
mod events;
mod expressions;
mod failure;
mod hints;
pub mod interrupt;
mod items;
mod layouts;
mod level;
mod linked;
mod literals;
mod loops;
mod marks;
mod names;
mod panic;
pub mod progress;
mod redefine;
mod report;
mod restart;
mod rewrite;
mod session;
mod sleep;
mod source_map;
pub mod state;
mod suggestion;
mod support;
mod syntax;
mod syntax_error;
mod timing;
mod toolchain;
mod turns;
mod types;
mod unkept;
mod unnamed;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use evcxr::{CommandContext, EvalContext};
use jupyter_protocol::JupyterMessage;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::analysis::Sources;
use self::earlier::Earlier;
use self::events::EventReader;
use self::hints::Hints;
use self::linked::Linked;
use self::loops::Loops;
use self::names::Names;
use self::progress::ProgressLine;
use self::session::Session;
use self::state::{KernelState, Phase};
use self::toolchain::Toolchain;
use crate::cell::event::{Event, Question, Stream};
use crate::cell::input::Answer;
use crate::cell::watch;

/// The engine loads types after this time without a task. A cell that is sent meanwhile waits for the end, seconds later.
const IDLE: Duration = Duration::from_secs(1);

type Task = Box<dyn FnOnce(&mut Engine) + Send>;

/// Sends tasks to the engine's thread.
pub struct EngineHandle {
    tasks: mpsc::Sender<Task>,
    /// Names that are known while the engine runs a cell.
    pub names: Arc<Mutex<Names>>,
}

impl EngineHandle {
    /// Runs a task after those that were passed before, and returns the content of its reply. Skips a task if nobody
    /// waits for the reply any more.
    pub fn run<T>(&self, task: T) -> impl Future<Output = Value> + Send + use<T>
    where
        T: FnOnce(&mut Engine) -> Value + Send + 'static,
    {
        let (sender, reply) = oneshot::channel();
        // If the engine's thread has ended, the task is dropped with its sender.
        let _ = self.tasks.send(Box::new(move |engine| {
            if !sender.is_closed() {
                let _ = sender.send(task(engine));
            }
        }));
        async {
            let message = "evcxr's thread has ended; restart the kernel";
            let ended = json!({ "status": "error", "ename": "Error", "evalue": message, "traceback": [] });
            reply.await.unwrap_or(ended)
        }
    }
}

/// evcxr and the state of its cells.
pub struct Engine {
    /// evcxr, or the reason why it didn't start.
    context: Result<CommandContext, String>,
    state: Arc<KernelState>,
    events: EventReader,
    sources: Sources,
    earlier: Earlier,
    names: Arc<Mutex<Names>>,
    session: Session,
    loops: Loops,
    /// Whether rust-analyzer has loaded every crate, or has failed to.
    types_loaded: bool,
    /// Whether evcxr keeps a runtime of tokio among the variables.
    has_runtime: bool,
    toolchain: Toolchain,
    linked: Linked,
    hints: Hints,
}

/// Starts the thread. Tasks wait until evcxr has started, which takes seconds.
pub fn start(state: Arc<KernelState>) -> std::io::Result<EngineHandle> {
    let (sender, tasks) = mpsc::channel::<Task>();
    let (events, events_sender) = EventReader::start(Arc::clone(&state))?;
    let names = Arc::<Mutex<Names>>::default();
    let known = Arc::clone(&names);
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        let context = start_evcxr(&state, events_sender).map_err(|error| error.to_string());
        // evcxr tests its linker with a cell of its own, whose events belong to no cell of the user.
        events.wait();
        let (sources, earlier, session) = (Sources::new(), Earlier::default(), Session::default());
        let (loops, toolchain, linked) = (Loops::default(), Toolchain::default(), Linked::default());
        let hints = Hints::default();
        let (types_loaded, has_runtime) = (false, false);
        let mut engine = Engine {
            context,
            state,
            events,
            sources,
            earlier,
            names,
            session,
            loops,
            types_loaded,
            has_runtime,
            toolchain,
            linked,
            hints,
        };
        engine.serve(&tasks);
    })?;
    Ok(EngineHandle { tasks: sender, names: known })
}

fn start_evcxr(state: &Arc<KernelState>, events: UnixStream) -> anyhow::Result<CommandContext> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(watch::VARIABLE, events.as_raw_fd().to_string())
        .env("VITLAB_KERNEL", &state.folder)
        // These are for rust-analyzer, not for the programs that cells start.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO");
    watch::end_with_parent(&mut command);
    // SAFETY: makes one system call between fork and exec. The closure owns the stream, because evcxr runs the command
    // again after a crash.
    unsafe {
        command.pre_exec(move || {
            fcntl(events.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    let (context, outputs) = EvalContext::with_subprocess_command(command)?;
    let mut context = CommandContext::with_eval_context(context);
    context.execute(":load_config --quiet")?;
    // The watcher's own messages. The output of cells comes as events.
    for (stream, lines) in [(Stream::Stdout, outputs.stdout), (Stream::Stderr, outputs.stderr)] {
        let state = Arc::clone(state);
        let publish = move |line| events::handle(&state, Event::Text { stream, text: format!("{line}\n") });
        std::thread::spawn(move || lines.into_iter().for_each(publish));
    }
    Ok(context)
}

impl Engine {
    fn serve(&mut self, tasks: &mpsc::Receiver<Task>) {
        loop {
            match tasks.recv_timeout(if self.types_loaded { Duration::MAX } else { IDLE }) {
                Ok(task) => task(self),
                Err(RecvTimeoutError::Timeout) => self.load_types(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Evaluates the cell of an `execute_request` and returns the content of its reply. `answer` answers its questions.
    pub fn execute(
        &mut self,
        request: Arc<JupyterMessage>,
        content: &Value,
        answer: impl Fn(&Question) -> Answer,
    ) -> Value {
        let code = content["code"].as_str().unwrap_or_default();
        let silent = content["silent"] == true;
        let stored = !silent && content["store_history"] != false;
        let count = self.begin_cell(request, silent, stored);
        self.state.publish_output("execute_input", json!({ "code": code, "execution_count": count }));
        self.names.lock().unwrap().add_cell(code);
        let mut reply = json!({ "status": "ok", "execution_count": count, "payload": [], "user_expressions": {} });
        match self.evaluate(code, answer) {
            Ok(()) => reply["user_expressions"] = self.evaluate_expressions(&content["user_expressions"]),
            Err(failure) => {
                let error = failure.content();
                reply["status"] = "error".into();
                for name in ["ename", "evalue", "traceback"] {
                    reply[name] = error[name].clone();
                }
                self.state.publish_output("error", error);
            }
        }
        if let Ok(context) = &self.context {
            self.names.lock().unwrap().end_cell(context, reply["status"] == "ok");
        }
        self.state.cell().phase = Phase::Idle;
        reply
    }

    /// Resets the state of the current cell. Returns the execution count.
    fn begin_cell(&self, request: Arc<JupyterMessage>, silent: bool, stored: bool) -> usize {
        let mut cell = self.state.cell();
        cell.number += 1;
        interrupt::begin_cell(&self.state.folder, cell.number);
        cell.phase = Phase::Compiling;
        cell.request = Some(request);
        cell.silent = silent;
        cell.execution_count += usize::from(stored);
        cell.ended_by_interrupt = false;
        cell.has_run = false;
        cell.has_output = false;
        cell.progress = ProgressLine::default();
        (cell.interrupted_at_question, cell.refusal_told) = (false, false);
        // The second of two cells reports the end of the process between them.
        if !cell.process_has_ended() {
            cell.stopped_by = None;
        }
        cell.result = None;
        cell.other_panics.clear();
        cell.execution_count
    }
}
