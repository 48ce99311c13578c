//! The syntax of a cell, before evcxr compiles it.

use ra_ap_syntax::ast::{self, AstNode, BinaryOp, Expr};
use ra_ap_syntax::{Edition, Parse, SourceFile, SyntaxError, SyntaxKind};
use serde_json::{Value, json};

use super::rewrite::Edit;

/// Precedes the cell in the parsed text.
pub const PREFIX: &str = "fn cell() {\n";
/// Macros without a value.
const WITHOUT_VALUE: [&str; 7] = ["print", "println", "eprint", "eprintln", "assert", "assert_eq", "assert_ne"];

/// Parses a cell as the body of a function. An offset in the parsed text is the offset in the cell plus the length of
/// [`PREFIX`], because spaces replace the lines that are commands for evcxr or the shell.
fn parse(code: &str) -> Parse<SourceFile> {
    let is_command = |line: &str| line.trim_start_matches(' ').starts_with(':') || line.starts_with('!');
    let rust = |line: &str| if is_command(line) { " ".repeat(line.len() - 1) + "\n" } else { line.to_string() };
    let body: String = code.split_inclusive('\n').map(rust).collect();
    SourceFile::parse(&format!("{PREFIX}{body}\n}}"), Edition::CURRENT)
}

/// Returns the statements of a cell. `None` if it can't be parsed.
pub fn statements(code: &str) -> Option<ast::StmtList> {
    parse(code).tree().syntax().children().find_map(ast::Fn::cast)?.body()?.stmt_list()
}

/// Returns whether a cell defines variables, whose types evcxr has to find.
pub fn defines_variables(code: &str) -> bool {
    let is_let = |statement| matches!(statement, ast::Stmt::LetStmt(_));
    statements(code).is_none_or(|list| list.statements().any(is_let))
}

/// Adds a semicolon after a last expression that has no value, such as a loop. For a last expression without a
/// semicolon, evcxr compiles the cell as if the value could display itself, and compiles it again if it can't.
pub fn semicolon(code: &str) -> Option<Edit> {
    let last = statements(code)?.tail_expr().filter(has_no_value)?;
    Some(Edit::insert(usize::from(last.syntax().text_range().end()) - PREFIX.len(), ";"))
}

fn has_no_value(expression: &Expr) -> bool {
    match expression {
        Expr::ForExpr(_) | Expr::WhileExpr(_) => true,
        Expr::IfExpr(it) => it.else_branch().is_none(),
        Expr::BinExpr(it) => matches!(it.op_kind(), Some(BinaryOp::Assignment { .. })),
        Expr::MacroExpr(it) => {
            let name = it.macro_call().and_then(|it| it.path()).map(|it| it.to_string());
            name.is_some_and(|name| WITHOUT_VALUE.contains(&name.as_str()))
        }
        _ => false,
    }
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
    use crate::engine::rewrite::Rewritten;

    #[test]
    fn only_what_has_no_value_gets_a_semicolon() {
        // `§` stands for the added semicolon.
        for code in [
            "for i in 0..3 { f(i) }§",
            "let a = 1;\nwhile x() {}§ // end\n",
            "if a { b() }§",
            "x += 1§",
            "println!(\"ä\")§",
            ":dep a = \"1\"\nfor i in b {}§",
            "",
            "x",
            "f(for i in 0..3 {})",
            "if a { 1 } else { 2 }",
            "loop { break 5 }",
            "vec![1]",
            "fn f() {}",
            "x == 1",
            "for i in 0..3 {};",
            "{ for i in 0..3 {} }",
            "for i in 0..3 { ",
            "let y = x",
            ":vars",
            ":dep a = { path = \"b\" }",
            "// d\n\n:dep a = { path = \"b\" }",
            "let f = |a| {",
            "} for i in b {}",
        ] {
            let cell = code.replace('§', "");
            let edits = semicolon(&cell).into_iter().collect();
            assert_eq!(Rewritten::new(&cell, edits).text, code.replace('§', ";"));
        }
    }

    #[test]
    fn types_are_needed_of_variables_at_the_top_alone() {
        for code in ["let a = 1;", ":dep b = \"1\"\nuse b::c;\nlet d = c();", "f();\nlet (a, b) = g();"] {
            assert!(defines_variables(code), "{code}");
        }
        for code in [
            "",
            ":dep b = \"1\"\nuse b::c;",
            "for i in 0..3 { let a = i; }",
            "fn f() { let a = 1; }",
            "println!(\"let a = 1;\")",
        ] {
            assert!(!defines_variables(code), "{code}");
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
