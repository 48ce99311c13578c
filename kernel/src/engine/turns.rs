//! Loops `for` with many turns: makes two loops of one, so that [the check](super::loops) isn't in the inner one.

use std::ops::Range;

use ra_ap_syntax::ast::{self, AstNode, Expr, HasLoopBody, RangeItem};
use ra_ap_syntax::{SyntaxKind, SyntaxNode, T};

use super::rewrite::{Edit, Piece};
use super::syntax::range_in_cell;

/// Macros whose body contains no `break`.
const WITHOUT_BREAK: [&str; 19] = [
    "print",
    "println",
    "eprint",
    "eprintln",
    "write",
    "writeln",
    "format",
    "vec",
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "panic",
    "unreachable",
    "todo",
    "unimplemented",
    "matches",
];

/// The head of a loop `for` without a label.
pub struct Head {
    /// The loop without attributes.
    pub whole: Range<usize>,
    /// Offset of the body's beginning.
    pub end: usize,
    pattern: Range<usize>,
    iterable: Range<usize>,
    /// The range that the loop is over, if it is one.
    range: Option<ast::RangeExpr>,
}

impl Head {
    pub fn of(node: &ast::ForExpr) -> Option<Self> {
        if node.syntax().children().any(|it| it.kind() == SyntaxKind::LABEL) {
            return None;
        }
        let (iterable, body) = (node.iterable()?, node.loop_body()?);
        let range = match unparenthesized(iterable.clone()) {
            Expr::RangeExpr(it) if it.start().is_some() && it.end().is_some() => Some(it),
            _ => None,
        };
        Some(Head {
            whole: range_in_cell(node.for_token()?.text_range()).start..range_in_cell(body.syntax().text_range()).end,
            end: range_in_cell(body.syntax().text_range()).start,
            pattern: range_in_cell(node.pat()?.syntax().text_range()),
            iterable: range_in_cell(iterable.syntax().text_range()),
            range,
        })
    }

    /// Returns the number of turns, if the loop is over a range of two numbers.
    pub fn turns(&self) -> Option<u128> {
        let number = |bound: Option<Expr>| match bound {
            Some(Expr::Literal(it)) => match it.kind() {
                ast::LiteralKind::IntNumber(number) => number.value().ok(),
                _ => None,
            },
            _ => None,
        };
        let range = self.range.as_ref()?;
        let (start, end) = (number(range.start())?, number(range.end())?);
        Some(end.saturating_sub(start) + u128::from(range.op_kind() == Some(ast::RangeOp::Inclusive)))
    }

    /// Makes two loops of the loop: over the parts of its iterator, and over each part.
    pub fn divide(&self, body: &ast::StmtList) -> Vec<Edit> {
        const SITE: &str = "{ static SITE: crate::vitlab_parts::Site = crate::vitlab_parts::Site::new(); &SITE }";
        let breaks: Vec<_> = own_breaks(body.syntax()).collect();
        let label = if breaks.is_empty() { "" } else { "'vitlab_part: " };
        let [before, between, after, end] = match self.range.as_ref().map(|it| it.op_kind()) {
            Some(Some(ast::RangeOp::Inclusive)) => {
                ["for vitlab_part in crate::vitlab_parts::parts_inclusive(", "", "vitlab_part", " }"]
            }
            Some(_) => ["for vitlab_part in crate::vitlab_parts::parts(", "", "vitlab_part", " }"],
            // `match` keeps the temporaries of the expression until the loop ends, as `for` does.
            None => [
                "match crate::vitlab_parts::turns(",
                "{ mut vitlab_turns => LABELwhile vitlab_turns.more() ",
                "&mut vitlab_turns",
                " } }",
            ],
        };
        let outer_label = if between.is_empty() { label } else { "" };
        let pieces = vec![
            Piece::Added(format!("{outer_label}{before}")),
            Piece::Cell(self.iterable.clone()),
            Piece::Added(format!(", {SITE}) {}{{ for ", between.replace("LABEL", label))),
            Piece::Cell(self.pattern.clone()),
            Piece::Added(format!(" in {after} ")),
        ];
        let head = Edit { range: self.whole.start..self.end, pieces };
        let breaks = breaks.into_iter().map(|at| Edit::insert(at, " 'vitlab_part"));
        [head, Edit::insert(self.whole.end, end)].into_iter().chain(breaks).collect()
    }
}

fn unparenthesized(expression: Expr) -> Expr {
    match expression {
        Expr::ParenExpr(it) => it.expr().map_or(Expr::ParenExpr(it), unparenthesized),
        other => other,
    }
}

/// Returns whether a loop with this body can become two loops: it contains no other loop, and no macro that may contain
/// a `break`.
pub fn can_be_divided(body: &ast::StmtList) -> bool {
    body.syntax().descendants().all(|node| {
        let is_harmless = |call: ast::MacroCall| {
            let name = call.path().map(|it| it.to_string()).unwrap_or_default();
            let tokens = call.token_tree().into_iter().flat_map(|it| it.syntax().descendants_with_tokens());
            let breaks = tokens.into_iter().any(|it| it.kind() == T![break]);
            WITHOUT_BREAK.contains(&name.trim_start_matches("std::")) && !breaks
        };
        match node.kind() {
            SyntaxKind::LOOP_EXPR | SyntaxKind::WHILE_EXPR | SyntaxKind::FOR_EXPR => false,
            SyntaxKind::MACRO_CALL => ast::MacroCall::cast(node).is_some_and(is_harmless),
            _ => true,
        }
    })
}

/// Returns where each `break` of a loop without inner loops ends.
fn own_breaks(body: &SyntaxNode) -> impl Iterator<Item = usize> {
    let breaks = body.descendants().filter_map(ast::BreakExpr::cast).filter(|it| it.lifetime().is_none());
    breaks.filter_map(|it| Some(range_in_cell(it.break_token()?.text_range()).end))
}
