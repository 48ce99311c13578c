//! Loads the sources by which evcxr's rust-analyzer finds the types of variables: the standard library and the crates
//! that a cell can name. Loading takes seconds, so it waits until the engine is idle, or until the first cell that
//! defines a variable.

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use evcxr::CommandContext;
use ra_ap_syntax::ast;

use super::syntax;

/// Names the link by which rust-analyzer finds the standard library.
const LINK: &str = "RUST_SRC_PATH";
/// Names the standard library's sources. Unset if the link leads there already.
const LIBRARY: &str = "VITLAB_RUST_SRC";

/// The state of loading.
pub struct TypeLoader {
    /// The link and its future target, until it is set.
    library: Option<(PathBuf, PathBuf)>,
    /// Whether everything is loaded, or loading has failed.
    pub done: bool,
}

impl TypeLoader {
    pub fn new() -> Self {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        TypeLoader { library: path(LINK).zip(path(LIBRARY)), done: false }
    }

    /// Notes that a cell ran. A cell that added a crate makes loading necessary again.
    pub fn cell_ran(&mut self, code: &str) {
        self.done &= !code.lines().any(|line| line.trim_start().starts_with(":dep"));
    }

    /// Makes the standard library visible to rust-analyzer, once.
    pub fn show_library(&mut self, context: &mut CommandContext) {
        let Some((link, library)) = self.library.take() else { return };
        if fs::remove_file(&link).and_then(|()| symlink(library, &link)).is_ok() {
            // evcxr reads the link again when its manifest changes. The additional space is such a change, the level
            // isn't.
            let _ = context.execute(":opt 2 ");
        }
    }

    /// Makes rust-analyzer read every crate: it searches all of them for the methods of a vector.
    pub fn load(&mut self, context: &mut CommandContext) {
        const CODE: &str = "vec![1].";
        self.done = true;
        // Cells run even if rust-analyzer panics.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.show_library(context);
            let _ = context.completions(CODE, CODE.len());
        }));
    }
}

/// Returns whether a cell defines variables, whose types evcxr has to find.
pub fn defines_variables(code: &str) -> bool {
    let is_let = |statement| matches!(statement, ast::Stmt::LetStmt(_));
    syntax::statements(code).is_none_or(|list| list.statements().any(is_let))
}

#[cfg(test)]
mod tests {
    use super::defines_variables;

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
}
