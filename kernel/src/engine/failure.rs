//! Decides whether a cell failed, and describes the failure as Jupyter expects it: a name, a sentence and a traceback.

use std::thread;

use evcxr::{CompilationError, Error, EvalOutputs};
use nix::sys::signal::Signal::{self, SIGABRT, SIGKILL, SIGSEGV};
use serde_json::{Value, json};
use yansi::Paint;

use super::diagnostic::{self, Diagnostic};
use super::earlier::{Earlier, Outcome};
use super::panic;
use super::source_map::{CellText, SourceMap};
use super::state::KernelState;
use super::syntax::{defined_names, definition};
use crate::cell::event::Event;

pub struct Failure {
    pub name: String,
    pub value: String,
    /// The lines below "name: value".
    pub details: Vec<String>,
    pub outcome: Outcome,
}

/// Decides whether a cell failed. A panic, a `?` or the end of its process, as the watcher reported it, counts before
/// evcxr's answer. `variables` are those before the cell, which are lost with the process, and `kept` those after it;
/// `generated` is the source file that evcxr made of the cell.
pub fn decide_failure(
    state: &KernelState,
    answer: thread::Result<Result<EvalOutputs, Error>>,
    cell: &CellText,
    earlier: &Earlier,
    variables: &[String],
    kept: &[String],
    generated: &str,
) -> Result<EvalOutputs, Failure> {
    let at_question;
    let (stopped_by, interrupted, asked, other_panics) = {
        let mut cell = state.cell();
        // evcxr notices the end of the process only when it runs code. Until then the event waits for the next cell.
        let unnoticed = cell.process_has_ended() && matches!(answer, Ok(Ok(_) | Err(Error::CompilationErrors(_))));
        let stopped_by = if unnoticed { None } else { cell.stopped_by.take() };
        at_question = cell.interrupted_at_question && !unnoticed;
        (stopped_by, cell.ended_by_interrupt, cell.interrupts > 0, cell.other_panics.clone())
    };
    match (stopped_by, answer) {
        (Some(Event::Ended { .. }), _) if interrupted => {
            let reason = "the cell's code didn't react to the interrupt, so its process was ended";
            let failure = Failure::new("Interrupted", format!("{reason}. {}", lost(variables)));
            Err(Failure { outcome: Outcome::ProcessEnded, ..failure })
        }
        (Some(Event::Ended { status, signal, stderr }), _) => Err(Failure::ended(status, signal, &stderr, variables)),
        _ if at_question => Err(Failure::interrupted_at_question()),
        // The loops of the cell end as a panic ends them, and the panics that follow from it are the interrupt's.
        (Some(Event::Panic { stderr, .. }), _) if asked => {
            let details = match panic::message(&stderr).1 {
                message if message.is_empty() => Vec::new(),
                message => vec![format!("The cell panicked: {message}")],
            };
            Err(Failure { details, ..Failure::loops_ended(&cell.code, variables, kept) })
        }
        (Some(Event::Panic { stderr, payload }), _) => {
            let map = SourceMap::new(generated, cell, &earlier.cells);
            Err(Failure::panic(&stderr, payload.as_deref(), &other_panics, &map))
        }
        (Some(Event::Question { stderr }), _) => Err(Failure::question(&stderr)),
        (_, Ok(Ok(outputs))) => Ok(outputs),
        (_, Ok(Err(_))) if interrupted => Err(Failure::interrupted()),
        (_, Ok(Err(Error::CompilationErrors(errors)))) => {
            Err(Failure::compilation(&errors, &SourceMap::new(generated, cell, &earlier.cells), earlier))
        }
        (_, Ok(Err(error))) => Err(Failure { outcome: Outcome::NotCompiled, ..Failure::error(error.to_string()) }),
        (_, Err(_)) => Err(Failure::error(
            "evcxr panicked on this cell (see Jupyter's log); restart the kernel if other cells fail, too",
        )),
    }
}

impl Failure {
    fn new(name: &str, value: impl Into<String>) -> Self {
        Failure { name: name.to_string(), value: value.into(), details: Vec::new(), outcome: Outcome::Stopped }
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

    fn compilation(errors: &[CompilationError], map: &SourceMap, earlier: &Earlier) -> Self {
        let all = diagnostic::diagnostics(errors, map, earlier);
        let failure = match all.first() {
            None => Failure::error("the cell doesn't compile"),
            Some(first) => Failure::new(&first.name, &first.message),
        };
        Failure { details: diagnostic::details(&all, map), outcome: Outcome::NotCompiled, ..failure }
    }

    /// Describes a variable that can't be kept, and marks it. The message begins with the variable's name.
    pub fn variable(message: String, map: &SourceMap) -> Self {
        let name = message.split('`').nth(1).unwrap_or_default();
        let Some(range) = definition(&map.cell(0).code, name) else { return Failure::error(message) };
        let marked = Diagnostic::of_cell("Error", message.clone(), vec![(range, "here".into())], Vec::new());
        Failure {
            details: diagnostic::details(&[marked], map),
            outcome: Outcome::NotCompiled,
            ..Failure::error(message)
        }
    }

    /// Describes errors that keep a cell from being compiled at all.
    pub fn syntax(errors: &[Diagnostic], map: &SourceMap) -> Self {
        let message = errors.first().map_or("", |error| &error.message);
        Failure {
            details: diagnostic::details(errors, map),
            outcome: Outcome::NotCompiled,
            ..Failure::new("SyntaxError", message)
        }
    }

    /// Describes a panic by the message of its hook and the text of its payload. `others` are the messages of panics that
    /// didn't stop the cell.
    fn panic(stderr: &str, payload: Option<&str>, others: &str, map: &SourceMap) -> Self {
        let (place, message) = panic::message(stderr);
        let message = match (message.as_str(), payload) {
            ("" | "Box<dyn Any>", Some(payload)) => payload.to_string(),
            ("", None) => "the panic's payload is no text, and its hook printed no message".into(),
            ("Box<dyn Any>", None) => "the panic's payload is no text".into(),
            (message, _) => message.to_string(),
        };
        let message = if message.is_empty() { "the cell panicked without a message".into() } else { message };
        let mut details: Vec<String> = panic::location(place, map).into_iter().collect();
        // `join().unwrap()` tells nothing about the panic of the thread.
        if message.ends_with("Any { .. }") {
            let starts: Vec<usize> = others.match_indices("thread '").map(|(start, _)| start).collect();
            for (index, start) in starts.iter().enumerate() {
                let (place, message) =
                    panic::message(&others[*start..starts.get(index + 1).copied().unwrap_or(others.len())]);
                if !message.is_empty() {
                    details.extend(format!("  a thread panicked: {message}").lines().map(String::from));
                    details.extend(panic::location(place, map));
                }
            }
        }
        Failure { details, ..Failure::new("panicked", panic::without_frames(&message)) }
    }

    /// Describes the error of a `?`, whose text evcxr writes on standard error.
    fn question(stderr: &str) -> Self {
        let message = panic::without_frames(stderr.trim());
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
        let details = panic::without_frames(stderr.trim()).lines().take(10).map(String::from).collect();
        let failure = Failure::new(name, format!("{reason}. {}", lost(variables)));
        Failure { details, outcome: Outcome::ProcessEnded, ..failure }
    }

    /// Describes an interrupt that ended the cell's loops.
    fn loops_ended(code: &str, before: &[String], kept: &[String]) -> Self {
        let moved: Vec<&str> = before.iter().filter(|name| !kept.contains(name)).map(String::as_str).collect();
        let new: Vec<String> = defined_names(code).0.into_iter().filter(|name| !kept.contains(name)).collect();
        let new: Vec<&str> = new.iter().map(String::as_str).filter(|name| !moved.contains(name)).collect();
        let mut value = "the interrupt stopped the cell; ".to_string();
        value += if moved.is_empty() {
            "all variables of earlier cells are kept"
        } else {
            "the variables of earlier cells are kept"
        };
        if !moved.is_empty() {
            value += &format!(", except {}, which the cell moved", list(&moved));
        }
        if !new.is_empty() {
            let verb = if new.len() == 1 { "isn't" } else { "aren't" };
            value += &format!(". {} {verb} defined, because the cell didn't reach its end", list(&new));
        }
        Failure::new("Interrupted", value)
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
        let failure = Failure::new("Interrupted", "the interrupt stopped compiling the cell; all variables are kept");
        Failure { outcome: Outcome::NotCompiled, ..failure }
    }
}

fn list(names: &[&str]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        _ => names.concat(),
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
            let cell = CellText::unchanged(1, "");
            decide_failure(&state, Ok(answer), &cell, &Earlier::default(), &[], &[], "")
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
