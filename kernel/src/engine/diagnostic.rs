//! Describes the errors of rustc on the cells as the user wrote them.

use std::ops::Range;

use evcxr::CompilationError;
use serde_json::Value;
use yansi::Paint;

use super::earlier::{Earlier, mentions};
use super::report;
use super::source_map::{Place, SourceMap};
use super::syntax::{closure_variable, defined_names};

/// The source of a cell has one of these names, in evcxr's own package or in the workspace of the warm build.
pub const SOURCES: [&str; 2] = ["src/lib.rs", "ctx/src/lib.rs"];
/// Errors after these aren't shown.
const MAX_ERRORS: usize = 10;
/// More lines of a suggestion than these aren't shown.
const MAX_LINES: usize = 6;

/// An error or a warning of rustc, placed on cells.
pub struct Diagnostic {
    pub name: String,
    pub message: String,
    pub marks: Vec<Mark>,
    pub notes: Vec<String>,
    pub helps: Vec<String>,
    level: Level,
}

/// A marked place.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub place: Place,
    /// May be empty.
    pub label: String,
    pub primary: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Error,
    Warning,
    /// A note or a help that evcxr shows in the place of an error in its own code.
    Other,
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
    let has_errors = all.iter().any(|it| it.level == Level::Error);
    all.retain(|it| !has_errors || it.level == Level::Error || (it.level == Level::Warning && !it.is_about_unused()));
    all.sort_by_key(|it| {
        (it.level != Level::Error, it.marks.iter().map(|mark| mark.place.back.min(1)).min().unwrap_or(2))
    });
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
    fn new(error: &CompilationError, map: &SourceMap, earlier: &Earlier) -> Self {
        let json = &error.json;
        let level = match error.level() {
            level if level.starts_with("error") => Level::Error,
            "warning" => Level::Warning,
            _ => Level::Other,
        };
        let code = error.code().unwrap_or(if level == Level::Warning { "Warning" } else { "Error" });
        let mut it = Diagnostic {
            name: code.to_string(),
            message: error.message(),
            marks: spans(json).flat_map(|span| marks(span, map, "")).collect(),
            notes: Vec::new(),
            helps: Vec::new(),
            level,
        };
        if it.marks.is_empty() {
            it.marks = evcxr_marks(error, map);
        }
        for child in json["children"].as_array().into_iter().flatten() {
            it.add_child(child, map);
        }
        it.add_remedies(map, earlier);
        it.keep_to_users_text(map);
        it
    }

    fn is_about_unused(&self) -> bool {
        self.name.starts_with("unused") || ["dead_code", "unreachable_code", "path_statements"].contains(&&*self.name)
    }

    fn add_child(&mut self, child: &Value, map: &SourceMap) {
        let message = child["message"].as_str().unwrap_or_default();
        if message.is_empty() || is_noise(message) {
            return;
        }
        if child["level"] == "help" {
            return self.helps.extend(help(child, message, map));
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
        if !found && !(message.ends_with("here") && spans(child).next().is_some()) {
            self.notes.push(message.to_string());
        }
    }

    /// Adds what the kernel knows and rustc doesn't.
    fn add_remedies(&mut self, map: &SourceMap, earlier: &Earlier) {
        if let Some(name) = self.message.strip_prefix("The variable `").and_then(|rest| rest.split_once('`'))
            && self.message.contains("non-static lifetime")
        {
            let name = name.0.to_string();
            self.message =
                format!("the variable `{name}` borrows from a value, and a reference can't be kept for later cells");
            self.helps.push(references(&format!("`{name}`")));
            for mark in &mut self.marks {
                mark.label = "borrows from a value".into();
            }
            return;
        }
        let in_cell = self.marks.iter().any(|mark| mark.place.back == 0);
        match self.name.as_str() {
            "E0425" | "E0433" | "E0412" | "Error" if self.message.contains("cannot find") => {
                let name = self.message.split('`').nth(1).unwrap_or_default();
                self.helps.extend(earlier.why_missing(name));
            }
            "E0599" if self.message.contains("`map_err`") && !mentions(&map.cell(0).code, "map_err") => {
                let found = self.message.split('`').nth(3).unwrap_or("another type").to_string();
                self.message = format!("the `?` operator of a cell needs a `Result`, found `{found}`");
                self.marks.retain(|mark| mark.primary);
                self.notes.drain(..);
                self.helps.drain(..);
                if found.starts_with("Option<") {
                    self.helps.push("make it a `Result`: `.ok_or(\"there is no value\")?`".into());
                }
            }
            "E0384" | "E0596" if self.helps.is_empty() => {
                let name = self.message.split('`').nth(1).unwrap_or("x").trim_start_matches('*');
                self.helps.push(format!("make the variable of the earlier cell mutable: `let mut {name} = {name};`"));
            }
            "E0521" if self.marks.is_empty() => self.explain_unknown_type(map),
            "E0521" | "E0597" | "E0716" | "E0505" | "E0515" | "E0310" if !in_cell => {
                self.message += ": a variable that is kept for later cells can't borrow from another value";
                self.helps.push(references("the variable"));
            }
            _ => {}
        }
        if let Some(mark) = self.marks.iter().find(|mark| mark.place.back > 0).filter(|_| !in_cell) {
            let count = map.cell(mark.place.back).count;
            self.notes.push(format!(
                "code of cell [{count}] no longer compiles, because this cell changes a definition that it uses. Define both in this cell"
            ));
        }
    }

    /// evcxr reports this error in its own code, if an earlier variable is a `&str`, in the place of a missing type.
    fn explain_unknown_type(&mut self, map: &SourceMap) {
        let code = &map.cell(0).code;
        self.name = "Error".into();
        if let Some((name, place)) = closure_variable(code) {
            self.message = format!("the variable `{name}` is a closure, and a closure can't be kept for later cells");
            self.marks = vec![Mark {
                place: Place { back: 0, range: place, added: false },
                label: String::new(),
                primary: true,
            }];
            self.helps.push(format!(
                "write a function, or box the closure: `let {name}: Box<dyn Fn(i32) -> i32> = Box::new(|x| x + 1);`"
            ));
            return;
        }
        let names: Vec<String> = defined_names(code).0.iter().map(|name| format!("`{name}`")).collect();
        self.message = format!("the type of a variable of this cell can't be found ({})", names.join(", "));
        self.helps.push("write the types of the variables: `let values: Vec<f32> = …;`".into());
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
            // ariadne doesn't draw a mark without a label.
            if mark.primary && mark.label.is_empty() {
                mark.label = "here".into();
            }
        }
        self.marks.retain(|mark| !mark.label.is_empty());
    }
}

fn references(subject: &str) -> String {
    format!(
        "let {subject} own its value: add `.to_string()`, `.to_vec()` or `.clone()`\n\
         or use both values within one block `{{ … }}` or function\n\
         or keep the other value until the kernel ends: `Box::leak(Box::new(value))`, `String::leak(text)`"
    )
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

fn spans(json: &Value) -> impl Iterator<Item = &Value> {
    json["spans"].as_array().into_iter().flatten()
}

/// Returns the marks for a span: one where it is, and one at the call of the macro that contains it.
fn marks(span: &Value, map: &SourceMap, label: &str) -> Vec<Mark> {
    let label = span["label"].as_str().filter(|it| !it.is_empty()).unwrap_or(label).to_string();
    let primary = span["is_primary"] == true;
    let (mut found, mut macro_name): (Vec<Place>, _) = (Vec::new(), None);
    let mut next = Some(span);
    while let Some(span) = next.filter(|span| span.is_object()) {
        let place = place(span, map).filter(|place| !found.contains(place));
        if !found.is_empty() && place.is_some() && macro_name.is_none() {
            macro_name = span["macro"].as_str();
        }
        found.extend(place);
        next = span.get("expansion").and_then(|it| it.get("span"));
    }
    // The call in the cell counts before the macro's definition in an earlier one.
    let outer = found.last().cloned();
    let Some(inner) = found.into_iter().min_by_key(|place| place.back) else { return Vec::new() };
    let call = outer.filter(|outer| primary && *outer != inner && outer.back == 0);
    let call = call.map(|place| Mark { place, label: "in this call of the macro".into(), primary: false });
    [Mark { place: inner, label, primary }].into_iter().chain(call).collect()
}

/// Returns the place of a span, without the macros around it.
fn place(span: &Value, map: &SourceMap) -> Option<Place> {
    if !SOURCES.contains(&span["file_name"].as_str()?) {
        return None;
    }
    let number = |name: &str| span[name].as_u64().and_then(|number| usize::try_from(number).ok());
    // evcxr compiles a cell several times. Another version's span would lead to another text.
    let text = span["text"][0]["text"].as_str().map(|text| text.trim_end_matches('\r'));
    if text.is_some_and(|text| map.line(number("line_start").unwrap_or(0)) != Some(text)) {
        return None;
    }
    let start = map.offset(number("line_start")?, number("column_start")?)?;
    let end = map.offset(number("line_end")?, number("column_end")?)?;
    map.place(start..end)
}

/// Returns the marks of an error that evcxr made itself, or whose source isn't there any more.
fn evcxr_marks(error: &CompilationError, map: &SourceMap) -> Vec<Mark> {
    let cell = map.cell(0);
    let text = &cell.rewritten.text;
    let offset = |line: usize, column: usize| {
        let line = text.split('\n').nth(line.checked_sub(1)?)?;
        let start = line.as_ptr() as usize - text.as_ptr() as usize;
        Some(start + line.char_indices().nth(column.checked_sub(1)?).map_or(line.len(), |(at, _)| at))
    };
    let marks = error.spanned_messages().iter().filter_map(|message| {
        let span = message.span?;
        let range = offset(span.start_line, span.start_column)?..offset(span.end_line, span.end_column)?;
        let in_cell = cell.rewritten.range_in_cell(range.clone());
        let place = Place { back: 0, added: in_cell.is_empty() && !range.is_empty(), range: in_cell };
        Some(Mark { place, label: message.label.clone(), primary: message.is_primary })
    });
    marks.collect()
}

/// Returns the text of a help, with the lines of the cell after its replacements. `None` if it says nothing to a user.
fn help(child: &Value, message: &str, map: &SourceMap) -> Option<String> {
    let edits: Vec<(Option<Place>, &str)> = spans(child)
        .filter_map(|span| Some((place(span, map).filter(|it| !it.added), span["suggested_replacement"].as_str()?)))
        .collect();
    let Some((first, _)) = edits.first() else {
        // Their list consists of places in crates.
        let lacks_list = message.starts_with("the following other types") && !message.contains('\n');
        return (!lacks_list).then(|| message.to_string());
    };
    let mut lines = match first {
        Some(first) => {
            let back = first.back;
            let placed = edits
                .iter()
                .filter_map(|(place, text)| Some((place.as_ref().filter(|it| it.back == back)?.range.clone(), *text)));
            let mut placed: Vec<(Range<usize>, &str)> = placed.collect();
            placed.sort_by_key(|(range, _)| range.start);
            suggested_lines(&map.cell(back).code, &placed)
        }
        // A new `use` stands in the generated source. Other replacements there change code that isn't the user's.
        None => {
            let uses = edits.iter().map(|(_, text)| text.trim()).filter(|text| text.starts_with("use "));
            uses.map(|text| text.green().to_string()).collect()
        }
    };
    if lines.is_empty() {
        return None;
    }
    lines.truncate(MAX_LINES);
    let lines: Vec<String> = lines.into_iter().map(|line| format!("  {line}")).collect();
    Some(format!("{}:\n{}", message.trim_end_matches(':'), lines.join("\n")))
}

fn suggested_lines(code: &str, edits: &[(Range<usize>, &str)]) -> Vec<String> {
    // Replacements of the same text are alternatives.
    let overlap = |two: &[(Range<usize>, &str)]| two[1].0.start < two[0].0.end.max(two[0].0.start + 1);
    if edits.windows(2).any(overlap) {
        return edits.iter().flat_map(|edit| replaced(code, std::slice::from_ref(edit))).collect();
    }
    replaced(code, edits)
}

/// Returns the lines of a cell that replacements touch, after them.
fn replaced(cell: &str, edits: &[(Range<usize>, &str)]) -> Vec<String> {
    let (Some(first), Some(last)) = (edits.first(), edits.last()) else { return Vec::new() };
    let start = cell[..first.0.start].rfind('\n').map_or(0, |at| at + 1);
    let end = cell[last.0.end..].find('\n').map_or(cell.len(), |at| last.0.end + at);
    let (mut text, mut copied) = (String::new(), start);
    for (range, replacement) in edits {
        text += &cell[copied..range.start];
        // The colour ends with each line.
        let coloured: Vec<String> = replacement
            .split('\n')
            .map(|it| if it.is_empty() { String::new() } else { it.green().to_string() })
            .collect();
        text += &coloured.join("\n");
        copied = range.end;
    }
    text += &cell[copied..end];
    let lines = text.lines().map(|line| line.trim_end().to_string());
    lines.filter(|line| !line.is_empty()).collect()
}

/// Replaces names of evcxr's code and of the kernel's own, unless the cell contains them.
fn without_generated_names(text: &str, cell: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let end = if end == 0 { rest.chars().next().map_or(1, char::len_utf8) } else { end };
        let (word, after) = rest.split_at(end);
        rest = after;
        let generated =
            word.starts_with("evcxr_") || word.starts_with("run_user_code_") || word.starts_with("vitlab_cell");
        match word {
            "EvcxrUserCodeError" => cleaned += "Error",
            _ if generated && !mentions(cell, word) => cleaned += "the kernel's code",
            word => cleaned += word,
        }
    }
    cleaned
}
