//! Executes cells one after the other, with what the kernel knows of earlier cells and evcxr doesn't.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use evcxr::{CommandContext, Error, EvalCallbacks, EvalOutputs};
use serde_json::json;

use super::commands::commands;
use super::definitions::definitions;
use super::events::EventReader;
use super::layouts::{Dropped, Layouts};
use super::redefine::{Outdated, UnnamedItems};
use super::rewrite::{Edit, Rewritten};
use super::state::KernelState;
use super::syntax::defined_names;
use crate::build::rustc::announce_variables;
use crate::cell::runner::{DROPPED, FORGOTTEN};

/// evcxr's answer. `Err` if evcxr panicked.
pub type Answer = thread::Result<Result<EvalOutputs, Error>>;

/// An attempt to execute a cell.
pub struct Attempt {
    pub answer: Answer,
    /// The cell as evcxr received it.
    pub rewritten: Rewritten,
    /// The file that evcxr generated of it.
    pub source: String,
}

/// How often a cell is compiled again without outdated items.
const ATTEMPTS: usize = 4;

/// Definitions of earlier cells.
#[derive(Default)]
pub struct Session {
    unnamed: UnnamedItems,
    layouts: Layouts,
}

impl Session {
    /// Executes a cell. `edits` are further edits of the cell.
    pub fn execute(
        &mut self,
        context: &mut CommandContext,
        (state, events): (&KernelState, &EventReader),
        (code, edits): (&str, &[Edit]),
        callbacks: &mut EvalCallbacks,
    ) -> Attempt {
        if let Some(folder) = std::env::var_os("EVCXR_TMPDIR") {
            announce_variables(Path::new(&folder), context.variables_and_types().next().is_some());
        }
        let after = self.layouts.after(code);
        let dropped = self.layouts.dropped(&after, context.variables_and_types());
        let (defined, _) = defined_names(code);
        let (replaced, others): (Vec<Dropped>, Vec<Dropped>) =
            dropped.into_iter().partition(|it| defined.contains(&it.variable));
        // Otherwise evcxr would take the cell's new variables for the old ones, and drop them instead.
        let forgotten = match replaced.is_empty() {
            true => Ok(false),
            false => forget(context, (state, events), &replaced),
        };
        let forgotten = match forgotten {
            Ok(forgotten) => forgotten,
            Err(error) => {
                let rewritten = Rewritten::new(code, Vec::new());
                return Attempt { answer: Ok(Err(error)), rewritten, source: String::new() };
            }
        };
        let file = state.folder.join(DROPPED);
        if !others.is_empty() {
            let _ = fs::write(&file, others.iter().map(|it| format!("{}\n", it.variable)).collect::<String>());
        }
        let attempt = self.attempt(context, state, (code, edits), callbacks);
        // The process that runs cells removes the file when it has read it.
        if !others.is_empty() && fs::remove_file(file).is_err() {
            write_stderr(state, others.iter().map(Dropped::sentence).collect());
        }
        if forgotten && !matches!(attempt.answer, Ok(Ok(_))) {
            write_stderr(state, replaced.iter().map(Dropped::sentence).collect());
        }
        if let Ok(Ok(_)) = &attempt.answer {
            self.layouts = after;
        }
        attempt
    }

    /// Evaluates the definitions of a cell that ended its process. Returns whether they are known now.
    pub fn keep_definitions(&mut self, context: &mut CommandContext, state: &KernelState, code: &str) -> bool {
        let Some(definitions) = definitions(code) else { return true };
        let attempt = self.attempt(context, state, (&definitions, &[]), &mut EvalCallbacks::default());
        let known = matches!(attempt.answer, Ok(Ok(_)));
        if known {
            self.layouts = self.layouts.after(&definitions);
        }
        known
    }

    /// Executes a cell so that its items replace those of earlier cells.
    fn attempt(
        &mut self,
        context: &mut CommandContext,
        state: &KernelState,
        (code, edits): (&str, &[Edit]),
        callbacks: &mut EvalCallbacks,
    ) -> Attempt {
        let has = |name| commands(code).any(|command| command.name == name);
        let names: HashSet<&str> = context.defined_item_names().filter(|_| !has(":clear")).collect();
        self.unnamed.retain(&names);
        let mut outdated: Vec<Outdated> = Vec::new();
        let mut first = None;
        loop {
            let plan = self.unnamed.plan(code, &outdated);
            let rewritten = Rewritten::new(code, [edits, &plan.edits].concat());
            let answer = catch_unwind(AssertUnwindSafe(|| context.execute_with_callbacks(&rewritten.text, callbacks)));
            let attempt = Attempt { answer, rewritten, source: context.last_source().unwrap_or_default() };
            // The shell's commands would run again.
            if let Ok(Err(Error::CompilationErrors(errors))) = &attempt.answer
                && outdated.len() < ATTEMPTS
                && !has("!")
            {
                let more = plan.outdated(errors, &attempt.source);
                if !more.is_empty() {
                    outdated.extend(more);
                    first.get_or_insert(attempt);
                    continue;
                }
            }
            if let Ok(Ok(_)) = &attempt.answer {
                self.unnamed = plan.after;
                write_stderr(state, outdated.iter().map(Outdated::sentence).collect());
            } else if let Some(first) = first.filter(|_| !outdated.iter().any(|it| it.conflicts)) {
                // Later errors follow from the removal.
                return first;
            }
            return attempt;
        }
    }
}

fn write_stderr(state: &KernelState, text: String) {
    if !text.is_empty() {
        state.publish_output("stream", json!({ "name": "stderr", "text": text }));
    }
}

/// Makes evcxr forget variables without reading them. Returns whether it has. Fails if the process has ended.
fn forget(
    context: &mut CommandContext,
    (state, events): (&KernelState, &EventReader),
    variables: &[Dropped],
) -> Result<bool, Error> {
    let file = state.folder.join(FORGOTTEN);
    let _ = fs::write(&file, "");
    let text: String = variables.iter().map(|it| format!("let {} = ();\n", it.variable)).collect();
    let answer = catch_unwind(AssertUnwindSafe(|| context.execute(&text)));
    events.wait();
    let forgotten = fs::remove_file(file).is_err();
    if let Ok(Err(error @ Error::SubprocessTerminated(_))) = answer {
        return Err(error);
    }
    if forgotten {
        // The process reports a panic.
        state.cell().stopped_by = None;
    }
    Ok(forgotten)
}
