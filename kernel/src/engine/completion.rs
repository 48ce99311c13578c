//! Completions and documentation from rust-analyzer. Jupyter counts positions in characters, evcxr in bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use evcxr::CommandContext;
use serde_json::{Value, json};

/// Returns the content of a `complete_reply`.
pub fn complete(context: Option<&mut CommandContext>, code: &str, cursor: usize) -> Value {
    let found = context.and_then(|context| {
        catch_unwind(AssertUnwindSafe(|| context.completions(code, byte_of(code, cursor)))).ok()?.ok()
    });
    let Some(found) = found else {
        return json!({ "status": "ok", "matches": [], "cursor_start": cursor, "cursor_end": cursor, "metadata": {} });
    };
    let start = character_of(code, found.start_offset);
    let end = character_of(code, found.end_offset);
    let matches: Vec<&str> = found.completions.iter().map(|it| it.code.as_str()).collect();
    let types = found
        .completions
        .iter()
        .map(|it| json!({ "text": it.code, "type": it.kind, "signature": it.label, "start": start, "end": end }));
    json!({
        "status": "ok",
        "matches": matches,
        "cursor_start": start,
        "cursor_end": end,
        "metadata": { "_jupyter_types_experimental": types.collect::<Vec<_>>() },
    })
}

/// Returns the content of an `inspect_reply`.
pub fn inspect(context: Option<&mut CommandContext>, code: &str, cursor: usize) -> Value {
    let cursor = byte_of(code, cursor);
    let rest = code[cursor..].chars();
    // evcxr describes the name that ends at the position.
    let end = cursor + rest.take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum::<usize>();
    let found = context.and_then(|context| catch_unwind(AssertUnwindSafe(|| context.hover_at(code, end))).ok()?.ok());
    let found = found.filter(|(text, _)| text != "No documentation found");
    let data = found.as_ref().map_or(json!({}), |(text, html)| json!({ "text/plain": text, "text/html": html }));
    json!({ "status": "ok", "found": found.is_some(), "data": data, "metadata": {} })
}

fn byte_of(code: &str, character: usize) -> usize {
    code.char_indices().nth(character).map_or(code.len(), |(byte, _)| byte)
}

fn character_of(code: &str, byte: usize) -> usize {
    code.char_indices().take_while(|(start, _)| *start < byte).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_bytes() {
        let code = "let ä = \"🦀\"; x";
        assert_eq!(byte_of(code, 5), 6);
        assert_eq!(character_of(code, 6), 5);
        for character in 0..=code.chars().count() {
            assert_eq!(character_of(code, byte_of(code, character)), character);
        }
        assert_eq!(byte_of(code, 99), code.len());
    }
}
