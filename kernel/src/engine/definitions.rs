//! Keeps the definitions of a cell that ended its process. evcxr forgets them, because it keeps a cell's functions, types
//! and dependencies only when its run is complete.

use ra_ap_syntax::ast::{self, AstNode};

use super::commands::commands;
use super::syntax::statements;

/// Commands whose effect isn't part of the state that evcxr keeps with a cell's definitions.
const DONE: [&str; 7] = ["!", ":clear", ":env", ":load_config", ":quit", ":restart", ":timing"];

/// Returns the part of a cell that defines something, without the code that runs. `None` if the cell has no such part.
pub fn definitions(code: &str) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(commands(code).filter(|it| !DONE.contains(&it.name)).map(|it| it.line.to_string()));
    for node in statements(code).into_iter().flat_map(|list| list.syntax().children()) {
        if ast::Item::can_cast(node.kind()) || ast::Attr::can_cast(node.kind()) {
            lines.push(node.text().to_string());
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_runs_is_left_out() {
        let cell = "// Why.\n:dep a = \"1\"\n!ls\n:clear\n#![allow(unused)]\nuse a::b;\nlet x = 1;\n/// Text.\nfn f() {}\nimpl A {}\nf();\nx";
        let kept = ":dep a = \"1\"\n#![allow(unused)]\nuse a::b;\n/// Text.\nfn f() {}\nimpl A {}";
        assert_eq!(definitions(cell).as_deref(), Some(kept));
        assert_eq!(definitions("!ls\nlet x = 1;\nstd::process::exit(3);"), None);
    }
}
