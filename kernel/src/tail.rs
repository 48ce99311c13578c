//! The end of a cell. A last expression without a semicolon is shown, for which evcxr first compiles the cell as if its value
//! could show itself; when it can't, the cell is compiled again. Of what has no value, that can be known beforehand.

use ra_ap_syntax::ast::{self, AstNode, BinaryOp};
use ra_ap_syntax::{Edition, SourceFile};

/// Macros that give no value.
const SILENT: [&str; 7] = ["print", "println", "eprint", "eprintln", "assert", "assert_eq", "assert_ne"];

/// The cell with a semicolon after a last expression that has no value, such as a loop.
pub fn closed(code: &str) -> String {
    const BEFORE: &str = "fn cell() {";
    // What evcxr looks for commands in: the lines before the first of Rust.
    let command = |line: &&str| {
        let line = line.trim();
        line.is_empty() || [":", "!", "//"].iter().any(|start| line.starts_with(start))
    };
    let commands: usize = (code.split_inclusive('\n').take_while(command)).map(str::len).sum();
    let wrapped = format!("{BEFORE}{}\n}}", &code[commands..]);
    let file = SourceFile::parse(&wrapped, Edition::CURRENT).tree();
    let mut functions = file.syntax().children().filter_map(ast::Fn::cast);
    let tail = functions.next().and_then(|it| it.body()?.tail_expr());
    let Some(tail) = tail.filter(is_silent) else {
        return code.to_string();
    };
    let end = usize::from(tail.syntax().text_range().end()) - BEFORE.len() + commands;
    format!("{};{}", &code[..end], &code[end..])
}

fn is_silent(expression: &ast::Expr) -> bool {
    match expression {
        ast::Expr::ForExpr(_) | ast::Expr::WhileExpr(_) => true,
        ast::Expr::IfExpr(it) => it.else_branch().is_none(),
        ast::Expr::BinExpr(it) => matches!(it.op_kind(), Some(BinaryOp::Assignment { .. })),
        ast::Expr::MacroExpr(it) => {
            it.macro_call().and_then(|it| it.path()).is_some_and(|it| SILENT.contains(&it.to_string().as_str()))
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
            assert_eq!(closed(code), expected);
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
            assert_eq!(closed(code), code);
        }
    }
}
