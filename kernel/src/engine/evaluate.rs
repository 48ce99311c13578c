//! Evaluates a cell: obeys its commands, edits it, lets evcxr execute it, and decides whether it failed.

use evcxr::{CommandContext, Error, EvalCallbacks};
use serde_json::{Value, json};

use super::analysis::StandardLibrary;
use super::commands::commands;
use super::earlier::Outcome;
use super::events::{self, EventReader};
use super::failure::{Failure, decide_failure};
use super::rewrite::Edit;
use super::session::Attempt;
use super::source_map::{CellText, SourceMap};
use super::state::{KernelState, Phase};
use super::syntax::{defines_variables, documentation, semicolon};
use super::syntax_error::syntax_errors;
use super::{Engine, async_runtime, hints, items, level, literals, progress, restart, timing, types};
use crate::cell::ANSWER;
use crate::cell::event::{Bundle, Event, Question, Stream};
use crate::cell::input::Answer;

impl Engine {
    /// Evaluates a cell. `answer` answers its questions.
    pub(super) fn evaluate(&mut self, code: &str, answer: impl Fn(&Question) -> Answer) -> Result<(), Failure> {
        self.check(code)?;
        let progress = progress::follow(&self.state);
        let mut edits = self.obey_commands(code)?;
        let (led, linked) = self.linked.edits(code, &self.state.folder);
        edits.extend(led);
        edits.extend(items::edits(code));
        edits.extend(literals::constants(code));
        edits.extend(semicolon(code));
        edits.extend(documentation(code));
        let variables = self.variables();
        let attempt = self.execute_edited(code, edits, answer);
        // A cell that added a crate makes loading necessary again.
        self.types_loaded &= !commands(code).any(|command| command.name == ":dep");
        self.events.wait();
        drop(progress);
        self.state.cell().phase = Phase::Compiling;
        if matches!(&attempt, Ok(Attempt { answer: Ok(Ok(_)), .. })) {
            self.linked = linked;
        }
        let kept = self.variables();
        match attempt {
            Ok(attempt) => self.conclude(code, attempt, &variables, &kept),
            Err(failure) => {
                let cell = CellText::unchanged(self.state.cell().execution_count, code);
                self.earlier.add(cell, Outcome::NotCompiled, &variables, &kept);
                Err(failure)
            }
        }
    }

    /// Refuses a cell that evcxr must not see.
    fn check(&self, code: &str) -> Result<(), Failure> {
        if self.state.cell().interrupts > 0 {
            return Err(Failure::interrupted());
        }
        // evcxr would end the kernel's process before it replies.
        if commands(code).any(|command| command.name == ":quit") {
            return Err(Failure::error("a notebook's kernel is shut down from the menu \"Kernel\""));
        }
        let errors = syntax_errors(code);
        if !errors.is_empty() {
            let cell = CellText::unchanged(self.state.cell().execution_count, code);
            return Err(Failure::syntax(&errors, &SourceMap::new("", &cell, &[])));
        }
        level::check(code)
    }

    /// Obeys the commands that the kernel carries out itself, and prepares what evcxr needs for the others. Returns the
    /// edits that remove the former.
    fn obey_commands(&mut self, code: &str) -> Result<Vec<Edit>, Failure> {
        let variables = self.variables();
        let context = running(&mut self.context)?;
        let mut edits = self.toolchain.switch(context, &self.state, code, &variables)?;
        self.has_runtime &= edits.is_empty();
        let restarted = restart::obey(context, code)?;
        if !restarted.is_empty() {
            self.has_runtime = false;
            let text = "The process that runs cells was restarted, without variables.\n";
            self.state.publish_output("stream", json!({ "name": Stream::Stdout, "text": text }));
        }
        edits.extend(restarted);
        if self.has_runtime && async_runtime::changes_dependencies(code, &self.state.folder) {
            async_runtime::set_apart(context, &self.state, &self.events);
            self.has_runtime = false;
        }
        if defines_variables(code) {
            // rustc finds types sooner than rust-analyzer reads the standard library. But the cell is then executed twice, with
            // its commands for the shell.
            let library = if types::runs_shell(code) { StandardLibrary::Read } else { StandardLibrary::Later };
            self.sources.update(context, &self.state.folder, library);
        }
        Ok(edits)
    }

    /// Lets evcxr execute a cell, again with the types of its variables if evcxr doesn't find them, and again without
    /// checks for an interrupt if it doesn't compile with them.
    fn execute_edited(
        &mut self,
        code: &str,
        mut edits: Vec<Edit>,
        answer: impl Fn(&Question) -> Answer,
    ) -> Result<Attempt, Failure> {
        let context = running(&mut self.context)?;
        let checks = self.loops.checks(code, |name| context.defined_item_names().any(|it| it == name));
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
        let (session, process) = (&mut self.session, (&*self.state, &self.events));
        let mut execute = |context: &mut CommandContext, code: &str, edits: &[Edit]| {
            session.execute(context, process, (code, edits), &mut callbacks)
        };
        // A loop's closing brace comes before the semicolon.
        let checked = |edits: &[Edit]| [&checks.edits[..], edits].concat();
        let mut attempt = execute(context, code, &checked(&edits));
        if is_missing(&attempt) && self.state.cell().interrupts == 0 {
            match types::find(context, code, &attempt.rewritten.text) {
                Some(found) => {
                    let found = found.map_err(|message| {
                        let cell = CellText::unchanged(self.state.cell().execution_count, code);
                        Failure::variable(message, &SourceMap::new("", &cell, &[]))
                    })?;
                    edits.extend(found.edits.clone());
                    attempt = execute(context, code, &checked(&edits));
                    if let Ok(Err(error)) = &attempt.answer
                        && let Some(message) = found.explain(error)
                    {
                        return Err(Failure::error(message));
                    }
                }
                None if defines_variables(code)
                    && !types::runs_shell(code)
                    && self.sources.update(context, &self.state.folder, StandardLibrary::Read) =>
                {
                    attempt = execute(context, code, &checked(&edits));
                }
                None => {}
            }
        }
        if let Ok(Err(Error::Message(_))) = &attempt.answer
            && is_missing(&attempt)
            && let Some(errors) = types::errors(context, &attempt.rewritten.text)
        {
            let source = context.last_source().unwrap_or_default();
            attempt = Attempt { answer: Ok(Err(errors)), source, ..attempt };
        }
        // An error of the compiler describes the cell itself. Should the cell compile without checks, it runs without.
        if !checks.edits.is_empty()
            && let Ok(Err(error)) = &attempt.answer
            && may_try_again(&self.state, &self.events)
        {
            let text = format!("The cell ran without checks for an interrupt, which don't compile in it: {error}\n");
            self.state.cell().has_checks = false;
            attempt = execute(context, &without_shell_commands(code), &edits);
            if matches!(attempt.answer, Ok(Ok(_))) {
                events::handle(&self.state, Event::Text { stream: Stream::Stderr, text });
            }
        }
        Ok(attempt)
    }

    /// Decides whether a cell failed, notes it among the earlier ones, and shows what evcxr's commands answered.
    /// `variables` existed before the cell, `kept` exist after it.
    fn conclude(
        &mut self,
        code: &str,
        Attempt { answer, rewritten, source }: Attempt,
        variables: &[String],
        kept: &[String],
    ) -> Result<(), Failure> {
        let context = running(&mut self.context)?;
        self.has_runtime |= matches!(answer, Ok(Ok(_))) && async_runtime::is_used(&source);
        let ended = matches!(answer, Ok(Err(Error::SubprocessTerminated(_))));
        let cell = CellText { count: self.state.cell().execution_count, code: code.to_string(), rewritten };
        let mut decided = decide_failure(&self.state, answer, &cell, &self.earlier, variables, kept, &source)
            .map_err(|failure| hints::explain(async_runtime::explain(failure)));
        if let (Err(failure), true) = (&mut decided, ended) {
            if !self.session.keep_definitions(context, &self.state, code) {
                failure.value += " Those of this cell couldn't be kept: run them again, in a cell of their own.";
            }
            self.events.wait();
        }
        let outcome = decided.as_ref().err().map_or(Outcome::Done, |failure| failure.outcome);
        self.earlier.add(cell, outcome, variables, &self.variables());
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

    /// Returns the names of the variables, sorted.
    fn variables(&self) -> Vec<String> {
        let variables = self.context.iter().flat_map(|context| context.variables_and_types());
        let mut names: Vec<String> = variables.map(|(name, _)| name.to_string()).collect();
        names.sort();
        names
    }
}

/// Returns whether evcxr failed for the lack of a variable's type.
fn is_missing(attempt: &Attempt) -> bool {
    matches!(&attempt.answer, Ok(Err(error)) if types::is_missing(error))
}

fn running(context: &mut Result<CommandContext, String>) -> Result<&mut CommandContext, Failure> {
    context.as_mut().map_err(|error| Failure::error(format!("evcxr doesn't start: {error}")))
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
