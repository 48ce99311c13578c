//! The marks that an error sets in the cells as the user wrote them.

use evcxr::CompilationError;
use serde_json::Value;

use super::source_map::{Place, SourceMap};
use crate::build::messages::CHILD_SPANS;

/// The source of a cell has one of these names, in evcxr's own package or in the workspace of the warm build.
pub const SOURCES: [&str; 2] = ["src/lib.rs", "ctx/src/lib.rs"];
/// A marked place.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub place: Place,
    /// May be empty.
    pub label: String,
    pub primary: bool,
}

/// Returns the spans of an error, a note or a help.
pub fn spans(json: &Value) -> impl Iterator<Item = &Value> {
    ["spans", CHILD_SPANS].into_iter().filter_map(|name| json[name].as_array()).flatten()
}

/// Returns the marks for a span: one where it is, and one at the call of the macro that contains it.
pub fn marks(span: &Value, map: &SourceMap, label: &str) -> Vec<Mark> {
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

pub fn is_cells_source(span: &Value) -> bool {
    span["file_name"].as_str().is_some_and(|name| SOURCES.contains(&name))
}

/// Returns the place of a span, without the macros around it.
pub fn place(span: &Value, map: &SourceMap) -> Option<Place> {
    if !is_cells_source(span) {
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
pub fn evcxr_marks(error: &CompilationError, map: &SourceMap) -> Vec<Mark> {
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

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::engine::rewrite::{Edit, Rewritten};
    use crate::engine::source_map::CellText;

    pub const BODY: &str = "\npub extern \"C\" fn run_user_code_3(\n";

    pub fn cell(code: &str, edits: Vec<Edit>) -> CellText {
        CellText { count: 3, code: code.into(), rewritten: Rewritten::new(code, edits) }
    }

    /// Returns a span of rustc for the first occurrence of a text.
    pub fn span(source: &str, marked: &str, label: &str) -> Value {
        let at = source.find(marked).unwrap();
        let (line, column) =
            (source[..at].matches('\n').count() + 1, source[..at].chars().rev().take_while(|c| *c != '\n').count() + 1);
        serde_json::json!({
            "file_name": "src/lib.rs", "line_start": line, "line_end": line, "column_start": column,
            "column_end": column + marked.chars().count(), "is_primary": true, "label": label,
            "text": [{ "text": source.lines().nth(line - 1) }],
        })
    }

    #[test]
    fn a_mark_is_at_the_users_text_behind_characters_and_edits_and_nowhere_in_an_old_source() {
        let code = "let é = \"👩‍🔬\"; let b: i32 = é;";
        let cell = cell(code, vec![Edit::insert(6, ": &str"), Edit::insert(0, "check();")]);
        // evcxr puts each statement on a line of its own.
        let source = format!("{BODY}{}\n}}\n", cell.rewritten.text.replace("let", "\nlet"));
        let map = SourceMap::new(&source, &cell, &[]);
        let found = marks(&span(&source, "é;", "wrong"), &map, "");
        assert_eq!(&code[found[0].place.range.clone()], "é;");
        assert_eq!((found[0].label.as_str(), found[0].primary, found[0].place.added), ("wrong", true, false));
        let added = marks(&span(&source, "&str", "wrong"), &map, "");
        assert_eq!((added[0].place.range.clone(), added[0].place.added), (6..6, true));
        let old = source.replace("let b:", "let  b:");
        assert_eq!(marks(&span(&old, "é;", "wrong"), &map, ""), []);
    }

    #[test]
    fn a_macros_mark_is_at_its_call() {
        let cell = cell("let a = 1;\nadd!(a)", Vec::new());
        let source = format!("macro of another cell: $a + x\n{BODY}let a = 1;\nadd!(a)\n}}\n");
        let map = SourceMap::new(&source, &cell, &[]);
        let mut inner = span(&source, "+ x", "no such sum");
        inner["expansion"] = serde_json::json!({ "span": span(&source, "add!(a)", "") });
        let found = marks(&inner, &map, "");
        assert_eq!(found.len(), 1);
        assert_eq!((&cell.code[found[0].place.range.clone()], found[0].label.as_str()), ("add!(a)", "no such sum"));
        inner["file_name"] = "/rustc/1/library/std/src/macros.rs".into();
        assert_eq!(marks(&inner, &map, ""), found);
    }
}
