//! Drops variables whose type has changed before a cell reads them in the new layout. evcxr recognizes a type by its
//! name and the names of its fields, also if the fields have other types or another order in memory.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;

use ra_ap_syntax::ast::{self, AstNode, HasModuleItem};
use ra_ap_syntax::{NodeOrToken, SyntaxKind, SyntaxNode, WalkEvent};

use super::commands::commands;
use super::syntax;
use super::unnamed;
use crate::build::rustc::sources_have_changed;

/// Types that no import of all names of a module can hide.
const STANDARD: [&str; 16] = [
    "Arc", "BTreeMap", "BTreeSet", "Box", "Cell", "HashMap", "HashSet", "Mutex", "Option", "PathBuf", "Rc", "RefCell",
    "Result", "String", "Vec", "VecDeque",
];

/// The definitions of cells on which the layout of a variable can depend.
#[derive(Clone, Default)]
pub struct Layouts(HashMap<String, Definition>);

#[derive(Clone)]
struct Definition {
    /// The part that decides about the layout. Empty for an import.
    text: String,
    /// The names in it.
    names: Vec<String>,
}

/// A variable that a cell must not read.
pub struct Dropped {
    pub variable: String,
    of_type: String,
    /// The definition or the crate that has changed.
    cause: String,
}

impl Layouts {
    /// Returns the definitions after a cell.
    pub fn after(&self, code: &str) -> Self {
        let cleared = commands(code).any(|command| command.name == ":clear");
        let mut after = if cleared { Layouts::default() } else { self.clone() };
        for item in syntax::items(code) {
            if let Some((name, text)) = unnamed::name(&item).zip(layout(&item)) {
                after.0.insert(name, Definition { names: names(&text).map(String::from).collect(), text });
            } else if let ast::Item::Use(item) = &item {
                let imported = item.syntax().text().to_string();
                let names: Vec<String> = names(&imported).map(String::from).collect();
                // An import of all names of a module may be the origin of any name.
                let all = imported.contains('*').then(|| "*".to_string());
                for name in names.iter().cloned().chain(all) {
                    let definition = Definition { text: String::new(), names: names.clone() };
                    let known = after.0.entry(name.clone()).or_insert_with(|| definition.clone());
                    if name == "*" {
                        known.names.extend(definition.names);
                    } else if known.text.is_empty() {
                        *known = definition;
                    }
                }
            }
        }
        after
    }

    /// Returns the variables whose type depends on a definition that differs in `after`, or on a crate whose sources
    /// have changed. `variables` are names and types.
    pub fn dropped<'a>(&self, after: &Self, variables: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Dropped> {
        let mut variables = variables.peekable();
        if variables.peek().is_none() {
            return Vec::new();
        }
        let differs = |(name, old): &(&String, &Definition)| after.0.get(*name).is_some_and(|new| new.text != old.text);
        let mut changed: HashSet<String> = self.0.iter().filter(differs).map(|(name, _)| name.clone()).collect();
        changed.extend(changed_crates());
        let dropped = |(variable, of_type): (&str, &str)| {
            let (variable, of_type, cause) = (variable.into(), of_type.into(), self.cause(of_type, &changed)?.into());
            Some(Dropped { variable, of_type, cause })
        };
        variables.filter_map(dropped).collect()
    }

    /// Returns a changed name on which a type depends.
    fn cause<'a>(&'a self, of_type: &'a str, changed: &HashSet<String>) -> Option<&'a str> {
        let mut open: Vec<&str> = names(of_type).collect();
        let mut seen = HashSet::new();
        while let Some(name) = open.pop() {
            if changed.contains(name) {
                return Some(name);
            }
            if !seen.insert(name) {
                continue;
            }
            match self.0.get(name) {
                Some(definition) => open.extend(definition.names.iter().map(String::as_str)),
                None if STANDARD.contains(&name) || !name.starts_with(char::is_uppercase) => {}
                None => open.extend(self.0.get("*").into_iter().flat_map(|it| &it.names).map(String::as_str)),
            }
        }
        None
    }
}

impl Dropped {
    /// Returns the sentence that tells the user.
    pub fn sentence(&self) -> String {
        let Dropped { variable, of_type, cause } = self;
        format!(
            "The variable `{variable}` of type `{of_type}` was dropped, because `{cause}` has changed. Run its cell again.\n"
        )
    }
}

/// Returns the crates of the cell's package that have sources on this machine, if any of these sources has changed.
fn changed_crates() -> Vec<String> {
    let Some(folder) = std::env::var_os("EVCXR_TMPDIR").map(PathBuf::from) else { return Vec::new() };
    if !sources_have_changed(&folder) {
        return Vec::new();
    }
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]");
    let local = dependencies.filter(|line| line.contains("path")).filter_map(|line| line.split_once('='));
    local.map(|(name, _)| name.trim().replace('-', "_")).collect()
}

/// Returns the tokens of an item that decide about the layout of types and trait objects. `None` if it has none.
fn layout(item: &ast::Item) -> Option<String> {
    match item {
        ast::Item::Const(_)
        | ast::Item::Enum(_)
        | ast::Item::Struct(_)
        | ast::Item::Trait(_)
        | ast::Item::TypeAlias(_)
        | ast::Item::Union(_) => Some(layout_tokens(item.syntax())),
        ast::Item::Module(module) => {
            let items = module.item_list()?.items();
            Some(items.filter_map(|item| layout(&item)).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }
}

fn layout_tokens(item: &SyntaxNode) -> String {
    let is_skipped = |node: &SyntaxNode| match node.kind() {
        SyntaxKind::ATTR => !node.text().to_string().contains("repr"),
        // For rustc, a field with another visibility makes another type.
        SyntaxKind::VISIBILITY => node.parent().as_ref() == Some(item),
        SyntaxKind::BLOCK_EXPR => node.parent().is_some_and(|parent| parent.kind() == SyntaxKind::FN),
        _ => false,
    };
    let mut text = String::new();
    let mut walk = item.preorder_with_tokens();
    while let Some(event) = walk.next() {
        match event {
            WalkEvent::Enter(NodeOrToken::Node(node)) if is_skipped(&node) => walk.skip_subtree(),
            WalkEvent::Enter(NodeOrToken::Token(token)) if !token.kind().is_trivia() => {
                text += token.text();
                text.push(' ');
            }
            _ => {}
        }
    }
    text
}

/// Returns the names in a text.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the name of whose change a variable of this type is dropped, after two cells.
    fn cause(first: &str, second: &str, of_type: &str) -> Option<String> {
        let before = Layouts::default().after(first);
        let dropped = before.dropped(&before.after(second), [("x", of_type)].into_iter());
        dropped.into_iter().next().map(|it| it.cause)
    }

    #[test]
    fn a_changed_layout_is_found_through_definitions_and_imports() {
        let cells = "struct A { x: i32 }\nstruct B(Vec<A>);\ntype C = B;\nconst N: usize = 2;\nstruct D([u8; N]);\n\
            trait T { fn f(&self); fn g(&self) { 1 } }\nmod m { pub struct E { x: u8 } }\nuse m::E;\nuse m::*;";
        for (second, of_type, changed) in [
            ("struct A { x: i64 }", "A", "A"),
            ("struct A { y: u8, x: i32 }", "Option<C>", "A"),
            ("const N: usize = 3;", "D", "N"),
            ("#[repr(C)] struct A { x: i32 }", "std::rc::Rc<A>", "A"),
            ("trait T { fn g(&self) { 1 } fn f(&self); }", "Box<dyn T>", "T"),
            ("mod m { pub struct E { x: u16 } }", "E", "m"),
            ("mod m { pub struct E { x: u16 } }", "Other", "m"),
        ] {
            assert_eq!(cause(cells, second, of_type).as_deref(), Some(changed), "{second}");
        }
        for (second, of_type) in [
            (cells, "(A, B, C, D, E)"),
            ("/// Text.\n#[derive(Debug)]\npub struct A {\n    x: i32\n}", "A"),
            ("struct A { x: i64 }", "Box<dyn T>"),
            ("trait T { fn f(&self); fn g(&self) { 2 } }", "Box<dyn T>"),
            ("mod m { pub struct E { x: u8 } fn f() {} }", "E"),
            ("mod m { pub struct E { x: u16 } }", "Vec<i32>"),
            (":clear\nstruct A { x: i64 }", "D"),
        ] {
            assert_eq!(cause(cells, second, of_type), None, "{second}");
        }
    }
}
