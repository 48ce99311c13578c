//! evcxr, on a thread of its own: evaluates one cell after the other.

mod analysis;
mod events;
mod failure;
pub mod interrupt;
mod rewrite;
pub mod state;
pub mod syntax;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use evcxr::{CommandContext, EvalCallbacks, EvalContext};
use jupyter_protocol::JupyterMessage;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::analysis::LibraryLink;
use self::events::EventReader;
use self::failure::{Failure, decide_failure};
use self::rewrite::Rewritten;
use self::state::{KernelState, Phase};
use self::syntax::{defines_variables, semicolon};
use crate::cell::event::{Bundle, Event, Question, Stream};
use crate::cell::input::Answer;
use crate::cell::{ANSWER, watch};

/// The engine loads types after this time without a task.
const IDLE: Duration = Duration::from_millis(200);

type Task = Box<dyn FnOnce(&mut Engine) + Send>;

/// Sends tasks to the engine's thread.
pub struct EngineHandle(mpsc::Sender<Task>);

impl EngineHandle {
    /// Runs a task after the earlier ones and returns the content of its reply.
    pub async fn run(&self, task: impl FnOnce(&mut Engine) -> Value + Send + 'static) -> Value {
        let (sender, reply) = oneshot::channel();
        // If the engine's thread has ended, the task is dropped with its sender.
        let _ = self.0.send(Box::new(move |engine| {
            let _ = sender.send(task(engine));
        }));
        let message = "evcxr's thread has ended; restart the kernel";
        let ended = json!({ "status": "error", "ename": "Error", "evalue": message, "traceback": [] });
        reply.await.unwrap_or(ended)
    }
}

/// evcxr and the state of its cells.
pub struct Engine {
    /// evcxr, or the reason why it didn't start.
    context: Result<CommandContext, String>,
    state: Arc<KernelState>,
    events: EventReader,
    library: LibraryLink,
    /// Whether rust-analyzer has loaded every crate, or has failed to.
    types_loaded: bool,
}

/// Starts the thread. Tasks wait until evcxr has started, which takes seconds.
pub fn start(state: Arc<KernelState>) -> std::io::Result<EngineHandle> {
    let (sender, tasks) = mpsc::channel::<Task>();
    let (events, events_sender) = EventReader::start(Arc::clone(&state))?;
    std::thread::Builder::new().name("engine".into()).spawn(move || {
        let context = start_evcxr(&state, events_sender).map_err(|error| error.to_string());
        // evcxr tests its linker with a cell of its own, whose events belong to no cell of the user.
        events.wait();
        Engine { context, state, events, library: LibraryLink::new(), types_loaded: false }.serve(&tasks);
    })?;
    Ok(EngineHandle(sender))
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
        let mut reply = json!({ "status": "ok", "execution_count": count, "payload": [], "user_expressions": {} });
        if let Err(failure) = self.evaluate(code, answer) {
            let error = failure.content();
            reply["status"] = "error".into();
            for name in ["ename", "evalue", "traceback"] {
                reply[name] = error[name].clone();
            }
            self.state.publish_output("error", error);
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
        (cell.interrupted_at_question, cell.refusal_told) = (false, false);
        // The second of two cells reports the end of the process between them.
        if !cell.process_has_ended() {
            cell.stopped_by = None;
        }
        cell.result = None;
        cell.execution_count
    }

    fn evaluate(&mut self, code: &str, answer: impl Fn(&Question) -> Answer) -> Result<(), Failure> {
        if self.state.cell().interrupts > 0 {
            return Err(Failure::interrupted());
        }
        // evcxr would end the kernel's process before it replies.
        if code.trim() == ":quit" {
            return Err(Failure::error("a notebook's kernel is shut down from the menu \"Kernel\""));
        }
        let context = self.context.as_mut().map_err(|error| Failure::error(format!("evcxr doesn't start: {error}")))?;
        let mut variables: Vec<String> = context.variables_and_types().map(|(name, _)| name.to_string()).collect();
        variables.sort();
        if defines_variables(code) {
            self.library.set(context);
        }
        let rewritten = Rewritten::new(code, semicolon(code).into_iter().collect());
        let mut callbacks = EvalCallbacks {
            input_reader: &|_| {
                // The question comes as an event, after the output that the cell wrote before.
                self.events.wait();
                let question = self.state.cell().questions.pop_front().unwrap_or_default();
                format!("{ANSWER}{}", json!(answer(&question)))
            },
        };
        let evaluate = || context.execute_with_callbacks(&rewritten.text, &mut callbacks);
        let answer = catch_unwind(AssertUnwindSafe(evaluate));
        // A cell that added a crate makes loading necessary again.
        self.types_loaded &= !code.lines().any(|line| line.trim_start().starts_with(":dep"));
        self.events.wait();
        self.state.cell().phase = Phase::Compiling;
        let generated = || context.last_source().unwrap_or_default();
        let outputs = decide_failure(&self.state, answer, code, &rewritten, &variables, generated)?;
        // The output of an evcxr command, such as `:vars`.
        if !outputs.is_empty() {
            let data = outputs.content_by_mime_type.into_iter().map(|(mime, text)| (mime, Value::from(text))).collect();
            self.state.publish_result(Bundle { data, ..Bundle::default() });
        }
        Ok(())
    }
}
