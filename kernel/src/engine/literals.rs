//! Large tables of literals, such as pasted data. rustc takes minutes for the code that fills a table of 20,000 numbers,
//! and milliseconds for a constant. So each large table becomes one: `[1, 2, …]` is compiled as `const { [1, 2, …] }`, and
//! `vec![1, 2, …]` as `(const { &[1, 2, …] }).to_vec()`. Types are inferred across the border of a `const` block.

use std::ops::Range;

use ra_ap_syntax::ast::{self, AstNode};
use ra_ap_syntax::{SyntaxKind, SyntaxNode, T, TextRange};

use super::rewrite::Edit;
use super::syntax::{self, range_in_cell};

/// Smaller tables compile fast.
const LARGE: usize = 500;

/// Returns the edits that make constants of a cell's large tables.
pub fn constants(cell: &str) -> Vec<Edit> {
    // Two bytes at least for each literal and its comma.
    if cell.len() < 2 * LARGE {
        return Vec::new();
    }
    let Some(statements) = syntax::statements(cell) else { return Vec::new() };
    let mut edits = Vec::new();
    let mut open = vec![statements.syntax().clone()];
    while let Some(node) = open.pop() {
        if ast::Const::can_cast(node.kind()) || ast::Static::can_cast(node.kind()) || is_const_block(&node) {
            continue;
        }
        let count = node.text_range().len();
        if usize::from(count) < 2 * LARGE {
            continue;
        }
        match constant(&node) {
            Some(found) => edits.extend(found),
            None => open.extend(node.children()),
        }
    }
    edits
}

fn is_const_block(node: &SyntaxNode) -> bool {
    ast::BlockExpr::cast(node.clone()).is_some_and(|block| block.const_token().is_some())
}

fn constant(node: &SyntaxNode) -> Option<Vec<Edit>> {
    if let Some(call) = ast::MacroCall::cast(node.clone()) {
        return vector(&call);
    }
    let is_table = match ast::Expr::cast(node.clone())? {
        ast::Expr::ArrayExpr(array) => array.semicolon_token().is_none(),
        // The reference of a constant lives as long as the constant.
        ast::Expr::RefExpr(it) => it.mut_token().is_none() && matches!(it.expr(), Some(ast::Expr::ArrayExpr(_))),
        _ => false,
    };
    if !is_table || !is_large(node) {
        return None;
    }
    let is_operand = node.parent().is_some_and(|parent| {
        use SyntaxKind::{EXPR_STMT, FIELD_EXPR, INDEX_EXPR, METHOD_CALL_EXPR};
        [METHOD_CALL_EXPR, FIELD_EXPR, INDEX_EXPR, EXPR_STMT].contains(&parent.kind())
    });
    let (before, after) = if is_operand { ("(const { ", " })") } else { ("const { ", " }") };
    let range = range_in_cell(node.text_range());
    Some(vec![Edit::insert(range.start, before), Edit::insert(range.end, after)])
}

/// Returns the edits of `vec![…]`, whose elements may be calls of `vec!`, too.
fn vector(call: &ast::MacroCall) -> Option<Vec<Edit>> {
    let (head, list) = vec_parts(call.syntax())?;
    let mut edits = vec![Edit { range: head, ..Edit::insert(0, "(const { &") }];
    let rows = rows(&list);
    let end = range_in_cell(list.text_range()).end;
    match &rows[..] {
        [] => {
            if !is_large(&list) {
                return None;
            }
            edits.push(Edit::insert(end, " }).to_vec()"));
        }
        rows => {
            let others = list.children_with_tokens().filter_map(|it| it.into_token()).filter(|token| {
                let inside =
                    |(head, _): &(Range<usize>, SyntaxNode)| head.contains(&range_in_cell(token.text_range()).start);
                !token.kind().is_trivia() && token.kind() != T![,] && !rows.iter().any(inside)
            });
            // The brackets of the list itself.
            if others.count() != 2 || !rows.iter().all(|(_, row)| only_literals(row)) || literals(&list) < LARGE {
                return None;
            }
            edits.extend(rows.iter().map(|(head, _)| Edit { range: head.clone(), ..Edit::insert(0, "&") }));
            // Rows may differ in length.
            edits.push(Edit::insert(range_in_cell(rows[0].1.text_range()).end, " as &[_]"));
            edits.push(Edit::insert(end, " }).iter().map(|row| row.to_vec()).collect::<Vec<_>>()"));
        }
    }
    Some(edits)
}

/// Returns the range of `vec!` and the token tree of a call of it.
fn vec_parts(call: &SyntaxNode) -> Option<(Range<usize>, SyntaxNode)> {
    let call = ast::MacroCall::cast(call.clone())?;
    let list = call.token_tree().filter(|it| it.l_brack_token().is_some())?.syntax().clone();
    let start = call.syntax().text_range().start();
    (call.path()?.syntax().text() == "vec")
        .then(|| (range_in_cell(TextRange::new(start, list.text_range().start())), list))
}

/// Returns the calls of `vec!` that are elements of a token tree.
fn rows(list: &SyntaxNode) -> Vec<(Range<usize>, SyntaxNode)> {
    let mut rows = Vec::new();
    for tree in list.children() {
        let Some(bang) = tree.first_token().and_then(|it| it.prev_token()).filter(|it| it.kind() == T![!]) else {
            continue;
        };
        let Some(name) = bang.prev_token().filter(|it| it.text() == "vec") else { continue };
        let head = TextRange::new(name.text_range().start(), tree.text_range().start());
        rows.push((range_in_cell(head), tree));
    }
    rows
}

fn is_large(table: &SyntaxNode) -> bool {
    only_literals(table) && literals(table) >= LARGE
}

/// Returns true if the code holds nothing but literals, commas, brackets, signs and references.
fn only_literals(node: &SyntaxNode) -> bool {
    let mut tokens = node.descendants_with_tokens().filter_map(|it| it.into_token());
    tokens.all(|token| {
        let kind = token.kind();
        let is_sign = [T![,], T![-], T![&], T!['['], T![']'], T!['('], T![')']].contains(&kind);
        kind.is_trivia() || is_literal(kind) || is_sign
    })
}

fn literals(node: &SyntaxNode) -> usize {
    node.descendants_with_tokens().filter(|it| is_literal(it.kind()) && it.as_token().is_some()).count()
}

fn is_literal(kind: SyntaxKind) -> bool {
    kind.is_literal() || kind == T![true] || kind == T![false]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    #[test]
    fn large_tables_of_literals_become_constants() {
        let many = |element: &str| vec![element; LARGE].join(", ");
        for (cell, expected) in [
            ("let a: [i32; 500] = [#1];", "let a: [i32; 500] = const { [#1] };"),
            ("let v = vec![#-1.5];", "let v = (const { &[#-1.5] }).to_vec();"),
            ("f(&[#(1, \"a\")]);", "f(const { &[#(1, \"a\")] });"),
            ("let s = [#[1, 2]].iter().count();", "let s = (const { [#[1, 2]] }).iter().count();"),
            (
                "let v = vec![vec![1], #vec![1, 2]];",
                "let v = (const { &[&[1] as &[_], #&[1, 2]] }).iter().map(|row| row.to_vec()).collect::<Vec<_>>();",
            ),
            ("fn f() -> Vec<u8> { vec![#1] }", "fn f() -> Vec<u8> { (const { &[#1] }).to_vec() }"),
        ] {
            let large = |code: &str| match code.split_once('#') {
                None => code.to_string(),
                Some((before, rest)) => {
                    // The element ends where its brackets are closed.
                    let mut depth = 0;
                    let end = rest.find(|c| {
                        depth += i32::from("[(".contains(c)) - i32::from("])".contains(c));
                        depth < 0 || (depth == 0 && c == ',')
                    });
                    let (element, after) = rest.split_at(end.unwrap());
                    format!("{before}{}{after}", many(element))
                }
            };
            let cell = large(cell);
            assert_eq!(Rewritten::new(&cell, constants(&cell)).text, large(expected));
        }
    }

    #[test]
    fn other_code_stays_as_it_is() {
        let many = |element: &str| vec![element; LARGE].join(", ");
        for cell in [
            format!("let v = vec![{}];", many("f(1)")),
            format!("let v = [{}];", many("x")),
            format!("const A: [i32; 500] = [{}];", many("1")),
            format!("static A: &[i32] = &[{}];", many("1")),
            format!("let a = const {{ [{}] }};", many("1")),
            format!("let v = vec![{}];", many("vec![x]")),
            format!("let v = vec![0; 500]; // {}", many("1")),
            "let v = vec![1, 2, 3];".to_string(),
        ] {
            assert_eq!(constants(&cell), [], "{cell}");
        }
    }
}
