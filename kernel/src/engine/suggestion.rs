//! Shows the suggestions of rustc as lines of the cell.

use std::ops::Range;

use serde_json::Value;
use yansi::Paint;

use super::marks::{place, spans};
use super::source_map::{Place, SourceMap};

/// More lines than these aren't shown.
const MAX_LINES: usize = 6;

/// Returns the text of a help, with the lines of the cell after its replacements. `None` if it says nothing to a user.
pub fn help(child: &Value, message: &str, map: &SourceMap) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::marks::tests::{BODY, cell, span};

    #[test]
    fn a_help_shows_the_cells_lines_after_it() {
        let cell = cell("let v = 1;\ng(v, é);", Vec::new());
        let source = format!("{BODY}let v = 1;\ng(v, é);\n}}\n");
        let map = SourceMap::new(&source, &cell, &[]);
        let edit = |marked, text: &str| {
            let mut span = span(&source, marked, "");
            span["suggested_replacement"] = text.into();
            span
        };
        let told = |spans: Vec<Value>| {
            let told = help(&serde_json::json!({ "spans": spans }), "try", &map);
            told.map(|text| text.replace("\u{1b}[32m", "").replace("\u{1b}[0m", ""))
        };
        assert_eq!(told(vec![]).as_deref(), Some("try"));
        assert_eq!(told(vec![edit("v, ", "&v, "), edit("é", "&é")]).as_deref(), Some("try:\n  g(&v, &é);"));
        assert_eq!(told(vec![edit("é", "a"), edit("é", "b")]).as_deref(), Some("try:\n  g(v, a);\n  g(v, b);"));
        assert_eq!(told(vec![edit("pub", "use a::B;\n\n")]).as_deref(), Some("try:\n  use a::B;"));
        assert_eq!(told(vec![edit("pub", "mut ")]), None);
    }
}
