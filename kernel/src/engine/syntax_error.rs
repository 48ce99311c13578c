//! Finds syntax errors before evcxr splits a cell into statements, because evcxr drops text that it can't parse.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ra_ap_syntax::ast::{self, AstNode};
use serde_json::{Value, json};

use super::commands::without_commands;
use super::diagnostic::Diagnostic;
use super::{brackets, syntax};

/// Precedes the cell in the text for rustc, which parses what it then leaves out.
const PREFIX: &str = "#[cfg(any())]\nfn cell() {\n";

/// Returns the syntax errors of a cell. rustc decides: it knows newer syntax than the parser that raises the doubt.
pub fn syntax_errors(code: &str) -> Vec<Diagnostic> {
    if !syntax::is_doubtful(code) {
        return Vec::new();
    }
    let mut rust = without_commands(code);
    // evcxr accepts an import without a semicolon.
    for item in syntax::items(code) {
        if let ast::Item::Use(item) = item
            && item.semicolon_token().is_none()
        {
            let range = item.syntax().text_range();
            let range = syntax::offset_in_cell(range.start())..syntax::offset_in_cell(range.end());
            let blank =
                rust[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect::<String>();
            rust.replace_range(range, &blank);
        }
    }
    let answers = ask_rustc(&format!("{PREFIX}{rust}\n}}\n")).unwrap_or_default();
    let errors = answers.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // A feature that isn't stable has this code.
    let errors =
        errors.filter(|it| it["level"] == "error" && it["spans"] != json!([]) && it["code"]["code"] != "E0658");
    errors.map(|error| diagnostic(&error, code)).collect()
}

/// Returns rustc's messages about the syntax of a file.
fn ask_rustc(text: &str) -> std::io::Result<String> {
    let cargo = std::env::var_os("VITLAB_CARGO").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let mut rustc = Command::new(cargo.with_file_name("rustc"))
        .args(["--edition=2024", "--crate-type=lib", "--emit=dep-info=/dev/null", "--error-format=json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = rustc.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    Ok(String::from_utf8_lossy(&rustc.wait_with_output()?.stderr).into_owned())
}

fn diagnostic(error: &Value, code: &str) -> Diagnostic {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let mut message = text(&error["message"]);
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let (start, end) = (PREFIX.len(), PREFIX.len() + code.len());
    let mut marks: Vec<(Range<usize>, String)> = Vec::new();
    for span in error["spans"].as_array().into_iter().flatten() {
        let range = number(&span["byte_start"])..number(&span["byte_end"]);
        let label = text(&span["label"]);
        if (start..end).contains(&range.start) || range == (end..end) {
            let label = if label.is_empty() || label == message { "here".into() } else { label };
            // Text without an end reaches beyond the cell.
            marks.push((range.start - start..range.end.min(end) - start, label));
        } else if range.start >= end {
            message = message.replace("found `}`", "found the end of the cell");
        }
    }
    // A brace too many closes rustc's function, so that rustc complains of the function's own brace.
    if message.starts_with("unexpected closing delimiter") {
        marks.truncate(1);
        marks.iter_mut().for_each(|(_, label)| *label = "here".into());
    }
    // The brace that closes rustc's function is taken for the cell's.
    let mismatched = |(_, label): &(Range<usize>, String)| label.starts_with("mismatched");
    let is_closed = marks.iter().any(mismatched) && !message.contains("unclosed delimiter");
    if message.contains("delimiter")
        && !is_closed
        && let Some((bracket, at)) = brackets::unclosed(code).first()
    {
        message = format!("unclosed delimiter: `{bracket}`");
        marks = vec![(*at..at + 1, "here".into())];
    }
    if marks.is_empty() {
        let end = code.trim_end().len();
        let start = code[..end].char_indices().next_back().map_or(0, |(start, _)| start);
        marks.push((start..end, "here".into()));
    }
    let line = code[marks[0].0.start..].lines().next().unwrap_or_default();
    if line.starts_with(':') {
        let note = "A command of the kernel, such as `:dep`, comes before the cell's Rust code.".to_string();
        return Diagnostic::of_cell("SyntaxError", message, marks, vec![note]);
    }
    let notes = error["children"].as_array().into_iter().flatten().map(|child| text(&child["message"])).collect();
    Diagnostic::of_cell(error["code"]["code"].as_str().unwrap_or("SyntaxError"), message, marks, notes)
}
