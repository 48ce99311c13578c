//! evcxr, on a thread of its own: evaluates one cell after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use evcxr::{CommandContext, Error, EvalCallbacks, EvalContext};
use jupyter_protocol::JupyterMessage;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::event::{Bundle, Event, Stream};
use crate::failure::Failure;
use crate::interrupt;
use crate::publish::{Kernel, Phase};
use crate::server::Input;
use crate::text::{byte_of, character_of};
use crate::types::{self, Types};
use crate::{tail, watch};

type Task = Box<dyn FnOnce(&mut Engine) + Send>;

/// The way to the engine's thread.
#[derive(Clone)]
pub struct Line(mpsc::Sender<Task>);

impl Line {
    /// What `task` returns; none when the engine is gone.
    pub async fn ask<T: Send + 'static>(&self, task: impl FnOnce(&mut Engine) -> T + Send + 'static) -> Option<T> {
        let (answer, asked) = oneshot::channel();
        let task: Task = Box::new(move |engine| {
            let _ = answer.send(task(engine));
        });
        self.0.send(task).ok()?;
        asked.await.ok()
    }
}

pub struct Engine {
    /// Or why evcxr didn't start.
    context: Result<CommandContext, String>,
    kernel: Arc<Kernel>,
    events: Events,
    types: Types,
}

/// Without a task for so long, nobody waits.
const QUIET: Duration = Duration::from_millis(200);

/// Starts the thread; evcxr takes seconds until it answers.
pub fn start(kernel: Arc<Kernel>) -> std::io::Result<Line> {
    let (sender, tasks) = mpsc::channel::<Task>();
    let (events, told) = Events::new(Arc::clone(&kernel))?;
    let thread = std::thread::Builder::new().name("engine".into());
    thread.spawn(move || {
        let context = open(&kernel, told).map_err(|error| error.to_string());
        // evcxr tries its linker on a cell of its own, whose output is nobody's.
        events.wait();
        let mut engine = Engine { context, kernel, events, types: Types::new() };
        engine.serve(&tasks);
    })?;
    Ok(Line(sender))
}

fn open(kernel: &Arc<Kernel>, events: UnixStream) -> anyhow::Result<CommandContext> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env(watch::VARIABLE, events.as_raw_fd().to_string())
        .env("VITLAB_KERNEL", &kernel.folder)
        // For rust-analyzer, not for what cells start.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO");
    watch::end_with_parent(&mut command);
    // SAFETY: one system call between fork and exec. evcxr starts it again after a crash, so the stream moves in here.
    unsafe {
        command.pre_exec(move || {
            fcntl(events.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    let (context, outputs) = EvalContext::with_subprocess_command(command)?;
    let mut context = CommandContext::with_eval_context(context);
    context.execute(":load_config --quiet")?;
    // Remarks of the watching process; what cells write comes as events.
    for (stream, lines) in [(Stream::Stdout, outputs.stdout), (Stream::Stderr, outputs.stderr)] {
        let kernel = Arc::clone(kernel);
        std::thread::spawn(move || {
            for line in lines {
                let text = format!("{line}\n");
                kernel.take(Event::Text { stream, text });
            }
        });
    }
    Ok(context)
}

impl Engine {
    fn serve(&mut self, tasks: &mpsc::Receiver<Task>) {
        loop {
            let waited = match self.types.read {
                true => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => tasks.recv_timeout(QUIET),
            };
            match waited {
                Ok(task) => task(self),
                Err(RecvTimeoutError::Timeout) => self.read_types(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn read_types(&mut self) {
        self.types.read = true;
        if let Ok(context) = &mut self.context {
            // Whatever rust-analyzer trips over, cells are run.
            let _ = catch_unwind(AssertUnwindSafe(|| self.types.read(context)));
        }
    }

    fn show_library(&mut self) {
        if let Ok(context) = &mut self.context {
            self.types.show_library(context);
        }
    }

    /// Evaluates a cell and returns the content of its reply.
    pub fn execute(&mut self, request: Arc<JupyterMessage>, content: &Value, input: &Input) -> Value {
        let code = content["code"].as_str().unwrap_or_default();
        let silent = content["silent"] == true;
        let stored = !silent && content["store_history"] != false;
        let count = self.begin(&request, silent, stored);
        if !silent {
            self.kernel.show("execute_input", json!({ "code": code, "execution_count": count }));
        }
        let failure = self.evaluate(code, count, input, content["allow_stdin"] == true);
        let failure = failure.err().map(|failure| failure.content());
        if let Some(failure) = &failure {
            self.kernel.show("error", failure.clone());
        }
        self.kernel.now().phase = Phase::Idle;
        let mut reply = json!({
            "status": if failure.is_some() { "error" } else { "ok" },
            "execution_count": count,
            "payload": [],
            "user_expressions": {},
        });
        if let (Some(Value::Object(failure)), Some(reply)) = (failure, reply.as_object_mut()) {
            reply.extend(failure);
        }
        reply
    }

    fn begin(&self, request: &Arc<JupyterMessage>, silent: bool, stored: bool) -> usize {
        let mut now = self.kernel.now();
        now.cell += 1;
        interrupt::begin(&self.kernel.folder, now.cell);
        now.phase = Phase::Compiling;
        now.request = Some(Arc::clone(request));
        now.silent = silent;
        now.count += usize::from(stored);
        now.ended_by_interrupt = false;
        // The process may have ended between two cells: then this one reports it.
        if !matches!(now.problem, Some(Event::Ended { .. })) {
            now.problem = None;
        }
        now.result = None;
        now.count
    }

    fn evaluate(&mut self, code: &str, count: usize, input: &Input, allowed: bool) -> Result<(), Failure> {
        if self.kernel.now().interrupts > 0 {
            return Err(Failure::interrupted(None));
        }
        // evcxr would end the process of the kernel, and nobody would get an answer.
        if code.trim() == ":quit" {
            return Err(Failure::refused("a notebook's kernel is shut down from the menu \"Kernel\"".into()));
        }
        let context =
            self.context.as_mut().map_err(|error| Failure::refused(format!("evcxr doesn't start: {error}")))?;
        let mut variables: Vec<String> = context.variables_and_types().map(|(name, _)| name.to_string()).collect();
        variables.sort();
        let events = &self.events;
        let mut callbacks = EvalCallbacks {
            input_reader: &|asked| {
                events.wait();
                match allowed {
                    true => input.ask(&asked.prompt, asked.is_password),
                    false => String::new(),
                }
            },
        };
        if types::are_needed(code) {
            self.types.show_library(context);
        }
        let closed = tail::closed(code);
        let outcome = catch_unwind(AssertUnwindSafe(|| context.execute_with_callbacks(&closed, &mut callbacks)));
        self.types.ran(code);
        self.events.wait();
        let (problem, interrupted) = {
            let mut now = self.kernel.now();
            now.phase = Phase::Compiling;
            // evcxr finds out that the process has ended when it next wants to run something.
            let unnoticed = matches!(outcome, Ok(Ok(_) | Err(Error::CompilationErrors(_))))
                && matches!(now.problem, Some(Event::Ended { .. }));
            let problem = if unnoticed { None } else { now.problem.take() };
            (problem, now.ended_by_interrupt)
        };
        match (problem, outcome) {
            (Some(Event::Ended { .. }), _) if interrupted => {
                Err(Failure::interrupted(Some(&variables)))
            }
            (
                Some(Event::Ended {
                    status,
                    signal,
                    said,
                }),
                _,
            ) => Err(Failure::ended(status, signal, &said, &variables)),
            (Some(Event::Panic { said }), _) => {
                let generated = context.last_source().unwrap_or_default();
                Err(Failure::panic(&said, code, &generated))
            }
            (Some(Event::Question { said }), _) => Err(Failure::question(&said)),
            (_, Ok(Ok(outputs))) => {
                // What a command of evcxr's says, such as `:vars`.
                if !outputs.is_empty() {
                    let data = outputs.content_by_mime_type.into_iter();
                    self.kernel.result(Bundle {
                        data: data.map(|(kind, text)| (kind, Value::from(text))).collect(),
                        ..Bundle::default()
                    });
                }
                Ok(())
            }
            (_, Ok(Err(_))) if interrupted => Err(Failure::interrupted(None)),
            (_, Ok(Err(Error::CompilationErrors(errors)))) => {
                Err(Failure::compilation(&errors, code, count))
            }
            (_, Ok(Err(error))) => Err(Failure::refused(error.to_string())),
            (_, Err(_)) => Err(Failure::refused(
                "evcxr failed on this cell (its report is in the log of Jupyter); restart the kernel if others fail now".into(),
            )),
        }
    }

    pub fn complete(&mut self, code: &str, cursor: usize) -> Value {
        self.show_library();
        let found = self.context.as_mut().ok().and_then(|context| {
            let found = catch_unwind(AssertUnwindSafe(|| context.completions(code, byte_of(code, cursor))));
            found.ok()?.ok()
        });
        let Some(found) = found else {
            return json!({ "status": "ok", "matches": [], "cursor_start": cursor, "cursor_end": cursor, "metadata": {} });
        };
        let start = character_of(code, found.start_offset);
        let end = character_of(code, found.end_offset);
        let matches: Vec<&str> = found.completions.iter().map(|one| one.code.as_str()).collect();
        let types: Vec<Value> = found
            .completions
            .iter()
            .map(
                |one| json!({ "text": one.code, "type": one.kind, "signature": one.label, "start": start, "end": end }),
            )
            .collect();
        json!({
            "status": "ok",
            "matches": matches,
            "cursor_start": start,
            "cursor_end": end,
            "metadata": { "_jupyter_types_experimental": types },
        })
    }

    pub fn inspect(&mut self, code: &str, cursor: usize) -> Value {
        self.show_library();
        // evcxr looks at what ends at the cursor.
        let cursor = byte_of(code, cursor);
        let rest = code[cursor..].chars();
        let end = cursor + rest.take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
        let found = self.context.as_mut().ok().and_then(|context| {
            let found = catch_unwind(AssertUnwindSafe(|| context.hover_at(code, end)));
            found.ok()?.ok()
        });
        let found = found.filter(|(text, _)| text != "No documentation found");
        let data = found.as_ref().map_or(json!({}), |(text, html)| json!({ "text/plain": text, "text/html": html }));
        json!({ "status": "ok", "found": found.is_some(), "data": data, "metadata": {} })
    }
}

/// More bytes than a stream's buffers hold.
const WAITED_FOR: usize = 1 << 20;
/// So many bytes are taken in before somebody who waits is looked for.
const LOOKED_AFTER: usize = 1 << 16;

/// Takes in what the watching process tells.
struct Events {
    wake: UnixStream,
    woken: mpsc::Receiver<()>,
}

impl Events {
    /// Returns the end for the watching process, too.
    fn new(kernel: Arc<Kernel>) -> std::io::Result<(Self, UnixStream)> {
        let (told, heard) = UnixStream::pair()?;
        let (wake, wakes) = UnixStream::pair()?;
        let (sender, woken) = mpsc::channel();
        std::thread::spawn(move || listen(&kernel, heard, wakes, &sender));
        Ok((Events { wake, woken }, told))
    }

    /// Returns when everything that was told before is taken in.
    fn wait(&self) {
        if (&self.wake).write_all(&[1]).is_ok() {
            let _ = self.woken.recv();
        }
    }
}

fn listen(kernel: &Kernel, heard: UnixStream, mut wakes: UnixStream, woken: &mpsc::Sender<()>) {
    let mut heard = BufReader::new(heard);
    let mut line = Vec::new();
    // Bytes that were taken in since the last look, and since somebody waits.
    let (mut unseen, mut taken) = (0, 0);
    loop {
        let buffered = !heard.buffer().is_empty();
        if !buffered || unseen > LOOKED_AFTER {
            let mut polled = [heard.get_ref().as_fd(), wakes.as_fd()].map(|file| PollFd::new(file, PollFlags::POLLIN));
            let limit = match buffered {
                true => PollTimeout::ZERO,
                false => PollTimeout::NONE,
            };
            if poll(&mut polled, limit).is_err() {
                continue;
            }
            let [events, wake] = polled.map(|file| file.any().unwrap_or(false));
            let events = events || buffered;
            taken = if wake { taken + unseen } else { 0 };
            unseen = 0;
            // When nothing else is there to read, or only what a thread of the cell's goes on to write.
            if wake && (!events || taken > WAITED_FOR) {
                let _ = wakes.read(&mut [0]);
                let _ = woken.send(());
                taken = 0;
            }
            if !events {
                continue;
            }
        }
        match heard.read_until(b'\n', &mut line) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        unseen += line.len();
        // A process that was killed while it wrote leaves a part of a line.
        if let Ok(event) = serde_json::from_slice(&line) {
            kernel.take(event);
        }
        line.clear();
    }
}
