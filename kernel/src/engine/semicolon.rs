//! Saves a compilation by a semicolon. For a last expression without a semicolon, evcxr compiles the cell as if the
//! value could display itself, and compiles it again if it can't. An expression without a value, such as a loop, never
//! can.

use ra_ap_syntax::ast::{AstNode, BinaryOp, Expr};

use super::syntax::{self, PREFIX};

/// Macros without a value.
const WITHOUT_VALUE: [&str; 7] = ["print", "println", "eprint", "eprintln", "assert", "assert_eq", "assert_ne"];

/// Returns the cell with a semicolon after a last expression that has no value.
pub fn add_semicolon(code: &str) -> String {
    let last = syntax::statements(code).and_then(|statements| statements.tail_expr());
    let Some(last) = last.filter(has_no_value) else { return code.to_string() };
    let (before, after) = code.split_at(usize::from(last.syntax().text_range().end()) - PREFIX.len());
    format!("{before};{after}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_gets_a_semicolon() {
        for (code, expected) in [
            ("for i in 0..3 { f(i) }", "for i in 0..3 { f(i) };"),
            ("let a = 1;\nwhile x() {} // end\n", "let a = 1;\nwhile x() {}; // end\n"),
            ("if a { b() }", "if a { b() };"),
            ("x += 1", "x += 1;"),
            ("println!(\"ä\")", "println!(\"ä\");"),
            (":dep a = \"1\"\nfor i in b {}", ":dep a = \"1\"\nfor i in b {};"),
        ] {
            assert_eq!(add_semicolon(code), expected);
        }
    }

    #[test]
    fn the_rest_stays() {
        for code in [
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
            assert_eq!(add_semicolon(code), code);
        }
    }
}
