//! Finds the calls of `std::thread::sleep` in cells.

use std::collections::HashMap;

use ra_ap_syntax::ast::{self, AstNode, Expr, HasName};
use ra_ap_syntax::{SyntaxKind, SyntaxNode, TextRange};

const SLEEP: &str = "std::thread::sleep";

/// The imports of the cells so far from which calls of `sleep` are recognised.
#[derive(Default)]
pub struct Sleep(HashMap<String, String>);

impl Sleep {
    /// Adds the imports of a cell.
    pub fn note_imports(&mut self, cell: &SyntaxNode) {
        let mut found: HashMap<String, String> = HashMap::new();
        let trees = cell.descendants().filter_map(ast::Use::cast).filter_map(|it| it.use_tree());
        trees.for_each(|tree| note_tree(&tree, "", &mut found));
        // Names that hide an import.
        for node in cell.descendants() {
            let is_method = node.parent().is_some_and(|it| it.kind() == SyntaxKind::ASSOC_ITEM_LIST);
            let name = match node.kind() {
                SyntaxKind::FN if !is_method => ast::Fn::cast(node).and_then(|it| it.name()),
                SyntaxKind::IDENT_PAT => ast::IdentPat::cast(node).and_then(|it| it.name()),
                _ => None,
            };
            if let Some(name) = name.map(|it| it.to_string()).filter(|name| name == "sleep") {
                found.insert(name, String::new());
            }
        }
        self.0.extend(found);
    }

    /// Returns the range of the path in a call, if the call sleeps.
    pub fn path_in(&self, call: &ast::CallExpr) -> Option<TextRange> {
        let Expr::PathExpr(callee) = call.expr()? else { return None };
        let path: String = callee.syntax().text().to_string().split_whitespace().collect();
        let path = path.trim_start_matches("::");
        let (first, rest) = path.split_once("::").map_or((path, ""), |(first, rest)| (first, rest));
        let whole = match (self.0.get(first), rest) {
            (Some(imported), "") => imported.clone(),
            (Some(imported), rest) => format!("{imported}::{rest}"),
            (None, _) => path.to_string(),
        };
        (whole == SLEEP).then(|| callee.syntax().text_range())
    }
}

fn note_tree(tree: &ast::UseTree, before: &str, found: &mut HashMap<String, String>) {
    let path = tree.path().map(|it| it.syntax().text().to_string().replace(' ', "")).unwrap_or_default();
    let path = path.trim_start_matches("::");
    let whole = match (before, path) {
        (before, "" | "self") => before.to_string(),
        ("", path) => path.to_string(),
        (before, path) => format!("{before}::{path}"),
    };
    if let Some(list) = tree.use_tree_list() {
        return list.use_trees().for_each(|tree| note_tree(&tree, &whole, found));
    }
    if tree.star_token().is_some() {
        if whole == "std::thread" {
            note(found, "sleep", SLEEP);
        }
        return;
    }
    let renamed = tree.rename().and_then(|it| it.name()).map(|it| it.to_string());
    let name = renamed.unwrap_or_else(|| whole.rsplit("::").next().unwrap_or_default().to_string());
    note(found, &name, &whole);
}

/// Notes an import. A name that a cell imports from two places is unknown.
fn note(found: &mut HashMap<String, String>, name: &str, path: &str) {
    let before = found.insert(name.to_string(), path.to_string());
    if before.is_some_and(|before| before != path) {
        found.insert(name.to_string(), String::new());
    }
}
