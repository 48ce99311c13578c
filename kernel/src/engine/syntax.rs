//! The syntax of a cell, before evcxr compiles it.

use std::ops::Range;

use ra_ap_syntax::ast::{self, AstNode, AstToken, BinaryOp, Expr, HasName};
use ra_ap_syntax::{Edition, Parse, SourceFile, SyntaxToken, TextRange, TextSize};

use super::commands::{commands, without_commands};
use super::rewrite::Edit;

/// Precedes the cell in the parsed text.
pub const PREFIX: &str = "fn cell() {\n";
/// Macros without a value.
const WITHOUT_VALUE: [&str; 7] = ["print", "println", "eprint", "eprintln", "assert", "assert_eq", "assert_ne"];

/// Parses a cell as the body of a function. An offset in the parsed text is the offset in the cell plus the length of
/// [`PREFIX`], because spaces replace commands.
pub fn parse(code: &str) -> Parse<SourceFile> {
    SourceFile::parse(&format!("{PREFIX}{}\n}}", without_commands(code)), Edition::CURRENT)
}

/// Returns the offset in the cell of an offset in the parsed text.
pub fn offset_in_cell(offset: TextSize) -> usize {
    usize::from(offset).saturating_sub(PREFIX.len())
}

/// Returns the range in the cell of a range in the parsed text.
pub fn range_in_cell(range: TextRange) -> Range<usize> {
    offset_in_cell(range.start())..offset_in_cell(range.end())
}

/// Returns the items of a cell.
pub fn items(code: &str) -> Vec<ast::Item> {
    let item = |statement| if let ast::Stmt::Item(item) = statement { Some(item) } else { None };
    statements(code).into_iter().flat_map(|list| list.statements()).filter_map(item).collect()
}

/// Returns the statements of a cell. `None` if it can't be parsed.
pub fn statements(code: &str) -> Option<ast::StmtList> {
    parse(code).tree().syntax().children().find_map(ast::Fn::cast)?.body()?.stmt_list()
}

/// Returns whether a cell may have a syntax error: the parser finds one, or a documentation comment is the last text.
pub fn is_doubtful(code: &str) -> bool {
    let end = statements(code).and_then(|list| list.r_curly_token());
    let before = std::iter::successors(end, SyntaxToken::prev_token).skip(1);
    let mut comments = before.take_while(|it| it.kind().is_trivia()).filter_map(ast::Comment::cast);
    comments.any(|comment| comment.is_outer()) || !parse(code).errors().is_empty()
}

/// Returns whether a cell defines variables, whose types evcxr has to find.
pub fn defines_variables(code: &str) -> bool {
    let is_let = |statement| matches!(statement, ast::Stmt::LetStmt(_));
    statements(code).is_none_or(|list| list.statements().any(is_let))
}

/// Returns the names of the variables and of the items that a cell defines.
pub fn defined_names(code: &str) -> (Vec<String>, Vec<String>) {
    let (mut variables, mut items) = (Vec::new(), Vec::new());
    let Some(list) = statements(code) else { return (variables, items) };
    for statement in list.statements() {
        match statement {
            ast::Stmt::LetStmt(it) => {
                let patterns = it.pat().into_iter().flat_map(|it| it.syntax().descendants().collect::<Vec<_>>());
                variables.extend(
                    patterns.filter_map(ast::IdentPat::cast).filter_map(|it| it.name()).map(|it| it.to_string()),
                );
            }
            ast::Stmt::Item(it) => {
                items.extend(it.syntax().children().find_map(ast::Name::cast).map(|it| it.to_string()))
            }
            ast::Stmt::ExprStmt(_) => {}
        }
    }
    (variables, items)
}

/// Returns the name of the first variable of a cell that is a closure, and its range.
pub fn closure_variable(code: &str) -> Option<(String, Range<usize>)> {
    let closure = |statement| match statement {
        ast::Stmt::LetStmt(it) if matches!(it.initializer(), Some(Expr::ClosureExpr(_))) => it.pat(),
        _ => None,
    };
    let pattern = statements(code)?.statements().find_map(closure)?;
    Some((pattern.to_string(), range_in_cell(pattern.syntax().text_range())))
}

/// Returns the range of the name of a variable where a cell defines it.
pub fn definition(code: &str, name: &str) -> Option<Range<usize>> {
    let patterns = statements(code)?.statements().filter_map(|statement| match statement {
        ast::Stmt::LetStmt(it) => it.pat(),
        _ => None,
    });
    let mut names = patterns
        .flat_map(|it| it.syntax().descendants().collect::<Vec<_>>())
        .filter_map(|it| ast::IdentPat::cast(it)?.name());
    Some(range_in_cell(names.find(|it| it.text() == name)?.syntax().text_range()))
}

/// Returns the ranges of the patterns of a cell's variables without a written type.
pub fn untyped_variables(code: &str) -> Vec<Range<usize>> {
    let Some(list) = statements(code) else { return Vec::new() };
    let untyped = list.statements().filter_map(|statement| match statement {
        ast::Stmt::LetStmt(it) if it.ty().is_none() => Some(it.pat()?.syntax().text_range()),
        _ => None,
    });
    untyped.map(range_in_cell).collect()
}

/// Indents a documentation comment on a cell's first lines. evcxr leaves out comments before the first code, unless they
/// are indented.
pub fn documentation(code: &str) -> Option<Edit> {
    let (mut start, mut first) = (0, None);
    for line in code.split_inclusive('\n') {
        if commands(line).next().is_some() {
            first = None;
        } else if line.starts_with("///") {
            first.get_or_insert(start);
        } else if !line.starts_with("//") && !line.trim().is_empty() {
            break;
        }
        start += line.len();
    }
    first.map(|start| Edit::insert(start, " "))
}

/// Adds a semicolon after a last expression that has no value, such as a loop. For a last expression without a
/// semicolon, evcxr compiles the cell as if the value could display itself, and compiles it again if it can't.
pub fn semicolon(code: &str) -> Option<Edit> {
    let last = statements(code)?.tail_expr().filter(has_no_value)?;
    Some(Edit::insert(offset_in_cell(last.syntax().text_range().end()), ";"))
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
    fn names_are_those_of_the_cell_and_not_of_its_functions() {
        let code = "let (a, mut b) = f();\nlet P { c, d: Some(e), .. } = g();\nfn h() { let no = 1; }\nstruct S;\nmacro_rules! m { () => {} }\nlet k = { let no = 1; no };";
        let (variables, items) = defined_names(code);
        assert_eq!(variables, ["a", "b", "c", "e", "k"]);
        assert_eq!(items, ["h", "S", "m"]);
        assert_eq!(closure_variable("let a = 1;\nlet mut f = |x| x;"), Some(("mut f".into(), 15..20)));
        assert_eq!(closure_variable("let a = g(|x| x);"), None);
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
    fn documentation_on_the_first_lines_is_indented() {
        for code in [
            "§/// Text\nfn f() {}",
            "// a\n\n§/// Text\n/// more\n#[inline]\nfn f() {}",
            ":dep a = \"1\"\n§/// Text\nfn f() {}",
            "/// Text\n:dep a = \"1\"\n",
            "// a\nfn f() {}",
            "fn f() {}\n/// Text\nfn g() {}",
        ] {
            let cell = code.replace('§', "");
            assert_eq!(Rewritten::new(&cell, documentation(&cell).into_iter().collect()).text, code.replace('§', " "));
        }
    }
}
