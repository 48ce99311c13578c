//! Completions and descriptions from names alone: variables, items, keywords and the words of the notebook's cells.
//! rust-analyzer, which knows more, can't be asked while a cell runs, because evcxr needs it for the cell.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use evcxr::CommandContext;
use ra_ap_syntax::ast::{self, AstNode, HasName};
use ra_ap_syntax::{SyntaxKind, SyntaxNode, SyntaxToken};
use serde_json::{Value, json};

use super::analysis::{byte_of, character_of};
use super::syntax::parse;

const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false", "fn",
    "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self", "Self",
    "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
];
/// Most lines of an item that are shown.
const MAX_LINES: usize = 30;

/// The names in a notebook.
#[derive(Default)]
pub struct Names {
    /// The cells so far, including the running one.
    cells: Vec<String>,
    /// Each variable and its type.
    variables: BTreeMap<String, String>,
    /// The items that evcxr keeps.
    items: BTreeSet<String>,
    /// The kind of an item or method, as Jupyter names it, and its source.
    sources: HashMap<String, (&'static str, String)>,
}

/// The place of a name, by the characters before it.
#[derive(Debug, PartialEq)]
enum Place {
    /// After `.`
    Member,
    /// After `::`, with the name before that.
    Path(String),
    Plain,
}

impl Names {
    /// Adds a cell that begins.
    pub fn add_cell(&mut self, code: &str) {
        self.cells.push(code.to_string());
    }

    /// Notes what the last cell has changed.
    pub fn end_cell(&mut self, context: &CommandContext, succeeded: bool) {
        self.variables = context.variables_and_types().map(|(name, kind)| (name.into(), kind.into())).collect();
        self.items = context.defined_item_names().map(String::from).collect();
        if let Some(cell) = self.cells.last().filter(|_| succeeded) {
            self.sources.extend(item_sources(&parse(cell).syntax_node()));
        }
    }

    /// Returns the content of a `complete_reply`. Positions are in characters.
    pub fn complete(&self, code: &str, cursor: usize) -> Value {
        let end = byte_of(code, cursor);
        let before = &code[..end];
        let start = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let prefix = &before[start..];
        let found = self.candidates(code, place(&before[..start]), prefix);
        let (start, end) = (character_of(code, start), character_of(code, end));
        let types = found.iter().map(|(name, kind)| json!({ "text": name, "type": kind, "start": start, "end": end }));
        let metadata = json!({ "_jupyter_types_experimental": types.collect::<Vec<_>>() });
        let matches: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        json!({ "status": "ok", "matches": matches, "cursor_start": start, "cursor_end": end, "metadata": metadata })
    }

    /// Returns the names that begin with a prefix, and their kinds, the likely ones first.
    fn candidates(&self, code: &str, place: Option<Place>, prefix: &str) -> Vec<(String, &'static str)> {
        let Some(place) = place else { return Vec::new() };
        let mut found: Vec<(String, &'static str)> = Vec::new();
        if place == Place::Plain {
            found.extend(self.variables.keys().map(|name| (name.clone(), "instance")));
            found.extend(self.items.iter().map(|name| (name.clone(), self.kind(name))));
        }
        // Without a prefix, every word would match.
        if place != Place::Plain || !prefix.is_empty() {
            let texts = self.cells.iter().map(String::as_str).chain([code]);
            let words: BTreeSet<String> = texts.flat_map(|text| words(text, &place)).collect();
            found.extend(words.into_iter().map(|word| (word.clone(), self.kind(&word))));
        }
        if place == Place::Plain && !prefix.is_empty() {
            found.extend(KEYWORDS.iter().map(|word| (word.to_string(), "keyword")));
        }
        let mut seen = BTreeSet::new();
        found.retain(|(name, _)| name.starts_with(prefix) && name != prefix && seen.insert(name.clone()));
        found
    }

    fn kind(&self, name: &str) -> &'static str {
        self.sources.get(name).map_or("instance", |(kind, _)| kind)
    }

    /// Returns the content of an `inspect_reply`.
    pub fn inspect(&self, code: &str, cursor: usize) -> Value {
        let at = byte_of(code, cursor);
        let in_name = |c: char| c.is_alphanumeric() || c == '_';
        let start = code[..at].trim_end_matches(in_name).len();
        let end = code[at..].find(|c| !in_name(c)).map_or(code.len(), |length| at + length);
        let name = &code[start..end];
        let text = match (self.variables.get(name), self.sources.get(name)) {
            (Some(kind), _) if place(&code[..start]) == Some(Place::Plain) => format!("{name}: {kind}"),
            (_, Some((_, source))) => source.clone(),
            _ if name.is_empty() => return json!({ "status": "ok", "found": false, "data": {}, "metadata": {} }),
            _ => format!("The documentation of `{name}` can be shown when the running cell has ended."),
        };
        json!({ "status": "ok", "found": true, "data": { "text/plain": text }, "metadata": {} })
    }
}

/// Returns the place of a name that follows a text. `None` in a command for evcxr or the shell.
fn place(before: &str) -> Option<Place> {
    let line = before.lines().next_back().unwrap_or_default();
    if line.trim_start().starts_with(':') || line.starts_with('!') {
        return None;
    }
    let before = before.trim_end();
    Some(if let Some(path) = before.strip_suffix("::") {
        Place::Path(path[path.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len()..].to_string())
    } else if before.ends_with('.') && !before.ends_with("..") {
        Place::Member
    } else {
        Place::Plain
    })
}

/// Returns the names in a cell that have a place, outside of strings and comments.
fn words(code: &str, place: &Place) -> Vec<String> {
    let parsed = parse(code).syntax_node();
    let tokens = parsed.descendants_with_tokens().filter_map(|it| it.into_token());
    let tokens: Vec<SyntaxToken> = tokens.filter(|token| !token.kind().is_trivia()).collect();
    let mut found = Vec::new();
    // The first tokens are those of the function around the cell.
    for (index, token) in tokens.iter().enumerate().skip(2) {
        if token.kind() != SyntaxKind::IDENT {
            continue;
        }
        // Macros contain `::` as two tokens.
        let before = |back: usize| index.checked_sub(back).map_or("", |index| tokens[index].text());
        let path = match (before(1), before(2)) {
            ("::", name) => Some(name),
            (":", ":") => Some(before(3)),
            _ => None,
        };
        let fits = match place {
            Place::Member => before(1) == "." || defines_member(token),
            Place::Path(name) => path == Some(name),
            Place::Plain => before(1) != ".",
        };
        if fits {
            found.push(token.text().to_string());
        }
    }
    found
}

/// Returns whether a name defines a field or a method.
fn defines_member(token: &SyntaxToken) -> bool {
    let Some(definition) = token.parent().and_then(|name| name.parent()) else { return false };
    let is_method = || definition.parent().is_some_and(|it| it.kind() == SyntaxKind::ASSOC_ITEM_LIST);
    match definition.kind() {
        SyntaxKind::RECORD_FIELD => true,
        SyntaxKind::FN => is_method(),
        _ => false,
    }
}

/// Returns the items and methods of a cell by name: their kinds, and their sources without bodies.
fn item_sources(cell: &SyntaxNode) -> Vec<(String, (&'static str, String))> {
    let mut found = Vec::new();
    // The first function is the one around the cell.
    for item in cell.descendants().filter_map(ast::Item::cast).skip(1) {
        let (name, kind) = match &item {
            ast::Item::Fn(it) => (it.name(), "function"),
            ast::Item::MacroRules(it) => (it.name(), "function"),
            ast::Item::Struct(it) => (it.name(), "class"),
            ast::Item::Enum(it) => (it.name(), "class"),
            ast::Item::Union(it) => (it.name(), "class"),
            ast::Item::Trait(it) => (it.name(), "class"),
            ast::Item::TypeAlias(it) => (it.name(), "class"),
            ast::Item::Module(it) => (it.name(), "module"),
            ast::Item::Const(it) => (it.name(), "instance"),
            ast::Item::Static(it) => (it.name(), "instance"),
            _ => (None, ""),
        };
        let Some(name) = name else { continue };
        let text = item.syntax().text().to_string();
        let body = match &item {
            ast::Item::Fn(it) => it.body().map(|body| body.syntax().text_range().start()),
            _ => None,
        };
        let length = body.map_or(text.len(), |body| usize::from(body - item.syntax().text_range().start()));
        let lines: Vec<&str> = text[..length].trim_end().lines().take(MAX_LINES).collect();
        found.push((name.text().to_string(), (kind, lines.join("\n"))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: &str = ":dep a = \"1\"\n/// Doubles ä.\nfn double(n: i32) -> i32 { let inner = \"quoted\"; inner.len(); 2 * n }\nstruct Point { width: f32 }\nimpl Point { fn area(&self) -> f32 { 1.0 } }\nlet epochs = vec![HashMap::with_capacity(1)]; // remark\nTensor::zeros(1).matmul_all(epochs);";

    fn names() -> Names {
        let mut names = Names::default();
        names.add_cell(CELL);
        names.variables.insert("epochs".into(), "Vec<HashMap<i32, i32>>".into());
        names.items.extend(["double".into(), "Point".into()]);
        names.sources.extend(item_sources(&parse(CELL).syntax_node()));
        names
    }

    #[test]
    fn names_are_completed_by_their_place() {
        let names = names();
        // `|` is the cursor.
        for (code, expected) in [
            ("let ä = ep|", vec!["epochs"]),
            ("let ä = ep|ochs", vec!["epochs"]),
            ("dou|", vec!["double"]),
            ("Tensor::ze|", vec!["zeros"]),
            ("Tensor::|", vec!["zeros"]),
            ("HashMap::w|", vec!["with_capacity"]),
            ("Other::ze|", vec![]),
            ("x.|", vec!["area", "len", "matmul_all", "width"]),
            ("x\n    .ma|", vec!["matmul_all"]),
            ("0..ep|", vec!["epochs"]),
            ("|", vec!["epochs", "Point", "double"]),
            ("lo|", vec!["loop"]),
            ("quo|", vec![]),
            ("rem|", vec![]),
            ("cel|", vec![]),
            (":de|", vec![]),
            ("let own = 1; ow|", vec!["own"]),
        ] {
            let cursor = code.chars().position(|c| c == '|').unwrap();
            let reply = names.complete(&code.replace('|', ""), cursor);
            assert_eq!(reply["matches"], json!(expected), "{code}");
            let start = reply["cursor_start"].as_u64().unwrap() as usize;
            let typed: String = code.chars().take(cursor).skip(start).collect();
            assert!(expected.iter().all(|name| name.starts_with(&typed)) && !typed.contains([' ', '.', ':']), "{code}");
        }
    }

    #[test]
    fn variables_have_their_type_and_items_their_source() {
        let names = names();
        let text = |code: &str, cursor| names.inspect(code, cursor)["data"]["text/plain"].clone();
        assert_eq!(text("epochs.len()", 2), "epochs: Vec<HashMap<i32, i32>>");
        assert_eq!(text("double(1)", 6), "/// Doubles ä.\nfn double(n: i32) -> i32");
        assert_eq!(text("p.area()", 3), "fn area(&self) -> f32");
        assert_eq!(text("Point", 0), "struct Point { width: f32 }");
        assert!(text("HashMap", 3).as_str().unwrap().contains("`HashMap`"));
        assert!(text("x.epochs", 4).as_str().unwrap().contains("when the running cell has ended"));
        assert_eq!(names.inspect("1 + 1", 2)["found"], false);
    }
}
