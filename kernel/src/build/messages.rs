//! rustc's messages as evcxr is to read them.
//!
//! evcxr shows a note in the place of its error if the note is in a user's code and the error isn't. It takes the last
//! expression of a cell for code of its own, so that it would show "function defined here", perhaps in an earlier cell,
//! for a wrong argument there. So the spans of notes and helps get another name, under which the kernel finds them.
//!
//! evcxr drops errors in code of its own beside any message about a user's code. So warnings about unused code, which say
//! nothing about an error, are left out.

use serde_json::Value;

/// The spans of a note or a help.
pub const CHILD_SPANS: &str = "child_spans";

/// Renames the spans of notes and helps in the lines that rustc writes, and leaves out warnings about unused code beside
/// errors. Other lines stay as they are.
pub fn for_evcxr(lines: &str) -> String {
    let messages = || lines.split_inclusive('\n').map(|line| (line, serde_json::from_str::<Value>(line).ok()));
    let has_errors = messages().any(|(_, message)| message.is_some_and(|it| it["level"] == "error"));
    let kept = messages().filter(|(_, message)| !(has_errors && message.as_ref().is_some_and(is_about_unused)));
    kept.map(|(line, message)| message.and_then(renamed).unwrap_or_else(|| line.to_string())).collect()
}

fn is_about_unused(message: &Value) -> bool {
    let name = message["code"]["code"].as_str().unwrap_or_default();
    let is_unused = name.starts_with("unused") || ["dead_code", "unreachable_code", "path_statements"].contains(&name);
    is_unused && message["level"] == "warning"
}

/// Returns the line of a message with the spans renamed. `None` if it has no notes.
fn renamed(mut message: Value) -> Option<String> {
    let children = message.get_mut("children")?.as_array_mut().filter(|children| !children.is_empty())?;
    for child in children {
        let spans = child["spans"].take();
        child[CHILD_SPANS] = spans;
    }
    Some(format!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_of_notes_are_renamed_and_other_lines_stay() {
        let spans = json!([{ "file_name": "src/lib.rs", "line_start": 1 }]);
        let child = json!({ "level": "note", "message": "function defined here", "spans": spans });
        let error = json!({ "message": "mismatched types", "spans": spans, "children": [child] });
        let kept =
            "warning: é\n{\"$message_type\":\"artifact\",  \"artifact\":\"a\"}\n{\"children\":[], \"message\":\"a\"}";
        let read = for_evcxr(&format!("{error}\n{kept}"));
        let (first, rest) = read.split_once('\n').unwrap();
        assert_eq!(rest, kept);
        let first: Value = serde_json::from_str(first).unwrap();
        assert_eq!((&first["spans"], &first["children"][0][CHILD_SPANS]), (&spans, &spans));
        assert_eq!(first["children"][0]["spans"], Value::Null);
        assert_eq!(first["children"][0]["message"], "function defined here");
    }

    #[test]
    fn warnings_about_unused_code_are_left_out_beside_errors() {
        let line = |level, name| json!({ "level": level, "code": { "code": name } }).to_string();
        let unused = ["unused_variables", "dead_code"].map(|name| line("warning", name)).join("\n");
        let others = [line("warning", "deprecated"), line("error", "unused_must_use")].join("\n");
        assert_eq!(for_evcxr(&unused), unused);
        assert_eq!(for_evcxr(&format!("{unused}\n{others}")), others);
    }
}
