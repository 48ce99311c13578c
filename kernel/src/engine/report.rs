//! Draws errors on the text of cells, with ariadne.

use ariadne::{Color, ColorGenerator, Config, IndexType, Label, Report, ReportKind, sources};

use super::diagnostic::Diagnostic;
use super::source_map::SourceMap;

/// Returns the lines below the title of an error.
pub fn lines(diagnostic: &Diagnostic, map: &SourceMap) -> Vec<String> {
    let mut marks: Vec<_> = diagnostic.marks.iter().collect();
    // ariadne draws a cell again for a mark that precedes the one before.
    marks.sort_by_key(|mark| (mark.place.back, mark.place.range.end, mark.place.range.start));
    let Some(first) = marks.iter().find(|mark| mark.primary).or(marks.first()) else {
        let helps = diagnostic.helps.iter().map(|text| ("Help", text));
        let all = helps.chain(diagnostic.notes.iter().map(|text| ("Note", text)));
        return all.flat_map(|(name, text)| indented(name, text)).collect();
    };
    let span = |mark: &super::diagnostic::Mark| {
        let code = &map.cell(mark.place.back).code;
        let start = code[..mark.place.range.start].chars().count();
        let end = start + code[mark.place.range.clone()].chars().count();
        (name(map, mark.place.back), start..end)
    };
    let mut colors = ColorGenerator::new();
    let mut report =
        Report::build(ReportKind::Error, span(first)).with_config(Config::default().with_index_type(IndexType::Char));
    for mark in &marks {
        // The generator's colours are for a dark theme.
        let color = match colors.next() {
            Color::Fixed(number) => Color::Fixed(255 - number),
            color => color,
        };
        let label = Label::new(span(mark)).with_color(color).with_order(10);
        report.add_label(if mark.label.is_empty() { label } else { label.with_message(&mark.label) });
    }
    diagnostic.helps.iter().for_each(|help| report.add_help(help));
    diagnostic.notes.iter().for_each(|note| report.add_note(note));
    let backs: std::collections::BTreeSet<usize> = marks.iter().map(|mark| mark.place.back).collect();
    let cells: Vec<_> = backs.iter().map(|back| (name(map, *back), drawable(&map.cell(*back).code))).collect();
    let mut written = Vec::new();
    let _ = report.finish().write(sources(cells), &mut written);
    // The first line is the title, which Jupyter shows already.
    String::from_utf8_lossy(&written).lines().skip(1).map(String::from).collect()
}

fn name(map: &SourceMap, back: usize) -> String {
    format!("cell_{}", map.cell(back).count)
}

fn indented(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| if index == 0 { format!("  {name}: {line}") } else { format!("        {line}") })
        .collect()
}

/// Replaces characters at which ariadne would begin a line although Rust and Jupyter don't, and other control
/// characters. The number of characters stays.
fn drawable(code: &str) -> String {
    let mut characters = code.chars().peekable();
    let mut drawn = String::with_capacity(code.len());
    while let Some(character) = characters.next() {
        let is_line_end = character == '\r' && characters.peek() == Some(&'\n');
        let is_separator = matches!(character, '\u{2028}' | '\u{2029}');
        let is_control = character.is_control() && !matches!(character, '\n' | '\t');
        drawn.push(if !is_line_end && (is_separator || is_control) { ' ' } else { character });
    }
    drawn
}
