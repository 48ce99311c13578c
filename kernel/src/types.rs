//! What evcxr's rust-analyzer needs to find the types of variables: the standard library and what a cell can name of the crates.
//! To read them takes seconds. A kernel begins without, so that the cell that brings the crates in doesn't wait for them, and
//! reads them when nobody waits, at the latest for the first cell that has a variable.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use evcxr::CommandContext;
use ra_ap_syntax::ast::{self, AstNode};
use ra_ap_syntax::{Edition, SourceFile};

/// Names the link by which rust-analyzer finds the standard library.
const LINK: &str = "RUST_SRC_PATH";
/// Names what it is to lead to; not set where it does from the beginning.
const LIBRARY: &str = "VITLAB_RUST_SRC";

/// What is still to be read.
pub struct Types {
    library: Option<(PathBuf, PathBuf)>,
    /// Or tried.
    pub read: bool,
}

impl Types {
    pub fn new() -> Self {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        Types { library: path(LINK).zip(path(LIBRARY)), read: false }
    }

    /// A cell that brings crates in leaves something to read.
    pub fn ran(&mut self, code: &str) {
        self.read &= !code.lines().any(|line| line.trim_start().starts_with(":dep"));
    }

    /// Shows rust-analyzer the standard library, if it doesn't see it yet.
    pub fn show_library(&mut self, context: &mut CommandContext) {
        let Some((link, library)) = self.library.take() else {
            return;
        };
        if fs::remove_file(&link).and_then(|()| symlink(library, &link)).is_ok() {
            // evcxr looks again when its manifest is another one, be it by a space. The level has no effect here.
            let _ = context.execute(":opt 2 ");
        }
    }

    /// Reads all of it: for the methods of a vector, rust-analyzer searches every crate.
    pub fn read(&mut self, context: &mut CommandContext) {
        const CODE: &str = "vec![1].";
        self.show_library(context);
        let _ = context.completions(CODE, CODE.len());
    }
}

/// Whether a cell has variables of its own, whose types evcxr has to find.
pub fn are_needed(code: &str) -> bool {
    let wrapped = format!("fn cell() {{{code}\n}}");
    let file = SourceFile::parse(&wrapped, Edition::CURRENT).tree();
    let has_variables =
        |it: ast::Fn| it.body().is_some_and(|it| it.statements().any(|it| matches!(it, ast::Stmt::LetStmt(_))));
    let mut functions = file.syntax().children().filter_map(ast::Fn::cast);
    functions.next().is_none_or(has_variables)
}

#[cfg(test)]
mod tests {
    use super::are_needed;

    #[test]
    fn types_are_needed_of_variables_at_the_top_alone() {
        for code in ["let a = 1;", ":dep b = \"1\"\nuse b::c;\nlet d = c();", "f();\nlet (a, b) = g();"] {
            assert!(are_needed(code), "{code}");
        }
        for code in [
            "",
            ":dep b = \"1\"\nuse b::c;",
            "for i in 0..3 { let a = i; }",
            "fn f() { let a = 1; }",
            "println!(\"let a = 1;\")",
        ] {
            assert!(!are_needed(code), "{code}");
        }
    }
}
