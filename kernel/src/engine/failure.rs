//! Decides whether a cell failed, and describes the failure as Jupyter expects it: a name, a sentence and a traceback.

use std::thread;

use ariadne::sources;
use evcxr::{CompilationError, Error, EvalOutputs, Theme};
use nix::sys::signal::Signal::{self, SIGABRT, SIGKILL, SIGSEGV};
use serde_json::{Value, json};
use yansi::Paint;

use super::rewrite::Rewritten;
use super::state::KernelState;
use crate::cell::event::Event;

pub struct Failure {
    pub name: String,
    pub value: String,
    /// The lines below "name: value".
    pub details: Vec<String>,
}

/// Decides whether a cell failed. A panic, a `?` or the end of its process, as the watcher reported it, counts before
/// evcxr's answer. `variables` are lost with the process; `generated` is the source file that evcxr made of the cell.
pub fn decide_failure(
    state: &KernelState,
    answer: thread::Result<Result<EvalOutputs, Error>>,
    code: &str,
    rewritten: &Rewritten,
    variables: &[String],
    generated: impl FnOnce() -> String,
) -> Result<EvalOutputs, Failure> {
    let at_question;
    let (stopped_by, interrupted, count) = {
        let mut cell = state.cell();
        // evcxr notices the end of the process only when it runs code. Until then the event waits for the next cell.
        let unnoticed = cell.process_has_ended() && matches!(answer, Ok(Ok(_) | Err(Error::CompilationErrors(_))));
        let stopped_by = if unnoticed { None } else { cell.stopped_by.take() };
        at_question = cell.interrupted_at_question && !unnoticed;
        (stopped_by, cell.ended_by_interrupt, cell.execution_count)
    };
    match (stopped_by, answer) {
        (Some(Event::Ended { .. }), _) if interrupted => {
            let reason = "the cell's code doesn't listen to interrupts, so its process was ended";
            Err(Failure::new("Interrupted", format!("{reason}. {}", lost(variables))))
        }
        (Some(Event::Ended { status, signal, stderr }), _) => Err(Failure::ended(status, signal, &stderr, variables)),
        _ if at_question => Err(Failure::interrupted_at_question()),
        (Some(Event::Panic { stderr, payload }), _) => {
            Err(Failure::panic(&stderr, payload.as_deref(), code, &generated()))
        }
        (Some(Event::Question { stderr }), _) => Err(Failure::question(&stderr)),
        (_, Ok(Ok(outputs))) => Ok(outputs),
        (_, Ok(Err(_))) if interrupted => Err(Failure::interrupted()),
        (_, Ok(Err(Error::CompilationErrors(errors)))) => Err(Failure::compilation(&errors, rewritten, count)),
        (_, Ok(Err(error))) => Err(Failure::error(error.to_string())),
        (_, Err(_)) => Err(Failure::error(
            "evcxr panicked on this cell (see Jupyter's log); restart the kernel if other cells fail, too",
        )),
    }
}

impl Failure {
    fn new(name: &str, value: impl Into<String>) -> Self {
        Failure { name: name.to_string(), value: value.into(), details: Vec::new() }
    }

    /// Returns the content of an `error` message.
    pub fn content(&self) -> Value {
        let title = format!("{}: {}", self.name.as_str().bright_red().bold(), self.value);
        let traceback: Vec<&str> = title.lines().chain(self.details.iter().map(String::as_str)).collect();
        json!({ "ename": self.name, "evalue": self.value, "traceback": traceback })
    }

    /// Describes a failure without an error code, such as a variable that evcxr can't keep.
    pub fn error(message: impl Into<String>) -> Self {
        Failure::new("Error", message)
    }

    fn compilation(errors: &[CompilationError], rewritten: &Rewritten, count: usize) -> Self {
        let Some(first) = errors.first() else { return Failure::error("the cell doesn't compile") };
        let details = errors.iter().flat_map(|error| report_lines(error, &rewritten.text, count)).collect();
        Failure { details, ..Failure::new(first.code().unwrap_or("Error"), first.message()) }
    }

    /// Describes a panic by the message of its hook and the text of its payload.
    fn panic(stderr: &str, payload: Option<&str>, code: &str, generated: &str) -> Self {
        let mut lines = stderr.lines().skip_while(|line| !line.contains("panicked at "));
        let place = lines.next().and_then(|line| line.split_once("panicked at "));
        let place = place.map_or("", |(_, place)| place.trim_end_matches(':'));
        let message: Vec<&str> = lines.take_while(|line| !line.starts_with("note: run with `RUST_BACKTRACE")).collect();
        let message = match (message.join("\n").trim(), payload) {
            ("" | "Box<dyn Any>", Some(payload)) => payload.to_string(),
            ("", None) => "the panic's payload is no text, and its hook printed no message".into(),
            ("Box<dyn Any>", None) => "the panic's payload is no text".into(),
            (message, _) => message.to_string(),
        };
        let message = without_frames(message.trim());
        Failure { details: location(place, code, generated).into_iter().collect(), ..Failure::new("panicked", message) }
    }

    /// Describes the error of a `?`, whose text evcxr writes on standard error.
    fn question(stderr: &str) -> Self {
        let message = without_frames(stderr.trim());
        Failure::error(if message.is_empty() { "a `?` ended the cell".into() } else { message })
    }

    /// Describes the end of the process that runs cells.
    fn ended(status: Option<i32>, signal: Option<i32>, stderr: &str, variables: &[String]) -> Self {
        let signal = signal.and_then(|number| Signal::try_from(number).ok());
        let reason = match (signal, status) {
            (Some(SIGSEGV), _) => "the cell accessed memory that isn't mapped (SIGSEGV)",
            (Some(SIGABRT), _) => "the cell aborted its process (SIGABRT)",
            (Some(SIGKILL), _) => "the cell's process was killed (SIGKILL), most likely because memory ran out",
            (Some(signal), _) => &format!("a signal ended the cell's process ({signal})"),
            (None, Some(status)) => &format!("the cell ended its process with status {status}"),
            (None, None) => "the cell's process ended",
        };
        let name = if signal.is_none() && status.is_some() { "Exit" } else { "Crash" };
        let details = without_frames(stderr.trim()).lines().take(10).map(String::from).collect();
        Failure { details, ..Failure::new(name, format!("{reason}. {}", lost(variables))) }
    }

    /// Describes an interrupt while the cell waited for an answer.
    fn interrupted_at_question() -> Self {
        Failure::new(
            "Interrupted",
            "the interrupt stopped the cell, which waited for an answer; earlier variables are kept",
        )
    }

    /// Describes an interrupt that ended the compilation.
    pub fn interrupted() -> Self {
        Failure::new("Interrupted", "the interrupt stopped compiling the cell; all variables are kept")
    }
}

fn lost(variables: &[String]) -> String {
    let subject = match variables {
        [] => "No variable was".to_string(),
        [name] => format!("The variable {name} is"),
        [names @ .., last] => format!("The variables {} and {last} are", names.join(", ")),
    };
    format!("{subject} lost; functions, types and dependencies remain.")
}

fn report_lines(error: &CompilationError, code: &str, count: usize) -> Vec<String> {
    if !error.is_from_user_code() {
        return error.message().lines().map(String::from).collect();
    }
    let name = format!("cell_{count}");
    let Some(report) = error.build_report(name.clone(), code.to_string(), Theme::Light) else {
        let spans = error.spanned_messages().iter();
        let lines = spans.flat_map(|span| span.lines.iter().chain([&span.label]).cloned());
        return lines.chain(error.help()).collect();
    };
    let mut written = Vec::new();
    let _ = report.write(sources([(name, code)]), &mut written);
    String::from_utf8_lossy(&written).lines().map(String::from).collect()
}

/// Returns the place of a panic: the line of the cell if it can be found, otherwise the file without this machine's
/// folders.
fn location(place: &str, code: &str, generated: &str) -> Option<String> {
    let mut parts = place.rsplitn(3, ':');
    let (_column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
    let number: usize = line.parse().ok()?;
    // The source of a cell has one of these names, in evcxr's own package or in the workspace of the warm build.
    if !["src/lib.rs", "ctx/src/lib.rs"].contains(&file) {
        return Some(format!("  at {}:{line}", short_path(file)));
    }
    // evcxr copies the lines of a cell unchanged.
    let text = generated.lines().nth(number.checked_sub(1)?)?.trim();
    let mut equal = (1..).zip(code.lines()).filter(|(_, line)| line.trim() == text);
    match (equal.next(), equal.next()) {
        (Some((number, _)), None) => Some(format!("  at line {number} of the cell: {text}")),
        _ => Some(format!("  at {text}")),
    }
}

/// Removes the folders that hold crates from the path of a source file: `tch-0.24.0/src/tensor/ops.rs`.
fn short_path(file: &str) -> String {
    if let Some((_, rest)) = file.split_once("/registry/src/") {
        return rest.split_once('/').map_or(rest, |(_, rest)| rest).to_string();
    }
    if let Some((_, rest)) = file.split_once("/library/") {
        return format!("library/{rest}");
    }
    let start = file.rmatch_indices('/').nth(2).map_or(0, |(slash, _)| slash + 1);
    file[start..].to_string()
}

/// Removes C++ frames from a message: libtorch appends the place in its sources that raised an exception, and a stack
/// of addresses.
fn without_frames(text: &str) -> String {
    let end = ["\nException raised from ", "\\nException raised from "].iter().filter_map(|mark| text.find(mark)).min();
    match end {
        None => text.to_string(),
        Some(end) if text.contains("value: Torch(\"") => format!("{}\")", &text[..end]),
        Some(end) => text[..end].to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_watchers_event_counts_before_evcxrs_answer() {
        let iopub = tokio::sync::mpsc::channel(1).0;
        let state = KernelState { iopub, cell: Mutex::default(), folder: PathBuf::new() };
        let decide = |event, answer| {
            state.cell().stopped_by = event;
            decide_failure(&state, Ok(answer), "", &Rewritten::new("", Vec::new()), &[], String::new)
                .err()
                .map(|failure| failure.name)
        };
        let ended = || Some(Event::Ended { status: Some(1), signal: None, stderr: String::new() });
        let panic = Some(Event::Panic { stderr: String::new(), payload: None });
        assert_eq!(decide(None, Ok(EvalOutputs::new())), None);
        assert_eq!(decide(panic, Ok(EvalOutputs::new())), Some("panicked".into()));
        assert_eq!(decide(ended(), Err(Error::Message(String::new()))), Some("Exit".into()));
        // evcxr hasn't noticed the end.
        assert_eq!(decide(ended(), Ok(EvalOutputs::new())), None);
        assert!(state.cell().process_has_ended());
        state.cell().ended_by_interrupt = true;
        assert_eq!(decide(ended(), Err(Error::Message(String::new()))), Some("Interrupted".into()));
    }

    #[test]
    fn a_panic_tells_the_line_of_the_cell_or_of_a_crate_without_folders_and_frames() {
        let generated = "fn x() {\n// generated by evcxr\nlet x = v[3];\n}";
        for (stderr, value, place) in [
            (
                "\nthread '<unnamed>' (12) panicked at src/lib.rs:3:9:\nindex out of bounds: the len is 0 but the index is 3\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                "index out of bounds: the len is 0 but the index is 3",
                "  at line 2 of the cell: let x = v[3];",
            ),
            (
                "thread 'main' panicked at /home/me/.cargo/registry/src/index.crates.io-1/tch-0.24.0/src/a.rs:7:13:\ncalled `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\\nException raised from meta at /pytorch/a.cpp:7\\nframe #0: 0x1\")\n",
                "called `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)\")",
                "  at tch-0.24.0/src/a.rs:7",
            ),
        ] {
            let failure = Failure::panic(stderr, None, "let y = 1;\nlet x = v[3];", generated);
            assert_eq!([failure.name.as_str(), &failure.value], ["panicked", value]);
            assert_eq!(failure.details, [place]);
        }
    }

    #[test]
    fn a_crash_names_the_variables_that_are_gone() {
        let variables = ["a", "data", "model"].map(String::from);
        let failure = Failure::ended(None, Some(11), "", &variables);
        assert_eq!(
            failure.value,
            "the cell accessed memory that isn't mapped (SIGSEGV). The variables a, data and model are lost; functions, types and dependencies remain."
        );
        assert!(Failure::ended(None, Some(11), "", &variables[1..]).value.contains("The variables data and model are"));
        assert!(Failure::ended(None, Some(11), "", &variables[2..]).value.contains("The variable model is"));
        assert!(Failure::ended(Some(3), None, "", &[]).value.contains("status 3"));
    }
}
