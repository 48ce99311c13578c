//! Reports of errors: the lines of the cell with marks below them.

use std::ops::Range;

use ariadne::{Color, ColorGenerator, Config, IndexType, Label, Report, ReportKind, sources};
use evcxr::CompilationError;

use super::rewrite::Rewritten;

/// An error at places of a cell.
pub struct CellError {
    pub message: String,
    pub code: Option<String>,
    /// Bytes of the cell, and the text beside their mark.
    pub marks: Vec<(Range<usize>, String)>,
    pub notes: Vec<String>,
}

impl CellError {
    /// Reads rustc's error. evcxr counts its places in the text that it was given.
    pub fn new(error: &CompilationError, rewritten: &Rewritten) -> Self {
        let messages = error.spanned_messages().iter().chain(error.help_spanned());
        let (mut marks, mut notes) = (Vec::new(), Vec::new());
        for message in messages.filter(|message| !message.label.is_empty()) {
            let Some(span) = &message.span else {
                notes.push(message.label.clone());
                continue;
            };
            let start = byte(&rewritten.text, span.start_line, span.start_column);
            let end = byte(&rewritten.text, span.end_line, span.end_column);
            let range = rewritten.offset_in_cell(start)..rewritten.offset_in_cell(end);
            // Text that an edit added has no place in the cell.
            if start == end || !range.is_empty() {
                marks.push((range, message.label.clone()));
            }
        }
        if let Some("E0384" | "E0596") = error.code() {
            notes = vec!["You can change an existing variable to mutable like: `let mut x = x;`".into()];
        }
        CellError { message: error.message(), code: error.code().map(String::from), marks, notes }
    }

    /// Returns the report's lines. `count` is the number of the cell.
    pub fn lines(&self, cell: &str, count: usize) -> Vec<String> {
        let name = format!("cell_{count}");
        let start = self.marks.first().map_or(0, |(range, _)| range.start);
        let mut colors = ColorGenerator::new();
        let mut report = Report::build(ReportKind::Error, (name.clone(), start..start))
            .with_config(Config::new().with_index_type(IndexType::Byte))
            .with_message(&self.message);
        report.with_notes(&self.notes);
        if let Some(code) = &self.code {
            report = report.with_code(code);
        }
        for (range, text) in &self.marks {
            // The colours for a light background.
            let color = if let Color::Fixed(number) = colors.next() { Color::Fixed(255 - number) } else { Color::Red };
            let label = Label::new((name.clone(), range.clone())).with_message(text);
            report = report.with_label(label.with_color(color).with_order(10));
        }
        let mut written = Vec::new();
        let _ = report.finish().write(sources([(name, cell)]), &mut written);
        String::from_utf8_lossy(&written).lines().map(String::from).collect()
    }
}

/// Returns the byte at a line and a column. Both are counted from 1, columns in characters.
fn byte(text: &str, line: usize, column: usize) -> usize {
    let Some(line) = text.lines().nth(line - 1) else { return text.len() };
    let start = line.as_ptr() as usize - text.as_ptr() as usize;
    start + line.char_indices().nth(column - 1).map_or(line.len(), |(byte, _)| byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stand_below_their_place() {
        assert_eq!(byte("ä\nböse", 2, 3), 6);
        assert_eq!(byte("a", 1, 9), 1);
        let marks = vec![(9..16, "expected `i32`".to_string())];
        let error = CellError { message: "mismatched types".into(), code: Some("E0308".into()), marks, notes: vec![] };
        let lines = error.lines("let ä = \"§🦀\";", 3).join("\n");
        let plain: String = lines.split('\u{1b}').map(|it| it.split_once('m').map_or(it, |(_, rest)| rest)).collect();
        assert!(plain.starts_with("[E0308] Error: mismatched types") && plain.contains("cell_3:1:9"), "{plain}");
        assert!(plain.contains("let ä = \"§🦀\";") && plain.contains("expected `i32`"), "{plain}");
    }
}
