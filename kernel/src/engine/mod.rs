//! evcxr, on a thread of its own: evaluates one cell after the other.

mod advice;
mod analysis;
mod async_runtime;
mod commands;
mod definitions;
mod diagnostic;
mod earlier;
mod events;
mod expressions;
mod failure;
mod hints;
pub mod interrupt;
mod items;
mod layouts;
mod level;
mod literals;
mod loops;
mod names;
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
pub mod syntax;
mod syntax_error;
mod timing;
mod toolchain;
mod types;
mod unnamed;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use evcxr::{CommandContext, Error, EvalCallbacks, EvalContext};
use jupyter_protocol::JupyterMessage;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use self::analysis::Sources;
use self::commands::commands;
use self::earlier::{Earlier, Outcome};
use self::events::EventReader;
use self::failure::{Failure, decide_failure};
use self::hints::Hints;
use self::loops::Loops;
use self::names::Names;
use self::progress::ProgressLine;
use self::rewrite::Edit;
use self::session::Session;
use self::source_map::{CellText, SourceMap};
use self::state::{KernelState, Phase};
use self::syntax::{defines_variables, documentation, semicolon};
use self::syntax_error::syntax_errors;
use self::toolchain::Toolchain;
use crate::cell::event::{Bundle, Event, Question, Stream};
use crate::cell::input::Answer;
use crate::cell::{ANSWER, watch};

/// The engine loads types after this time without a task.
const IDLE: Duration = Duration::from_millis(200);

type Task = Box<dyn FnOnce(&mut Engine) + Send>;

/// Sends tasks to the engine's thread.
pub struct EngineHandle {
    tasks: mpsc::Sender<Task>,
    /// What is known while the engine runs a cell.
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
        let (loops, toolchain, hints) = (Loops::default(), Toolchain::default(), Hints::default());
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

    fn evaluate(&mut self, code: &str, answer: impl Fn(&Question) -> Answer) -> Result<(), Failure> {
        if self.state.cell().interrupts > 0 {
            return Err(Failure::interrupted());
        }
        // evcxr would end the kernel's process before it replies.
        if commands(code).any(|command| command.name == ":quit") {
            return Err(Failure::error("a notebook's kernel is shut down from the menu \"Kernel\""));
        }
        let count = self.state.cell().execution_count;
        let errors = syntax_errors(code);
        if !errors.is_empty() {
            let cell = CellText::unchanged(count, code);
            return Err(Failure::syntax(&errors, &SourceMap::new("", &cell, &[])));
        }
        let context = self.context.as_mut().map_err(|error| Failure::error(format!("evcxr doesn't start: {error}")))?;
        level::check(code)?;
        let variables = names_of_variables(context);
        let progress = progress::follow(&self.state);
        let mut edits = self.toolchain.switch(context, &self.state, code, &variables)?;
        self.has_runtime &= edits.is_empty();
        let restarted = restart::obey(context, code)?;
        if !restarted.is_empty() {
            self.has_runtime = false;
            let text = "The process that runs cells was restarted, without variables.\n";
            self.state.publish_output("stream", json!({ "name": "stdout", "text": text }));
        }
        edits.extend(restarted);
        if self.has_runtime && async_runtime::changes_dependencies(code, &self.state.folder) {
            async_runtime::set_apart(context, &self.state, &self.events);
            self.has_runtime = false;
        }
        let variables = names_of_variables(context);
        if defines_variables(code) {
            self.sources.update(context, &self.state.folder);
        }
        edits.extend(items::edits(code));
        edits.extend(literals::constants(code));
        edits.extend(semicolon(code));
        edits.extend(documentation(code));
        let is_defined = |name: &str| context.defined_item_names().any(|it| it == name);
        let checks = self.loops.checks(code, is_defined);
        self.state.cell().has_checks = checks.exist;
        let mut callbacks = EvalCallbacks {
            input_reader: &|_| {
                // The question comes as an event, after the output that the cell wrote before.
                self.events.wait();
                self.state.cell().has_checks = false;
                let question = self.state.cell().questions.pop_front().unwrap_or_default();
                format!("{ANSWER}{}", json!(answer(&question)))
            },
        };
        let process = (&*self.state, &self.events);
        let session = &mut self.session;
        let mut execute = |context: &mut CommandContext, code: &str, edits: &[Edit]| {
            session.execute(context, process, (code, edits), &mut callbacks)
        };
        // A loop's closing brace comes before the semicolon.
        let checked = |edits: &[Edit]| [&checks.edits[..], edits].concat();
        let (mut answer, mut rewritten) = execute(context, code, &checked(&edits));
        if let Ok(Err(error)) = &answer
            && self.state.cell().interrupts == 0
            && types::is_missing(error)
            && let Some(found) = types::find(context, code, &rewritten.text)
        {
            let found = found.map_err(|message| {
                let cell = CellText::unchanged(count, code);
                Failure::variable(message, &SourceMap::new("", &cell, &[]))
            })?;
            edits.extend(found.edits.clone());
            (answer, rewritten) = execute(context, code, &checked(&edits));
            if let Ok(Err(error)) = &answer
                && let Some(message) = found.explain(error)
            {
                return Err(Failure::error(message));
            }
        }
        // An error of the compiler describes the cell itself. Should the cell compile without checks, it runs without.
        if !checks.edits.is_empty()
            && let Ok(Err(error)) = &answer
            && may_try_again(&self.state, &self.events)
        {
            let text = format!("The cell ran without checks for an interrupt, which don't compile in it: {error}\n");
            self.state.cell().has_checks = false;
            (answer, rewritten) = execute(context, &without_shell_commands(code), &edits);
            if matches!(answer, Ok(Ok(_))) {
                events::handle(&self.state, Event::Text { stream: Stream::Stderr, text });
            }
        }
        // A cell that added a crate makes loading necessary again.
        self.types_loaded &= !code.lines().any(|line| line.trim_start().starts_with(":dep"));
        self.events.wait();
        drop(progress);
        self.state.cell().phase = Phase::Compiling;
        let kept = names_of_variables(context);
        let source = context.last_source().unwrap_or_default();
        self.has_runtime |= matches!(answer, Ok(Ok(_))) && async_runtime::is_used(&source);
        let ended = matches!(answer, Ok(Err(Error::SubprocessTerminated(_))));
        let cell = CellText { count, code: code.to_string(), rewritten };
        let mut decided = decide_failure(&self.state, answer, &cell, &self.earlier, &variables, &kept, || source)
            .map_err(|failure| hints::explain(async_runtime::explain(failure)));
        if let (Err(failure), true) = (&mut decided, ended) {
            if !self.session.keep_definitions(context, &self.state, code) {
                failure.value += " Those of this cell couldn't be kept: run them again, in a cell of their own.";
            }
            self.events.wait();
        }
        let outcome = decided.as_ref().err().map_or(Outcome::Done, |failure| failure.outcome);
        self.earlier.add(cell, outcome, &variables, &names_of_variables(context));
        let outputs = decided?;
        self.sources.note_level(&outputs);
        let timing = timing::sentence(&outputs);
        // The output of an evcxr command, such as `:vars`.
        if !outputs.is_empty() {
            let data = outputs.content_by_mime_type.into_iter().map(|(mime, text)| (mime, Value::from(text))).collect();
            self.state.publish_result(Bundle { data, ..Bundle::default() });
        }
        for text in self.hints.of(code).into_iter().chain(timing) {
            self.state.publish_output("stream", json!({ "name": Stream::Stderr, "text": text }));
        }
        Ok(())
    }
}

/// Returns whether evcxr stopped before the cell's code ran.
fn may_try_again(state: &KernelState, events: &EventReader) -> bool {
    events.wait();
    let cell = state.cell();
    !cell.has_run && cell.interrupts == 0 && !cell.process_has_ended()
}

/// Replaces the lines for the shell, which have run.
fn without_shell_commands(text: &str) -> String {
    let line = |line: &str| if line.starts_with('!') { " ".repeat(line.len() - 1) + "\n" } else { line.to_string() };
    text.split_inclusive('\n').map(line).collect()
}

fn names_of_variables(context: &CommandContext) -> Vec<String> {
    let mut names: Vec<String> = context.variables_and_types().map(|(name, _)| name.to_string()).collect();
    names.sort();
    names
}
