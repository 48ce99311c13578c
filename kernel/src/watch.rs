//! The process between evcxr and the one that runs the cells: passes evcxr's own lines on and tells the kernel everything
//! else, as it happens and in order.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value};

use crate::cells;
use crate::event::{Bundle, Event, Output, Stream};

/// Holds the number of the file descriptor that events go to.
pub const VARIABLE: &str = "VITLAB_EVENTS";

const PANIC: &str = "EVCXR_PANIC_NOTIFICATION";
const QUESTION: &str = "EVCXR_ERROR_OCCURRED";
const BEGIN: &str = "EVCXR_BEGIN_CONTENT ";
const END: &str = "EVCXR_END_CONTENT";
/// Lines that only evcxr understands: a variable of another type, a request for input.
const PASSED: [&str; 2] = ["EVCXR_VARIABLE_CHANGED_TYPE:", "EVCXR_INPUT_REQUEST"];
const OUTPUT: &str = "VITLAB_OUTPUT ";

/// What may belong to something that comes next is held back for so long: part of a line, a figure that may turn out to be
/// the cell's result, a line on standard error that may turn out to be its error.
const HELD: Duration = Duration::from_millis(30);
/// After a panic values are dropped first.
const HELD_PANIC: Duration = Duration::from_secs(1);

pub fn events() -> Option<RawFd> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}

pub fn run(events: RawFd) -> ! {
    // SAFETY: the kernel opened it for this process.
    let events = unsafe { File::from_raw_fd(events) };
    let _ = fcntl(&events, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    let teller = Teller(Arc::new(Mutex::new(events)));
    let (mut child, stdin) = match start() {
        Ok(started) => started,
        Err(error) => {
            eprintln!("the process for the cells can't be started: {error}");
            std::process::exit(99);
        }
    };
    teller.tell(&Event::Started {
        watch: std::process::id() as i32,
        cells: child.id() as i32,
    });
    pass_orders(stdin, teller.clone());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = (stdout.expect("piped"), stderr.expect("piped"));
    let (ended, end) = std::io::pipe().expect("room for a pipe");
    let waiting = std::thread::spawn(move || {
        let status = child.wait();
        drop(end);
        status
    });
    let mut watch = Watch::new(teller);
    watch.follow(stdout, stderr, ended);
    let status = waiting.join().ok().and_then(Result::ok);
    watch.end();
    watch.teller.tell(&Event::Ended {
        status: status.and_then(|status| status.code()),
        signal: status.and_then(|status| status.signal()),
        said: watch.said(),
    });
    std::process::exit(99);
}

fn start() -> std::io::Result<(Child, std::process::ChildStdin)> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(std::env::args_os().skip(1))
        .env_remove(VARIABLE)
        .env(cells::VARIABLE, "1")
        // Without line numbers it would only delay the message.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    end_with_parent(&mut command);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().expect("piped");
    Ok((child, stdin))
}

/// Makes a process end when this one does.
pub fn end_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL)?));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Passes on what evcxr orders, and tells when it orders to run a cell.
fn pass_orders(mut to: std::process::ChildStdin, teller: Teller) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.starts_with(cells::RUN) {
                teller.tell(&Event::Run);
            }
            if writeln!(to, "{line}").and_then(|()| to.flush()).is_err() {
                break;
            }
        }
    });
}

#[derive(Clone)]
struct Teller(Arc<Mutex<File>>);

impl Teller {
    fn tell(&self, event: &Event) {
        let mut line = serde_json::to_string(event).expect("plain data");
        line.push('\n');
        // Nobody is left to tell when the kernel is gone.
        let _ = self.0.lock().unwrap().write_all(line.as_bytes());
    }
}

struct Watch {
    teller: Teller,
    /// What came after the last end of a line.
    line: Vec<u8>,
    /// Whether the beginning of that line is told already.
    begun: bool,
    /// Whole lines that belong together.
    text: String,
    /// The MIME type and what came of a block that evcxr_display began.
    block: Option<(String, String)>,
    figure: Option<Bundle>,
    /// Whether another MIME type may still be added.
    open: bool,
    error: Vec<u8>,
    /// The last of what was written on standard error and isn't held any more.
    last_error: String,
    since: Instant,
}

impl Watch {
    fn new(teller: Teller) -> Self {
        Watch {
            teller,
            line: Vec::new(),
            begun: false,
            text: String::new(),
            block: None,
            figure: None,
            open: false,
            error: Vec::new(),
            last_error: String::new(),
            since: Instant::now(),
        }
    }

    /// Until the process has ended. A process that it started may keep its output open longer.
    fn follow(&mut self, mut stdout: ChildStdout, mut stderr: ChildStderr, ended: impl AsFd) {
        loop {
            let wait = self.held_for();
            let [out, error, end] = ready([stdout.as_fd(), stderr.as_fd(), ended.as_fd()], wait);
            // First what was written on standard error before the lines that follow.
            let heard = error && self.hear(&mut stderr);
            let read = out && self.read(&mut stdout, &mut stderr);
            if self.held_for() == Some(Duration::ZERO) {
                self.release();
            }
            if end && !heard && !read {
                return;
            }
        }
    }

    fn hear(&mut self, stderr: &mut ChildStderr) -> bool {
        let mut bytes = [0; 1 << 16];
        let count = stderr.read(&mut bytes).unwrap_or(0);
        if count > 0 && self.error.is_empty() {
            self.tell_text();
            self.since = Instant::now();
        }
        self.error.extend_from_slice(&bytes[..count]);
        if self.error.len() > bytes.len() {
            self.tell_error();
        }
        count > 0
    }

    fn read(&mut self, stdout: &mut ChildStdout, stderr: &mut ChildStderr) -> bool {
        let mut bytes = [0; 1 << 16];
        let count = stdout.read(&mut bytes).unwrap_or(0);
        while ready([stderr.as_fd()], Some(Duration::ZERO))[0] && self.hear(stderr) {}
        let mut rest = &bytes[..count];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take_line(&String::from_utf8_lossy(&line));
            self.begun = false;
        }
        if !rest.is_empty() && self.line.is_empty() {
            self.since = Instant::now();
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > bytes.len() {
            self.tell_line();
        }
        self.tell_text();
        count > 0
    }

    fn take_line(&mut self, line: &str) {
        if let Some((kind, content)) = &mut self.block {
            if line == END || line == PANIC {
                let (kind, content) = (std::mem::take(kind), std::mem::take(content));
                self.block = None;
                self.add(kind, content);
            } else {
                if !content.is_empty() {
                    content.push('\n');
                }
                content.push_str(line);
            }
            if line != PANIC {
                return;
            }
        }
        // A part of a line can stand before a mark.
        for mark in [cells::COMPLETE, PANIC, QUESTION] {
            if let Some(before) = line.strip_suffix(mark) {
                self.tell_before(before);
                return self.take_mark(mark);
            }
        }
        if let Some((before, kind)) = line.split_once(BEGIN) {
            self.tell_before(before);
            self.block = Some((kind.trim().to_string(), String::new()));
        } else if let Some((before, output)) = line.split_once(OUTPUT) {
            self.tell_before(before);
            match serde_json::from_str(output) {
                Ok(output) => self.take_output(output),
                Err(_) => self.add_text(line, "\n"),
            }
        } else if let Some(at) = PASSED.iter().find_map(|mark| line.find(mark)) {
            self.tell_before(&line[..at]);
            self.release();
            println!("{}", &line[at..]);
        } else {
            self.add_text(line, "\n");
        }
    }

    fn take_mark(&mut self, mark: &str) {
        self.tell_text();
        match mark {
            PANIC | QUESTION => {
                self.tell_figure();
                let mut said = self.said();
                let held = !std::mem::take(&mut self.error).is_empty();
                if mark == PANIC {
                    // What the cell wrote before the panic's own message stays what it is.
                    let message = said.rfind("thread '").unwrap_or(0);
                    let message = said.split_off(message);
                    if held && !said.trim().is_empty() {
                        self.tell_stream(Stream::Stderr, said);
                    }
                    self.teller.tell(&Event::Panic { said: message });
                } else {
                    self.teller.tell(&Event::Question { said });
                }
            }
            _ => {
                self.tell_error();
                if let Some(figure) = self.figure.take() {
                    self.teller.tell(&Event::Result(figure));
                }
                self.last_error.clear();
                self.teller.tell(&Event::Done);
            }
        }
        println!("{mark}");
    }

    fn take_output(&mut self, output: Output) {
        self.tell_error();
        self.tell_text();
        self.tell_figure();
        match output {
            Output::Show(bundle) => {
                self.figure = Some(bundle);
                self.open = false;
                self.since = Instant::now();
            }
            output => self.teller.tell(&Event::Output(output)),
        }
    }

    /// Adds what evcxr_display wrote to the figure, or begins another when it has this MIME type already.
    fn add(&mut self, kind: String, content: String) {
        self.tell_error();
        self.tell_text();
        let fits = |figure: &Bundle| self.open && !figure.data.contains_key(&kind);
        if !self.figure.as_ref().is_some_and(fits) {
            self.tell_figure();
            self.figure = Some(Bundle::default());
            self.open = true;
        }
        let value = match kind.contains("json") {
            true => serde_json::from_str(&content).unwrap_or(Value::from(content)),
            false => Value::from(content),
        };
        let data: &mut Map<_, _> = &mut self.figure.as_mut().expect("put there").data;
        data.insert(kind, value);
        self.since = Instant::now();
    }

    /// The part of a line that stood before a mark.
    fn tell_before(&mut self, before: &str) {
        if !before.is_empty() {
            self.add_text(before, "");
        }
    }

    fn add_text(&mut self, line: &str, end: &str) {
        self.tell_error();
        self.tell_figure();
        self.text += line;
        self.text += end;
    }

    /// What was written on standard error last.
    fn said(&self) -> String {
        match self.error.is_empty() {
            true => self.last_error.clone(),
            false => String::from_utf8_lossy(&self.error).into_owned(),
        }
    }

    fn held_for(&self) -> Option<Duration> {
        let held = if !self.error.is_empty() {
            let panic = self.error.windows(12).any(|bytes| bytes == b"panicked at ");
            if panic { HELD_PANIC } else { HELD }
        } else if self.figure.is_some() || (!self.line.is_empty() && self.block.is_none()) {
            HELD
        } else {
            return None;
        };
        Some(held.saturating_sub(self.since.elapsed()))
    }

    fn release(&mut self) {
        self.tell_error();
        self.tell_figure();
        self.tell_line();
        self.tell_text();
    }

    fn end(&mut self) {
        if self.last_error.is_empty() {
            self.last_error = self.said();
        }
        self.release();
    }

    fn tell_error(&mut self) {
        if self.error.is_empty() {
            return;
        }
        self.tell_text();
        // The end of a longer character may still be on its way.
        let whole = whole_characters(&self.error);
        let rest = self.error.split_off(whole);
        let text = String::from_utf8_lossy(&self.error).into_owned();
        self.error = rest;
        self.last_error = text.clone();
        self.tell_stream(Stream::Stderr, text);
    }

    fn tell_figure(&mut self) {
        if let Some(figure) = self.figure.take() {
            self.tell_text();
            self.teller.tell(&Event::Output(Output::Show(figure)));
        }
    }

    /// The beginning of a line whose end isn't there yet, unless it can be one of the marks.
    fn tell_line(&mut self) {
        if self.block.is_some() || self.line.is_empty() {
            return;
        }
        let starts = |mark: &[u8]| mark.starts_with(&self.line[..self.line.len().min(mark.len())]);
        if !self.begun && (starts(b"EVCXR_") || starts(OUTPUT.as_bytes())) {
            self.since = Instant::now();
            return;
        }
        let whole = whole_characters(&self.line);
        let rest = self.line.split_off(whole);
        let text = String::from_utf8_lossy(&self.line).into_owned();
        self.line = rest;
        self.begun = true;
        self.since = Instant::now();
        self.add_text(&text, "");
    }

    fn tell_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        self.tell_stream(Stream::Stdout, text);
    }

    fn tell_stream(&self, stream: Stream, text: String) {
        if !text.is_empty() {
            self.teller.tell(&Event::Text { stream, text });
        }
    }
}

/// How many bytes hold whole characters: what isn't text at all counts as whole.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// Which of them can be read, or have ended, within `wait`.
fn ready<const N: usize>(files: [BorrowedFd; N], wait: Option<Duration>) -> [bool; N] {
    let mut polled = files.map(|file| PollFd::new(file, PollFlags::POLLIN));
    let timeout = wait.map_or(PollTimeout::NONE, |wait| {
        PollTimeout::try_from(wait.as_millis() as i32 + i32::from(!wait.is_zero()))
            .unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut polled, timeout) {
        Ok(_) => polled.map(|file| file.any().unwrap_or(false)),
        Err(_) => [false; N],
    }
}
