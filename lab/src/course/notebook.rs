//! Makes the course's version of a committed notebook from its marks.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cells::{self, Role};
use super::mark::{Answer, Mark, Question, Solution};
use super::region;
use super::task::{Task, without_marks};
use crate::check::{Cell, CellType, Notebook};
use crate::setup::kernelspec;
use crate::system::{Error, Result, file};

/// A notebook of the course. `source` holds the solutions.
pub struct Assignment {
    pub name: String,
    pub source: Value,
    pub tasks: Vec<Row>,
}

/// A line of the table for teachers.
pub struct Row {
    pub name: String,
    pub points: u32,
    /// Whether a test gives the points, or a person.
    pub tested: bool,
}

struct Maker<'a> {
    tasks: &'a Path,
    crate_files: &'a [String],
    cells: Vec<Value>,
    rows: Vec<Row>,
    /// The tasks so far, with their solutions.
    solved: Vec<(String, String)>,
}

/// Returns the notebook's course version, none if no cell has a mark.
///
/// # Errors
/// Fails if the notebook or a task can't be read, or a mark doesn't fit its cell; the message names the cell.
pub fn make(path: &Path, tasks: &Path, crate_files: &[String]) -> Result<Option<Assignment>> {
    let notebook = Notebook::read(path)?;
    let mut maker = Maker { tasks, crate_files, cells: Vec::new(), rows: Vec::new(), solved: Vec::new() };
    for (number, cell) in notebook.numbered() {
        maker.add(cell).map_err(|error| Error::file(path, format!("cell {number}: {error}")))?;
    }
    if maker.cells.is_empty() {
        return Ok(None);
    }
    let source = json!({
        "cells": maker.cells, "nbformat": 4, "nbformat_minor": 5,
        "metadata": {
            "kernelspec": { "name": kernelspec::NAME, "display_name": kernelspec::DISPLAY_NAME, "language": "rust" },
            "language_info": notebook.metadata["language_info"],
        },
    });
    Ok(Some(Assignment { name: notebook.name(), source, tasks: maker.rows }))
}

impl Maker<'_> {
    fn add(&mut self, cell: &Cell) -> Result<()> {
        let Some(mark) = Mark::of(&cell.metadata)? else { return Ok(()) };
        let (source, id) = (&cell.source, &cell.id);
        let kind = if cell.cell_type == CellType::Code { "code" } else { "markdown" };
        match mark {
            Mark::Given(part) => {
                let text = part.of(source)?;
                self.cells.push(match kind {
                    "code" => cells::graded(kind, id, Role::ReadOnly, text, None),
                    _ => cells::markdown(id, text),
                });
                Ok(())
            }
            Mark::Answer(answer) => self.add_answer(&answer, source, id),
            Mark::Question(question) => self.add_question(&question, kind, source),
        }
    }

    fn add_answer(&mut self, answer: &Answer, source: &str, id: &str) -> Result<()> {
        let task = Task::read(self.tasks, &answer.task)?;
        let solved = task.solved(answer, source, self.crate_files)?;
        let name = &answer.task;
        let ask = format!("**{}.** {}", points(answer.points), task.ask);
        self.cells.push(cells::markdown(&format!("{name}-question"), &ask));
        if !answer.needs.is_empty() {
            let code = self.solutions(&answer.needs)?;
            let remark =
                "// For grading: earlier functions as they should be, so that a mistake in one of them counts once.";
            let code = format!("{remark}\n{}", cells::hidden(&code));
            self.cells.push(cells::graded("code", &format!("{name}-needs"), Role::ReadOnly, &code, None));
        }
        self.cells.push(cells::graded("code", name, Role::Solution, &solved, Some(&answer.stub)));
        let test = format!("{}\n{}", cells::block(&task.seen), cells::hidden(&cells::block(&task.hidden)));
        self.cells.push(cells::graded("code", &format!("{name}-test"), Role::Test(answer.points), &test, None));
        if answer.rest {
            let rest = rest(answer, source, &solved);
            self.cells.push(cells::graded("code", id, Role::ReadOnly, &rest, None));
        }
        self.rows.push(Row { name: name.clone(), points: answer.points, tested: true });
        self.solved.push((name.clone(), without_marks(&solved)));
        Ok(())
    }

    /// The solutions of earlier tasks.
    fn solutions(&self, needs: &[String]) -> Result<String> {
        let find = |name: &String| self.solved.iter().find(|(solved, _)| solved == name).map(|(_, code)| code.clone());
        let missing =
            |name: &String| Error::argument(format!("needs {name}, which is no earlier task of this notebook"));
        let code: Result<Vec<String>> = needs.iter().map(|name| find(name).ok_or_else(|| missing(name))).collect();
        code.map(|code| code.join("\n\n"))
    }

    fn add_question(&mut self, question: &Question, kind: &str, source: &str) -> Result<()> {
        let rubric: Vec<_> = question.rubric.iter().map(|line| format!("- {line}")).collect();
        let Question { name, ask, .. } = question;
        let ask = format!("**{}.** {ask}\n\n{}", points(question.points), rubric.join("\n"));
        self.cells.push(cells::markdown(&format!("{name}-question"), &ask));
        let answer = question.answer.of(source)?;
        let stub = if kind == "code" { "// Your answer" } else { "Your answer" };
        self.cells.push(cells::graded(kind, name, Role::Manual(question.points), answer, Some(stub)));
        self.rows.push(Row { name: name.clone(), points: question.points, tested: false });
        Ok(())
    }
}

fn points(number: u32) -> String {
    format!("{number} point{}", if number == 1 { "" } else { "s" })
}

/// Returns what a cell holds besides the items that its task consists of.
fn rest(answer: &Answer, source: &str, solved: &str) -> String {
    let Solution::Item(_) = &answer.solution else { return String::new() };
    let mut rest = source.to_string();
    let heads = solved.lines().filter_map(|line| line.trim_start().strip_prefix("fn "));
    for name in heads.filter_map(|head| head.split(['(', '<']).next()) {
        if let Some(place) = region::item(&rest, name) {
            rest.replace_range(place, "");
        }
    }
    rest.trim().to_string()
}

/// The text of all files of the crate.
///
/// # Errors
/// Fails if a file can't be read.
pub fn crate_files(folder: &Path) -> Result<Vec<String>> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    walk.map(walkdir::DirEntry::into_path).filter(is_rust).map(|path| file::read(&path)).collect()
}
