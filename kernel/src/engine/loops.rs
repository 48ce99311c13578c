//! Adds checks to the loops of a cell, so that an interrupt ends them by unwinding and the variables are kept. The
//! module of [`support`](super::support) contains the functions that the added code calls.

use ra_ap_syntax::ast::{self, AstNode, Expr, HasAttrs, HasLoopBody};
use ra_ap_syntax::{SyntaxKind, SyntaxNode, T};

use super::rewrite::{Edit, Piece};
use super::sleep::Sleep;
use super::support::{CELL, Module, PARTS};
use super::syntax::{parse, range_in_cell, statements};
use super::turns::{Head, can_be_divided};

/// A loop within another loop over at most this many turns, written as numbers, has no checks.
const FEW: u128 = 4;
/// A loop without calls of functions over at most this many turns has no checks.
const FEW_WITHOUT_CALLS: u128 = 64;
/// Methods that take next to no time, by the beginning of their names.
const FAST_METHODS: [&str; 18] = [
    "wrapping_",
    "saturating_",
    "rotate_",
    "abs",
    "min",
    "max",
    "clamp",
    "pow",
    "sqrt",
    "exp",
    "ln",
    "sin",
    "cos",
    "tan",
    "mul_add",
    "len",
    "is_",
    "swap",
];
/// Adds checks to cells, one after the other.
#[derive(Default)]
pub struct Loops {
    sleep: Sleep,
    /// Whether functions of earlier cells contain checks.
    in_items: bool,
}

/// The edits of a cell.
pub struct Checks {
    pub edits: Vec<Edit>,
    /// Whether the cell or a function that it may call contains checks.
    pub exist: bool,
}

impl Loops {
    /// Returns the edits for the loops of a cell. They move no line. `is_defined` tells whether earlier cells define a
    /// module of [`support`].
    pub fn checks(&mut self, code: &str, is_defined: impl Fn(&str) -> bool) -> Checks {
        let cleared = code.lines().any(|line| line.trim() == ":clear");
        if cleared {
            *self = Self::default();
        }
        let mut edits = self.edits(code);
        let exist = self.in_items || !edits.is_empty();
        if let Some(first) = first_statement(code).filter(|_| !edits.is_empty()) {
            let added = |edit: &Edit, name| {
                edit.pieces.iter().any(|piece| matches!(piece, Piece::Added(text) if text.contains(name)))
            };
            let is_used = |name| name == CELL.name || edits.iter().any(|edit| added(edit, name));
            let is_missing = |module: &Module| is_used(module.name) && (cleared || !is_defined(module.name));
            let modules: Vec<_> = [CELL, PARTS]
                .iter()
                .filter(|it| is_missing(it))
                .map(|it| Edit::insert(first, it.line() + " "))
                .collect();
            edits.splice(0..0, modules);
        }
        Checks { edits, exist }
    }

    fn edits(&mut self, code: &str) -> Vec<Edit> {
        let parsed = parse(code);
        if !parsed.errors().is_empty() {
            return Vec::new();
        }
        let tree = parsed.syntax_node();
        self.sleep.note_imports(&tree);
        let mut walk = Walk { code, sleep: &self.sleep, edits: Vec::new(), in_items: false };
        // The first child is the function around the cell.
        tree.children().for_each(|function| walk.children(&function, Place::default()));
        self.in_items |= walk.in_items;
        walk.edits
    }
}

/// Returns where the first statement of a cell begins, after its commands and attributes.
fn first_statement(code: &str) -> Option<usize> {
    let list = statements(code)?;
    let mut nodes = list.syntax().children();
    nodes
        .find(|node| ast::Stmt::can_cast(node.kind()) || Expr::can_cast(node.kind()))
        .map(|node| range_in_cell(node.text_range()).start)
}

/// Where a node is.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Within the body of a loop of the same function.
    in_loop: bool,
    /// Within an item.
    in_item: bool,
}

struct Walk<'a> {
    code: &'a str,
    sleep: &'a Sleep,
    edits: Vec<Edit>,
    /// Whether an item contains an edit.
    in_items: bool,
}

impl Walk<'_> {
    fn children(&mut self, node: &SyntaxNode, place: Place) {
        node.children().for_each(|child| self.node(&child, place));
    }

    fn node(&mut self, node: &SyntaxNode, place: Place) {
        use SyntaxKind::*;
        match node.kind() {
            // Evaluated by the compiler.
            CONST | STATIC | CONST_ARG | VARIANT => {}
            BLOCK_EXPR | CLOSURE_EXPR | FN if has_token(node, T![const]) => {}
            ARRAY_EXPR if has_token(node, T![;]) => {
                node.children().take(1).for_each(|child| self.node(&child, place));
            }
            // Unwinding out of such a function aborts the process.
            FN if ast::Fn::cast(node.clone()).is_some_and(|it| it.abi().is_some()) => {}
            FN | IMPL | TRAIT | MODULE => self.children(node, Place { in_loop: false, in_item: true }),
            CLOSURE_EXPR => self.children(node, Place { in_loop: false, ..place }),
            LOOP_EXPR | WHILE_EXPR | FOR_EXPR => self.enter_loop(node, place),
            CALL_EXPR => {
                let path = ast::CallExpr::cast(node.clone()).and_then(|call| self.sleep.path_in(&call));
                if let Some(path) = path {
                    self.add(place, Edit { range: range_in_cell(path), pieces: added("crate::vitlab_cell::sleep") });
                }
                self.children(node, place);
            }
            _ => self.children(node, place),
        }
    }

    fn add(&mut self, place: Place, edit: Edit) {
        self.in_items |= place.in_item;
        self.edits.push(edit);
    }

    fn enter_loop(&mut self, node: &SyntaxNode, place: Place) {
        let body = match Expr::cast(node.clone()) {
            Some(Expr::LoopExpr(it)) => it.loop_body(),
            Some(Expr::WhileExpr(it)) => it.loop_body(),
            Some(Expr::ForExpr(it)) => it.loop_body(),
            _ => None,
        };
        let Some(list) = body.as_ref().and_then(ast::BlockExpr::stmt_list) else { return };
        let head = ast::ForExpr::cast(node.clone()).and_then(|it| Head::of(&it));
        let edits_before = self.edits.len();
        node.children().for_each(|child| self.node(&child, Place { in_loop: true, ..place }));
        if head.as_ref().and_then(Head::turns).is_some_and(|turns| is_short(turns, &list, place)) {
            return;
        }
        let head_is_edited = |head: &Head| self.edits[edits_before..].iter().any(|edit| edit.range.start < head.end);
        let divided = head.filter(|head| {
            !self.code[head.whole.start..head.end].contains('\n') && !head_is_edited(head) && can_be_divided(&list)
        });
        match divided {
            Some(head) => head.divide(&list).into_iter().for_each(|edit| self.add(place, edit)),
            None => {
                let attributes = list.attrs().filter(|it| it.excl_token().is_some()).last();
                let at = match (attributes, list.l_curly_token()) {
                    (Some(last), _) => range_in_cell(last.syntax().text_range()).end,
                    (None, Some(brace)) => range_in_cell(brace.text_range()).end,
                    _ => return,
                };
                self.add(place, Edit::insert(at, " crate::vitlab_cell::check();"));
            }
        }
    }
}

/// Returns whether a loop takes so little time that it needs no checks.
fn is_short(turns: u128, body: &ast::StmtList, place: Place) -> bool {
    use SyntaxKind::*;
    let is_fast = |node: SyntaxNode| match node.kind() {
        METHOD_CALL_EXPR => {
            let name = ast::MethodCallExpr::cast(node).and_then(|it| it.name_ref());
            name.is_some_and(|name| FAST_METHODS.iter().any(|fast| name.text().starts_with(fast)))
        }
        CALL_EXPR | MACRO_EXPR | MACRO_CALL | AWAIT_EXPR | LOOP_EXPR | WHILE_EXPR | FOR_EXPR => false,
        _ => true,
    };
    (place.in_loop && turns <= FEW) || (turns <= FEW_WITHOUT_CALLS && body.syntax().descendants().all(is_fast))
}

fn added(text: &str) -> Vec<Piece> {
    vec![Piece::Added(text.into())]
}

fn has_token(node: &SyntaxNode, kind: SyntaxKind) -> bool {
    node.children_with_tokens().any(|it| it.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    /// Returns the cell with its checks. `§` stands for a check, `{parts(…)}` for the head of a divided loop.
    fn checked(code: &str) -> String {
        let edits = Loops::default().checks(code, |_| true).edits;
        let text = Rewritten::new(code, edits).text;
        assert_eq!(text.lines().count(), code.lines().count(), "{text}");
        let site = ", { static SITE: crate::vitlab_parts::Site = crate::vitlab_parts::Site::new(); &SITE })";
        let text = text.replace(" crate::vitlab_cell::check();", "§").replace(site, ")");
        text.replace("crate::vitlab_cell::", "").replace("crate::vitlab_parts::", "")
    }

    #[test]
    fn every_loop_is_checked_in_each_turn_or_part() {
        for (code, expected) in [
            ("loop {}", "loop {§}"),
            ("loop { a(); break 5 }", "loop {§ a(); break 5 }"),
            ("while a() { b() }", "while a() {§ b() }"),
            ("while let Some(a) = b {}", "while let Some(a) = b {§}"),
            (
                "for a in b.iter() { c(a) }",
                "match turns(b.iter()) { mut vitlab_turns => while vitlab_turns.more() { for a in &mut vitlab_turns { c(a) } } }",
            ),
            (
                "for (a, b) in c { if a { break } }",
                "match turns(c) { mut vitlab_turns => 'vitlab_part: while vitlab_turns.more() { for (a, b) in &mut vitlab_turns { if a { break 'vitlab_part } } } }",
            ),
            ("'a: for b in 0..c { continue 'a }", "'a: for b in 0..c {§ continue 'a }"),
            ("loop {\n    #![allow(unused)]\n    a();\n}", "loop {\n    #![allow(unused)]§\n    a();\n}"),
            ("for a in 0..b { c[a] += 1; }", "for vitlab_part in parts(0..b) { for a in vitlab_part { c[a] += 1; } }"),
            ("for _ in (0..=b) {}", "for vitlab_part in parts_inclusive((0..=b)) { for _ in vitlab_part {} }"),
            (
                "for a in 0..b { if c { break } else { continue } }",
                "'vitlab_part: for vitlab_part in parts(0..b) { for a in vitlab_part { if c { break 'vitlab_part } else { continue } } }",
            ),
            (
                "'a: for i in x { for j in 0..y { if z { continue 'a } } }",
                "'a: for i in x {§ for vitlab_part in parts(0..y) { for j in vitlab_part { if z { continue 'a } } } }",
            ),
            // The head spans lines, and may not move.
            ("for a in 0\n..b {}", "for a in 0\n..b {§}"),
            (
                "for a in b.. {}",
                "match turns(b..) { mut vitlab_turns => while vitlab_turns.more() { for a in &mut vitlab_turns {} } }",
            ),
            ("for a in 0..64 { c[a] = 1; }", "for a in 0..64 { c[a] = 1; }"),
            ("for a in 0..64 { c = a.wrapping_add(c); }", "for a in 0..64 { c = a.wrapping_add(c); }"),
            ("for a in 0..65 { c[a] = 1; }", "for vitlab_part in parts(0..65) { for a in vitlab_part { c[a] = 1; } }"),
            ("for a in 0..9 { b(a); }", "for vitlab_part in parts(0..9) { for a in vitlab_part { b(a); } }"),
            (
                "for a in (0..b).rev() {}",
                "match turns((0..b).rev()) { mut vitlab_turns => while vitlab_turns.more() { for a in &mut vitlab_turns {} } }",
            ),
            (
                "for a in 0..b { println!(\"{a}\") }",
                "for vitlab_part in parts(0..b) { for a in vitlab_part { println!(\"{a}\") } }",
            ),
            (
                "for a in 0..b { println!(\"{}\", if c { break } else { 1 }) }",
                "for a in 0..b {§ println!(\"{}\", if c { break } else { 1 }) }",
            ),
            ("for a in 0..b { unknown!() }", "for a in 0..b {§ unknown!() }"),
            ("for a in 0..loop { break 5 } {}", "for a in 0..loop {§ break 5 } {§}"),
            ("for a in b { for c in 0..4 { d(c) } }", "for a in b {§ for c in 0..4 { d(c) } }"),
            ("fn f() { loop { a(); } }", "fn f() { loop {§ a(); } }"),
            ("impl A { fn f(&self) -> ! { loop {} } }", "impl A { fn f(&self) -> ! { loop {§} } }"),
            ("let f = async move { loop { g().await?; } };", "let f = async move { loop {§ g().await?; } };"),
            ("let f = |a| while a {};", "let f = |a| while a {§};"),
            ("unsafe { loop {} }", "unsafe { loop {§} }"),
            (":dep a = \"1\"\nloop {}", ":dep a = \"1\"\nloop {§}"),
        ] {
            assert_eq!(checked(code), expected);
        }
    }

    #[test]
    fn code_without_loops_of_its_own_stays_as_it_is() {
        for code in [
            "",
            ":vars",
            "let a = 1;",
            "const A: u32 = loop { break 1 };",
            "static A: u32 = { let mut i = 0; while i < 9 { i += 1 } i };",
            "const fn f() { while g() {} }",
            "extern \"C\" fn f() { loop {} }",
            "let a = [0; { loop { break 3 } }];",
            "let a: [u8; { loop { break 3 } }] = b;",
            "let a = const { loop { break 3 } };",
            "macro_rules! m { () => { loop {} } }",
            "m! { loop {} }",
            "// loop {}",
            "let a = \"loop {}\";",
            "loop {",
        ] {
            let checks = Loops::default().checks(code, |_| false);
            assert_eq!(checks.edits, [], "{code}");
            assert!(!checks.exist);
        }
    }

    #[test]
    fn the_sleep_of_the_standard_library_is_replaced() {
        for (code, expected) in [
            ("std::thread::sleep(a);", "sleep(a);"),
            ("use std::{thread, time::Duration};\nthread::sleep(a);", "use std::{thread, time::Duration};\nsleep(a);"),
            ("use std::thread::{self, sleep};\nsleep(a);", "use std::thread::{self, sleep};\nsleep(a);"),
            ("use std::thread::*;\nsleep(a);", "use std::thread::*;\nsleep(a);"),
            ("use std::thread as t;\nt::sleep(a);", "use std::thread as t;\nsleep(a);"),
            ("use tokio::time::sleep;\nsleep(a).await;", "use tokio::time::sleep;\nsleep(a).await;"),
            ("tokio::time::sleep(a).await;", "tokio::time::sleep(a).await;"),
            ("thread::sleep(a);", "thread::sleep(a);"),
        ] {
            assert_eq!(checked(code), expected);
        }
        let edits = |code: &str, loops: &mut Loops| loops.checks(code, |_| true).edits.len();
        let mut loops = Loops::default();
        assert_eq!(edits("use std::thread::sleep;", &mut loops), 0);
        assert_eq!(edits("sleep(a);", &mut loops), 1);
        assert_eq!(edits("fn sleep(a: u32) {}", &mut loops), 0);
        assert_eq!(edits("sleep(a);", &mut loops), 0);
        // An import of an earlier cell.
        assert_eq!(edits("use std::thread;", &mut loops), 0);
        assert_eq!(edits("let thread = thread::spawn(|| thread::sleep(a));", &mut loops), 1);
        assert_eq!(edits(":clear\nthread::sleep(a);", &mut loops), 0);
    }

    #[test]
    fn a_cell_defines_the_modules_that_it_is_the_first_to_need() {
        let added = |code: &str, defined: &[&str]| {
            let text = Rewritten::new(code, Loops::default().checks(code, |name| defined.contains(&name)).edits).text;
            assert_eq!(text.lines().count(), code.lines().count());
            [CELL, PARTS].map(|module| text.contains(&format!("mod {} {{", module.name)))
        };
        assert_eq!(added("let a = 1;", &[]), [false, false]);
        assert_eq!(added("#![allow(unused)]\nloop {}", &[]), [true, false]);
        assert_eq!(added("for a in 0..b {}", &[]), [true, true]);
        assert_eq!(added("for a in 0..b {}", &[CELL.name]), [false, true]);
        assert_eq!(added("for a in 0..b {}", &[CELL.name, PARTS.name]), [false, false]);
        assert_eq!(added(":clear\nfor a in 0..b {}", &[CELL.name, PARTS.name]), [true, true]);
    }
}
