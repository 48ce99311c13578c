//! Hints for code that works otherwise in a program. Each is given once.

use std::collections::HashSet;

use ra_ap_syntax::ast::{self, AstNode, HasName};

use super::failure::Failure;
use super::items;
use super::syntax::statements;

/// Types by which a static keeps a state.
const STATES: [&str; 9] = ["Mutex", "RwLock", "Atomic", "OnceLock", "LazyLock", "OnceCell", "LazyCell", "Lazy", "Cell"];
/// Functions that set a static of their crate, for the whole program.
const GLOBAL: [&str; 5] =
    ["build_global", "set_boxed_logger", "set_global_default", "set_global_recorder", "set_logger"];

/// The hints that were given.
#[derive(Default)]
pub struct Hints {
    given: HashSet<&'static str>,
    /// Whether the cells share the statics of dependencies.
    shares_statics: bool,
}

impl Hints {
    /// Returns the hints for a cell that weren't given before.
    pub fn of(&mut self, code: &str) -> Vec<String> {
        let Some(list) = statements(code) else { return Vec::new() };
        let mut hints = Vec::new();
        if let Some(value) = code.lines().find_map(|line| line.trim().strip_prefix(":allow_static_linking ")) {
            self.shares_statics = value.trim() != "1";
        }
        if let Some(name) = list.syntax().children().find_map(|node| stateful_static(&node))
            && self.given.insert("static")
        {
            hints.push(format!(
                "note: each cell is a library of its own, in which the static `{name}` begins anew. A variable keeps its state over cells, for example `let state = std::sync::Arc::new(std::sync::Mutex::new(0));`\n"
            ));
        }
        if let Some(name) = list.syntax().descendants().find_map(|node| global_call(&node))
            && !self.shares_statics
            && self.given.insert("global")
        {
            hints.push(format!(
                "note: `{name}` sets a static of its crate, of which each cell has a copy, so it has an effect in this cell alone. After `:allow_static_linking 0`, which builds all dependencies anew, the cells share them\n"
            ));
        }
        if code.lines().any(|line| line.trim_start().starts_with(":opt")) && self.given.insert("level") {
            hints.push("note: `:opt` sets the level of the cells. Dependencies keep that of the set-up\n".into());
        }
        hints
    }
}

/// Says what to do about a panic for which the copies of a crate's statics are the reason.
pub fn explain(mut failure: Failure) -> Failure {
    if failure.value.contains("injected && !worker_thread.is_null()") {
        failure.details.push(
            "  help: each cell has a copy of rayon's statics, so it can't use the thread pool of an earlier cell. After `:allow_static_linking 0`, which builds all dependencies anew, the cells share them".into(),
        );
    }
    failure
}

/// Returns the name of a static that keeps a state.
fn stateful_static(node: &ra_ap_syntax::SyntaxNode) -> Option<String> {
    if let Some(call) = items::statics_of(node) {
        let tokens = call.token_tree()?.syntax().children_with_tokens().filter_map(|it| it.into_token());
        let mut names = tokens.skip_while(|token| token.text() != "static").skip(1);
        return names.find(|it| !it.kind().is_trivia() && it.text() != "ref").map(|it| it.text().to_string());
    }
    let item = ast::Static::cast(node.clone())?;
    let kind = item.ty()?.syntax().text().to_string();
    let has_state = item.mut_token().is_some()
        || kind
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| STATES.iter().any(|state| word == *state || (*state == "Atomic" && word.starts_with(state))));
    has_state.then(|| item.name().map(|name| name.syntax().text().to_string())).flatten()
}

/// Returns the name of a called function that sets a static of its crate.
fn global_call(node: &ra_ap_syntax::SyntaxNode) -> Option<String> {
    let called = if let Some(call) = ast::MethodCallExpr::cast(node.clone()) {
        call.name_ref()?.syntax().text().to_string()
    } else {
        let ast::Expr::PathExpr(path) = ast::CallExpr::cast(node.clone())?.expr()? else { return None };
        let path = path.syntax().text().to_string();
        if ["env_logger::init", "tracing_subscriber::fmt::init"].iter().any(|it| path.ends_with(it)) {
            return Some(path);
        }
        path.rsplit("::").next()?.to_string()
    };
    GLOBAL.contains(&called.as_str()).then_some(called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_given_once_for_what_keeps_a_state() {
        for code in [
            "static A: Mutex<i32> = Mutex::new(1);",
            "f();\nstatic A: std::sync::LazyLock<Vec<i32>> = LazyLock::new(Vec::new);",
            "pub static A: AtomicU64 = AtomicU64::new(1);",
            "static mut A: i32 = 1;",
            "thread_local! { /* a */ static A: i32 = 1; }",
            "lazy_static::lazy_static! { static ref A: i32 = 1; }",
        ] {
            let mut hints = Hints::default();
            assert!(hints.of(code).concat().contains("`A`"), "{code}");
            assert_eq!(hints.of(code), [""; 0]);
        }
        for code in ["pool.build_global()?;", "log::set_logger(&A);\n1", "let a = { env_logger::init(); 1 };", ":opt 3"]
        {
            assert_eq!(Hints::default().of(code).len(), 1, "{code}");
        }
        for code in
            ["static A: i32 = 1;", "static A: &str = \"Mutex\";", "fn f() { static A: AtomicBool = B; }", "init();"]
        {
            assert_eq!(Hints::default().of(code), [""; 0], "{code}");
        }
        let mut shared = Hints::default();
        shared.of(":allow_static_linking 0");
        assert_eq!(shared.of("pool.build_global()?;"), [""; 0]);
    }
}
