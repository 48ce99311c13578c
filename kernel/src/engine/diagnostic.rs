//! Describes the errors of rustc on the cells as the user wrote them.

use std::ops::Range;

use evcxr::CompilationError;
use serde_json::Value;
use yansi::Paint;

use super::earlier::{Earlier, mentions};
use super::marks::{Mark, evcxr_marks, is_cells_source, marks, spans};
use super::source_map::{Place, SourceMap};
use super::{advice, report, suggestion};

/// Errors after these aren't shown.
const MAX_ERRORS: usize = 10;

/// An error or a warning of rustc, placed on cells.
pub struct Diagnostic {
    pub name: String,
    pub message: String,
    pub marks: Vec<Mark>,
    pub notes: Vec<String>,
    pub helps: Vec<String>,
    /// Whether a part of the error is in code that evcxr added, such as the code that keeps variables for later cells.
    pub in_generated: bool,
    level: Level,
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Error,
    Warning,
}

/// Returns the errors to show, the one that names the failure first: errors with a place in the cell, then the others,
/// then warnings.
pub fn diagnostics(errors: &[CompilationError], map: &SourceMap, earlier: &Earlier) -> Vec<Diagnostic> {
    let mut all: Vec<Diagnostic> = Vec::new();
    for error in errors {
        let diagnostic = Diagnostic::new(error, map, earlier);
        let known = all.iter().any(|it| it.message == diagnostic.message && it.marks == diagnostic.marks);
        if !known {
            all.push(diagnostic);
        }
    }
    // evcxr checks a cell when it finds no type for a variable, and takes warnings for the reason.
    if !all.is_empty() && all.iter().all(|it| it.level == Level::Warning) {
        return vec![Diagnostic::without_type(map)];
    }
    // A move into evcxr's code fails as a consequence of another error.
    let is_placed = |it: &Diagnostic| it.level != Level::Error || it.marks.iter().any(|mark| mark.primary);
    let consequence = |it: &Diagnostic| ["E0382", "E0505"].contains(&it.name.as_str()) && !is_placed(it);
    if all.iter().any(|it| it.level == Level::Error && is_placed(it)) {
        all.retain(|it| !consequence(it));
    }
    let distance = |it: &Diagnostic| it.marks.iter().filter(|it| it.primary).map(|it| it.place.back.min(1)).min();
    all.sort_by_key(|it| (it.level != Level::Error, distance(it).unwrap_or(2)));
    all
}

/// Returns the lines of all errors below the title of the first one.
pub fn details(all: &[Diagnostic], map: &SourceMap) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, diagnostic) in all.iter().take(MAX_ERRORS).enumerate() {
        if index > 0 {
            let name = diagnostic.name.as_str();
            let name = if diagnostic.level == Level::Error { name.bright_red() } else { name.yellow() };
            lines.extend(format!("{}: {}", name.bold(), diagnostic.message).lines().map(String::from));
        }
        lines.extend(report::lines(diagnostic, map));
    }
    if all.len() > MAX_ERRORS {
        lines.push(format!("… and {} further messages", all.len() - MAX_ERRORS));
    }
    lines
}

impl Diagnostic {
    /// An error at ranges of the present cell, each with the text beside its mark.
    pub fn of_cell(name: &str, message: String, marks: Vec<(Range<usize>, String)>, notes: Vec<String>) -> Self {
        let mark = |(range, label)| Mark { place: Place { back: 0, range, added: false }, label, primary: true };
        let marks = marks.into_iter().map(mark).collect();
        let (name, helps) = (name.to_string(), Vec::new());
        Diagnostic { name, message, marks, notes, helps, in_generated: false, level: Level::Error }
    }

    fn new(error: &CompilationError, map: &SourceMap, earlier: &Earlier) -> Self {
        let json = &error.json;
        let level = if error.level().starts_with("error") { Level::Error } else { Level::Warning };
        let code = error.code().unwrap_or(if level == Level::Warning { "Warning" } else { "Error" });
        let mut it = Diagnostic {
            name: code.to_string(),
            message: error.message(),
            marks: spans(json).flat_map(|span| marks(span, map, "")).collect(),
            notes: Vec::new(),
            helps: Vec::new(),
            in_generated: spans(json).any(|span| is_cells_source(span) && marks(span, map, "").is_empty()),
            level,
        };
        if it.marks.is_empty() {
            it.marks = evcxr_marks(error, map);
        }
        for child in json["children"].as_array().into_iter().flatten() {
            it.add_child(child, map);
        }
        advice::add(&mut it, map, earlier);
        it.keep_to_users_text(map);
        it
    }

    /// The error of a variable without a known type, which evcxr doesn't report if the check of the cell finds anything.
    fn without_type(map: &SourceMap) -> Self {
        let mut it = Diagnostic {
            name: String::new(),
            message: String::new(),
            marks: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
            in_generated: false,
            level: Level::Error,
        };
        advice::explain_missing_type(&mut it, map);
        it.keep_to_users_text(map);
        it
    }

    #[cfg(test)]
    pub fn for_test(marks: Vec<Mark>) -> Self {
        let (name, message) = (String::new(), String::new());
        Diagnostic {
            name,
            message,
            marks,
            notes: Vec::new(),
            helps: Vec::new(),
            in_generated: false,
            level: Level::Error,
        }
    }

    fn add_child(&mut self, child: &Value, map: &SourceMap) {
        let message = child["message"].as_str().unwrap_or_default();
        if message.is_empty() || is_noise(message) {
            return;
        }
        if child["level"] == "help" {
            return self.helps.extend(suggestion::help(child, message, map));
        }
        let mut found = false;
        for span in spans(child) {
            let label = if span["is_primary"] == true { message } else { "" };
            let placed = marks(span, map, label);
            found |= !placed.is_empty();
            self.marks.extend(
                placed.into_iter().filter(|mark| !mark.label.is_empty()).map(|mark| Mark { primary: false, ..mark }),
            );
        }
        // "method defined here" in a crate says nothing without its place.
        let lacks_place = message.ends_with("here") && spans(child).next().is_some();
        if !found && !lacks_place {
            self.notes.push(message.to_string());
        }
    }

    /// Removes the names of code that was added to the cell.
    fn keep_to_users_text(&mut self, map: &SourceMap) {
        let cell = &map.cell(0).code;
        let clean = |text: &mut String| *text = without_generated_names(text, cell);
        clean(&mut self.message);
        self.notes.iter_mut().chain(&mut self.helps).for_each(clean);
        // A label on added text explains nothing, but the error has to be somewhere.
        self.marks.retain(|mark| mark.primary || !mark.place.added);
        for mark in &mut self.marks {
            if mark.place.added {
                mark.label = String::new();
            }
            clean(&mut mark.label);
            // ariadne doesn't draw a mark without a label. The title tells the message.
            if mark.label == self.message || (mark.primary && mark.label.is_empty()) {
                mark.label = "here".into();
            }
        }
        self.marks.retain(|mark| !mark.label.is_empty());
    }
}

fn is_noise(message: &str) -> bool {
    message.starts_with("`#[warn(")
        || message.starts_with("this error originates in the macro")
        || message.starts_with("this warning originates in the macro")
        || message.starts_with("the full name for the type has been written to")
        || message.starts_with("the full type name has been written to")
        || message.starts_with("consider using `--verbose`")
        || message.starts_with("if you wanted to use a crate named")
}

/// Replaces names of evcxr's code and of the kernel's own, unless the cell contains them, and removes the places of
/// closures: `{closure@src/lib.rs:1:2: 1:4}`.
fn without_generated_names(text: &str, cell: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (word, after) = rest.split_at(if end == 0 { first.len_utf8() } else { end });
        rest = after;
        let is_place = word == "@" && rest.split('}').next().is_some_and(|place| place.contains(".rs:"));
        let generated = ["evcxr_", "run_user_code_", "vitlab_cell"].iter().any(|start| word.starts_with(start));
        match word {
            "@" if is_place => rest = rest.find('}').map_or("", |end| &rest[end..]),
            "EvcxrUserCodeError" => cleaned += "Error",
            _ if generated && !mentions(cell, word) => cleaned += "the kernel's code",
            word => cleaned += word,
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_generated_code_are_replaced_unless_they_are_the_users() {
        for (text, cleaned) in [
            ("found `evcxr_variable_store`, é", "found `the kernel's code`, é"),
            ("in run_user_code_12(", "in the kernel's code("),
            ("Result<(), EvcxrUserCodeError>", "Result<(), Error>"),
            ("`evcxr_mine` isn't `evcxr`", "`evcxr_mine` isn't `evcxr`"),
            ("within `{closure@ctx/src/lib.rs:123:20: 123:27}`, a@b", "within `{closure}`, a@b"),
        ] {
            assert_eq!(without_generated_names(text, "let evcxr_mine = 1;"), cleaned);
        }
    }
}
