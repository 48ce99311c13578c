//! Items that evcxr would take for something else: `extern crate alloc` for a crate of crates.io, `thread_local!` for an
//! expression. Also `#[tokio::main]`, which panics inside of evcxr's runtime.

use ra_ap_syntax::ast::{self, AstNode, HasAttrs, HasGenericParams, HasName};
use ra_ap_syntax::{NodeOrToken, SyntaxKind, SyntaxNode, SyntaxToken, T, TextRange, TextSize};

use super::rewrite::{Edit, Piece};
use super::syntax::{range_in_cell, statements};

/// The crates that come with the compiler.
const BUILT_IN: [&str; 6] = ["alloc", "core", "proc_macro", "self", "std", "test"];
/// Macros that define statics.
pub const STATIC_MACROS: [&str; 2] = ["thread_local", "lazy_static"];

/// Returns the edits that make evcxr keep such items, or let them work.
pub fn edits(code: &str) -> Vec<Edit> {
    let Some(list) = statements(code) else { return Vec::new() };
    let nodes = list.syntax().children();
    nodes
        .flat_map(|node| {
            built_in_crate(&node).or_else(|| static_macro(&node)).or_else(|| tokio_main(&node)).unwrap_or_default()
        })
        .collect()
}

/// Puts `extern crate` into a module. evcxr would add a dependency for one at the top.
fn built_in_crate(node: &SyntaxNode) -> Option<Vec<Edit>> {
    let item = ast::ExternCrate::cast(node.clone())?;
    let name = item.name_ref()?.syntax().text().to_string();
    if !BUILT_IN.contains(&name.as_str()) {
        return None;
    }
    let visible = item.rename().and_then(|it| it.name()).map_or(name, |it| it.syntax().text().to_string());
    let keyword = item.extern_token()?.text_range().start();
    // Attributes, such as `macro_use`, and the visibility are for the top.
    Some(vec![
        replace(TextRange::new(start(node), keyword), format!("pub mod extern_{visible} {{ pub ")),
        insert(node.text_range().end(), format!(" }} pub use extern_{visible}::{visible};")),
    ])
}

/// Puts a macro that defines statics into a module, so that evcxr keeps it as an item.
fn static_macro(node: &SyntaxNode) -> Option<Vec<Edit>> {
    let call = statics_of(node)?;
    let tokens: Vec<SyntaxToken> = call
        .token_tree()?
        .syntax()
        .children_with_tokens()
        .filter_map(NodeOrToken::into_token)
        .filter(|token| !token.kind().is_trivia())
        .collect();
    let (mut names, mut edits) = (Vec::new(), Vec::new());
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind() == T![static]) {
        let mut after = tokens[index + 1..].iter().filter(|token| token.text() != "ref");
        names.push(after.next().filter(|token| token.kind() == SyntaxKind::IDENT)?.text().to_string());
        let visible = token.prev_sibling_or_token().is_some_and(|_| tokens[index - 1].kind() == T![pub]);
        if !visible {
            edits.push(insert(token.text_range().start(), "pub(super) ".into()));
        }
    }
    let module = format!("statics_{}", names.first()?.to_lowercase());
    edits.push(insert(call.syntax().text_range().start(), format!("mod {module} {{ use super::*; ")));
    let semicolon = if node.text().to_string().trim_end().ends_with([';', '}']) { "" } else { ";" };
    edits.push(insert(node.text_range().end(), format!("{semicolon} }} use {module}::{{{}}};", names.join(", "))));
    Some(edits)
}

/// Returns the macro call of a statement that defines statics.
pub fn statics_of(node: &SyntaxNode) -> Option<ast::MacroCall> {
    let call = match node.kind() {
        SyntaxKind::MACRO_CALL => ast::MacroCall::cast(node.clone())?,
        SyntaxKind::MACRO_EXPR => ast::MacroExpr::cast(node.clone())?.macro_call()?,
        SyntaxKind::EXPR_STMT => return node.children().find_map(|node| statics_of(&node)),
        _ => return None,
    };
    let name = call.path()?.segment()?.name_ref()?.syntax().text().to_string();
    STATIC_MACROS.contains(&name.as_str()).then_some(call)
}

/// Runs the function's own runtime where blocking is allowed: cells after the first `.await` run inside of evcxr's.
fn tokio_main(node: &SyntaxNode) -> Option<Vec<Edit>> {
    let function = ast::Fn::cast(node.clone())?;
    let is_main = |attribute: &ast::Attr| {
        let path = attribute.path().map(|path| path.syntax().text().to_string().replace(' ', ""));
        path.is_some_and(|path| path == "tokio::main" || path == "::tokio::main")
    };
    function.attrs().find(is_main)?;
    let has_parameters = function.param_list().is_none_or(|list| list.params().next().is_some());
    if has_parameters || function.generic_param_list().is_some() {
        return None;
    }
    let name = function.name()?.syntax().text().to_string();
    let result = function.ret_type().map(|it| format!("{} ", it.syntax().text())).unwrap_or_default();
    Some(vec![
        insert(start(node), format!("fn {name}() {result}{{ ")),
        insert(node.text_range().end(), format!(" tokio::task::block_in_place({name}) }}")),
    ])
}

/// Returns where an item begins after its comments.
fn start(node: &SyntaxNode) -> TextSize {
    let first = node.children_with_tokens().find(|element| !element.kind().is_trivia());
    first.map_or(node.text_range().start(), |element| element.text_range().start())
}

fn replace(range: TextRange, text: String) -> Edit {
    Edit { range: range_in_cell(range), pieces: vec![Piece::Added(text)] }
}

fn insert(at: TextSize, text: String) -> Edit {
    replace(TextRange::empty(at), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rewrite::Rewritten;

    #[test]
    fn only_items_that_evcxr_mistakes_are_edited() {
        for (cell, edited) in [
            ("extern crate alloc;", "pub mod extern_alloc { pub extern crate alloc; } pub use extern_alloc::alloc;"),
            (
                "#[macro_use]\npub extern crate core as c;\nc::f();",
                "pub mod extern_c { pub extern crate core as c; } pub use extern_c::c;\nc::f();",
            ),
            ("extern crate rand;", "extern crate rand;"),
            (
                "thread_local! {\n    static A: Cell<i32> = Cell::new(1);\n    pub static B: i32 = 2;\n}",
                "mod statics_a { use super::*; thread_local! {\n    pub(super) static A: Cell<i32> = Cell::new(1);\n    pub static B: i32 = 2;\n} } use statics_a::{A, B};",
            ),
            (
                "let a = 1;\nlazy_static::lazy_static! { static ref L: i32 = 1; }\n*L",
                "let a = 1;\nmod statics_l { use super::*; lazy_static::lazy_static! { pub(super) static ref L: i32 = 1; } } use statics_l::{L};\n*L",
            ),
            (
                "std::thread_local!(static A: i32 = 1);",
                "mod statics_a { use super::*; std::thread_local!(pub(super) static A: i32 = 1); } use statics_a::{A};",
            ),
            ("println!(\"static A\")", "println!(\"static A\")"),
            (
                "/// Runs.\n#[tokio::main]\nasync fn main() -> Result<(), E> { f().await }\nmain()",
                "/// Runs.\nfn main() -> Result<(), E> { #[tokio::main]\nasync fn main() -> Result<(), E> { f().await } tokio::task::block_in_place(main) }\nmain()",
            ),
            ("#[tokio::main]\nasync fn run(n: i32) {}", "#[tokio::main]\nasync fn run(n: i32) {}"),
            ("async fn main() {}", "async fn main() {}"),
        ] {
            assert_eq!(Rewritten::new(cell, edits(cell)).text, edited);
        }
    }
}
