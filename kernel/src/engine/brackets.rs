//! The brackets that a cell leaves open: whether it needs more lines, and what completes it.

use ra_ap_syntax::{SyntaxError, SyntaxKind};
use serde_json::{Value, json};

use super::syntax::{PREFIX, offset_in_cell, parse};

/// Returns the brackets that close those that a cell leaves open.
pub fn closing(code: &str) -> String {
    let closing = |open: &(char, usize)| match open.0 {
        '{' => '}',
        '(' => ')',
        _ => ']',
    };
    unclosed(code).iter().rev().map(closing).collect()
}

/// Returns the brackets that a cell leaves open, and their offsets.
pub fn unclosed(code: &str) -> Vec<(char, usize)> {
    let end = PREFIX.len() + code.len();
    let tree = parse(code).syntax_node();
    let tokens = tree.descendants_with_tokens().filter_map(|element| element.into_token());
    let mut open = Vec::new();
    for token in tokens.filter(|it| (PREFIX.len()..end).contains(&usize::from(it.text_range().start()))) {
        let at = offset_in_cell(token.text_range().start());
        match token.kind() {
            SyntaxKind::L_CURLY => open.push(('{', at)),
            SyntaxKind::L_PAREN => open.push(('(', at)),
            SyntaxKind::L_BRACK => open.push(('[', at)),
            SyntaxKind::R_CURLY | SyntaxKind::R_PAREN | SyntaxKind::R_BRACK => _ = open.pop(),
            _ => {}
        }
    }
    open
}

/// Returns the content of an `is_complete_reply`: a cell can run, needs more lines, or is invalid with any further
/// lines.
pub fn is_complete(code: &str) -> Value {
    let parsed = parse(code);
    let tokens = parsed.syntax_node().descendants_with_tokens().filter_map(|element| element.into_token());
    let depths = tokens.map(|token| match token.kind() {
        SyntaxKind::L_CURLY | SyntaxKind::L_PAREN | SyntaxKind::L_BRACK => 1,
        SyntaxKind::R_CURLY | SyntaxKind::R_PAREN | SyntaxKind::R_BRACK => -1,
        _ => 0,
    });
    let depth: i32 = depths.sum();
    // An open string or comment contains the brace that would end the body, so it is covered, too.
    if depth > 0 {
        let last = code.lines().next_back().unwrap_or_default();
        let indent: String = last.chars().take_while(|c| c.is_whitespace()).collect();
        let more = if last.trim_end().ends_with(['{', '(', '[']) { "    " } else { "" };
        return json!({ "status": "incomplete", "indent": indent + more });
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
    fn open_brackets_are_closed() {
        for (code, expected) in [
            ("fn f(t: &Tensor) { t.squ", "}"),
            ("fn f() { g(a[0", "])}"),
            (":dep a = \"{\"\nlet c = '{'; if x { \"(\"", "}"),
            ("fn f() {}", ""),
            ("x.", ""),
        ] {
            assert_eq!(closing(code), expected, "{code}");
        }
    }

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
