//! A task of the course: course/tasks/NAME.rs, with a question in `//!` lines and sections that begin with `//# NAME`.

use std::path::Path;

use super::mark::{Answer, Solution};
use super::region::{self, Item};
use crate::system::{Error, Result, file};

/// Ends the line that nbgrader replaces by the stub, with all up to [`END`].
pub const BEGIN: &str = "// BEGIN SOLUTION";
pub const END: &str = "// END SOLUTION";

pub struct Task {
    /// The question, Markdown.
    pub ask: String,
    /// The code around the solution, with `//= NAME` in the places of items. Without it, the item stands alone.
    frame: String,
    /// Statements of the test's part that the students see.
    pub seen: String,
    /// Statements of the other part.
    pub hidden: String,
}

impl Task {
    /// Reads the task `name` from the folder of tasks.
    ///
    /// # Errors
    /// Fails if the file can't be read or lacks a part.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.rs"));
        let text = file::read(&path)?;
        let mut sections = text.split("//# ");
        let ask = sections.next().unwrap_or_default().lines().map(|line| line.trim_start_matches("//!").trim());
        let ask = ask.collect::<Vec<_>>().join("\n").trim().to_string();
        let mut task = Task { ask, frame: String::new(), seen: String::new(), hidden: String::new() };
        for section in sections {
            let (name, body) = section.split_once('\n').unwrap_or((section, ""));
            *match name {
                "frame" => &mut task.frame,
                "seen" => &mut task.seen,
                "hidden" => &mut task.hidden,
                _ => {
                    return Err(Error::file(
                        &path,
                        format!("has the section {name:?}; frame, seen and hidden are known"),
                    ));
                }
            } = body.trim_end().to_string();
        }
        if [&task.ask, &task.seen, &task.hidden].iter().any(|part| part.is_empty()) {
            return Err(Error::file(&path, "needs a question in //! lines and the sections seen and hidden"));
        }
        Ok(task)
    }

    /// Returns the code with the solution between [`BEGIN`] and [`END`]. Items come from the cell's `source`, or else from
    /// the crate's files.
    ///
    /// # Errors
    /// Fails if the cell and the crate don't have the solution, or the frame has no place for it.
    pub fn solved(&self, answer: &Answer, source: &str, crate_files: &[String]) -> Result<String> {
        let solution = match &answer.solution {
            Solution::Item(name) => name,
            Solution::Lines(_) => "lines",
        };
        let own_frame = format!("//= {solution}");
        let frame = if self.frame.is_empty() { &own_frame } else { &self.frame };
        let mut solved = Vec::new();
        for line in frame.lines() {
            let Some(name) = line.trim_start().strip_prefix("//= ") else {
                solved.push(line.to_string());
                continue;
            };
            let text = match &answer.solution {
                Solution::Lines([first, last]) if name == "lines" => {
                    marked(&region::without_indent(region::between(source, first, last)?))
                }
                _ => {
                    let Item { head, body, tail } = Item::new(find(name, source, crate_files)?);
                    let body =
                        if name == solution { indented(&marked(&region::without_indent(&body)), "    ") } else { body };
                    [head, body, tail].join("\n")
                }
            };
            solved.push(indented(&text, &line[..line.len() - line.trim_start().len()]));
        }
        let solved = solved.join("\n");
        if solved.matches(BEGIN).count() != 1 {
            return Err(Error::argument(format!("the frame of {} has no place `//= {solution}`", answer.task)));
        }
        Ok(solved)
    }
}

/// Returns the code without the marks of the solution.
pub fn without_marks(solved: &str) -> String {
    let is_code = |line: &&str| !matches!(line.trim(), BEGIN | END);
    solved.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

fn marked(solution: &str) -> String {
    format!("{BEGIN}\n{solution}\n{END}")
}

fn indented(text: &str, indent: &str) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{indent}{line}") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns the text of an item of the cell, or of the crate if only one of its files has it.
fn find<'a>(name: &str, source: &'a str, crate_files: &'a [String]) -> Result<&'a str> {
    if let Some(place) = region::item(source, name) {
        return Ok(&source[place]);
    }
    let mut found = crate_files.iter().filter_map(|text| region::item(text, name).map(|place| &text[place]));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::argument(format!("neither the cell nor the crate has an item {name}"))),
        (Some(_), Some(_)) => Err(Error::argument(format!("several files of the crate have an item {name}"))),
    }
}
