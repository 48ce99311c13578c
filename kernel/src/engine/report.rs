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
    let span = |mark: &super::marks::Mark| {
        let code = &map.cell(mark.place.back).code;
        // For ariadne, no line follows the last line break.
        let last = code.trim_end_matches(['\r', '\n']).len();
        let range = if mark.place.range.start == code.len() { last..last } else { mark.place.range.clone() };
        let start = code[..range.start].chars().count();
        let mut end = start + code[range.clone()].chars().count();
        // ariadne underlines no empty range.
        if start == end && code[range.end..].chars().next().is_some_and(|next| !next.is_control()) {
            end += 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::marks::Mark;
    use crate::engine::rewrite::Rewritten;
    use crate::engine::source_map::{CellText, Place};

    fn plain(lines: &[String]) -> Vec<String> {
        let plain = |line: &String| {
            line.split('\u{1b}')
                .enumerate()
                .map(|(n, part)| if n == 0 { part } else { &part[part.find('m').unwrap() + 1..] })
                .collect()
        };
        lines.iter().map(plain).collect()
    }

    fn drawn<const N: usize>(code: &str, ranges: [(usize, usize); N]) -> Vec<String> {
        let cell = CellText { count: 7, code: code.into(), rewritten: Rewritten::new(code, Vec::new()) };
        let map = SourceMap::new("", &cell, &[]);
        let marks = ranges.into_iter().map(|(start, end)| Mark {
            place: Place { back: 0, range: start..end, added: false },
            label: format!("label of {start}..{end}"),
            primary: true,
        });
        plain(&lines(&Diagnostic::for_test(marks.collect()), &map))
    }

    #[test]
    fn every_range_of_any_text_is_drawn_at_its_line_and_column() {
        for code in [
            "let a = 1;",
            "\tlet é = \"\t\";\n\tx",
            "a\r\n\r\nb = é;\r\n",
            "let 数 = \"👩‍🔬e\u{301}🇩🇪\";\n\n数",
            "\n\na",
            "a\u{2028}b\u{85}c\u{b}d\re\n\u{200b}f",
            "",
            "é",
        ] {
            let offsets: Vec<usize> = code.char_indices().map(|(at, _)| at).chain([code.len()]).collect();
            for (index, start) in offsets.iter().enumerate() {
                for end in &offsets[index..] {
                    let drawn = drawn(code, [(*start, *end)]);
                    let before =
                        if *start == code.len() { code.trim_end_matches(['\r', '\n']) } else { &code[..*start] };
                    let line = before.matches('\n').count() + 1;
                    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                    assert!(
                        drawn[0].contains(&format!("[ cell_7:{line}:{column} ]")),
                        "{code:?} {start}..{end}: {drawn:#?}"
                    );
                    assert!(
                        drawn.iter().any(|it| it.contains(&format!("label of {start}..{end}"))),
                        "{code:?}: {drawn:#?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_mark_stands_below_its_text() {
        let code = "let é = \"ü\"; wrong(\"x\");";
        let at = code.find("wrong").unwrap();
        let drawn = drawn(code, [(at, at + 5)]);
        let column = |line: &str, part: &str| line[..line.find(part).unwrap()].chars().count();
        let text = drawn.iter().position(|line| line.contains("wrong(")).unwrap();
        assert_eq!(column(&drawn[text], "wrong"), column(&drawn[text + 1], "──┬──"), "{drawn:#?}");
    }

    #[test]
    fn marks_of_several_lines_show_the_cell_once() {
        let drawn = drawn("let x = 5\nlet y = 6;", [(10, 13), (9, 9)]);
        assert_eq!(drawn.iter().filter(|line| line.contains("cell_7")).count(), 1, "{drawn:#?}");
    }
}
