//! Answers `is_complete_request`: decides whether a cell is complete.

use ra_ap_syntax::{SyntaxError, SyntaxKind};
use serde_json::{Value, json};

use crate::engine::syntax::{PREFIX, parse};

/// Returns the content of an `is_complete_reply`: a cell can run, needs more lines, or is invalid with any further
/// lines.
pub fn is_complete(code: &str) -> Value {
    let parsed = parse(code);
    let tokens = parsed.syntax_node().descendants_with_tokens();
    let mut depth = 0;
    for kind in tokens.filter_map(|element| element.into_token().map(|token| token.kind())) {
        match kind {
            SyntaxKind::L_CURLY | SyntaxKind::L_PAREN | SyntaxKind::L_BRACK => depth += 1,
            SyntaxKind::R_CURLY | SyntaxKind::R_PAREN | SyntaxKind::R_BRACK => depth -= 1,
            _ => {}
        }
    }
    // An open string or comment contains the brace that would end the body, so it is covered, too.
    if depth > 0 {
        let last = code.lines().next_back().unwrap_or_default();
        let mut indent: String = last.chars().take_while(|c| c.is_whitespace()).collect();
        if last.trim_end().ends_with(['{', '(', '[']) {
            indent += "    ";
        }
        return json!({ "status": "incomplete", "indent": indent });
    }
    let end = PREFIX.len() + code.trim_end().len();
    let is_at_end = |error: &SyntaxError| usize::from(error.range().start()) >= end;
    match &parsed.errors()[..] {
        [] => json!({ "status": "complete" }),
        errors if depth == 0 && errors.iter().all(is_at_end) => json!({ "status": "incomplete", "indent": "" }),
        _ => json!({ "status": "invalid" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_braces_strings_and_comments_are_incomplete() {
        let status = |code: &str| is_complete(code)["status"].as_str().unwrap().to_string();
        for code in [
            "1 + 1",
            "let x = 1;",
            "fn f() {}\nf();",
            ":dep vitlab = { path = \"../crate\" }\nuse vitlab::Error;",
            "for i in 0..3 {\n    println!(\"{i} {{\");\n}",
            "",
            "// a comment",
            "let c = '{';",
        ] {
            assert_eq!(status(code), "complete", "{code}");
        }
        for code in ["fn f() {", "let v = vec![1,", "println!(\"a", "/* a", "let x =", "for i in 0..3 {\n    f(i);"] {
            assert_eq!(status(code), "incomplete", "{code}");
        }
        for code in ["let x = );", "}", "let = 3;", "fn f() }"] {
            assert_eq!(status(code), "invalid", "{code}");
        }
        assert_eq!(is_complete("    if x {")["indent"], "        ");
    }
}
