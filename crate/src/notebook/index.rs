//! The index of source files: the items that they declare, with their lines. `syn` parses the files.

use std::ops::Range;

use syn::spanned::Spanned;
use syn::{Ident, ImplItem, Item, ItemMod, Type};

/// Consecutive lines of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Path below `crate/src`, such as `model/vit.rs`.
    pub file: String,
    /// Number of the first line, counted from 1.
    pub line: usize,
    pub text: String,
}

/// A declaration, an `impl` block or an associated item. Entries with equal paths form one listing.
#[derive(Debug)]
pub struct Entry {
    /// Such as `model::vit`. An `impl` block has the module of its type.
    pub module: String,
    /// Such as `forward_blocks`, `Encoder` or `Encoder::forward`. An `impl` block has the name of its type.
    pub name: String,
    pub part: Part,
}

impl Entry {
    pub fn path(&self) -> String {
        format!("{}::{}", self.module, self.name).trim_start_matches("::").to_string()
    }

    /// Whether `query` is the item's name, or some of its modules in their order and then its name.
    pub fn matches(&self, query: &str) -> bool {
        let (query, name) = (format!("::{query}"), format!("::{}", self.name));
        let mut modules = self.module.split("::");
        let in_order = |path: &str| path.split("::").skip(1).all(|wanted| modules.any(|module| module == wanted));
        query.strip_suffix(&name).is_some_and(in_order)
    }
}

/// Indexes the Rust files among these, each given as (path below `src`, text). A type comes before its `impl` blocks.
///
/// # Panics
/// If a file is not valid Rust.
pub fn index(files: &[(String, &str)]) -> Vec<Entry> {
    let (mut declared, mut implemented) = (Vec::new(), Vec::new());
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{path} is no valid Rust: {error}"));
        let module = match path.trim_end_matches(".rs") {
            "lib" => String::new(),
            module => module.trim_end_matches("/mod").replace('/', "::"),
        };
        let file = SourceFile { path, lines: text.lines().collect() };
        file.add_items(&module, &syntax.items, &mut declared, &mut implemented);
    }
    // An `impl` block can be in another module than its type, and types of several modules can have one name.
    for entry in &mut implemented {
        let target = entry.name.split("::").next().unwrap_or_default();
        let modules = declared.iter().filter(|entry| entry.name == target).map(|entry| &entry.module);
        let own = || entry.module.split("::");
        let common = |module: &str| module.split("::").zip(own()).take_while(|(a, b)| a == b).count();
        if let Some(nearest) = modules.max_by_key(|module| (**module == entry.module, common(module))) {
            entry.module = nearest.clone();
        }
    }
    declared.append(&mut implemented);
    declared
}

struct SourceFile<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
}

impl SourceFile<'_> {
    /// Adds the items of a module to `declared`, and its `impl` blocks with their methods and constants to `implemented`.
    fn add_items(&self, module: &str, items: &[Item], declared: &mut Vec<Entry>, implemented: &mut Vec<Entry>) {
        for item in items.iter().filter(|item| !self.is_for_tests(*item)) {
            let entry = |name: String, node: &dyn Spanned| Entry { module: module.into(), name, part: self.part(node) };
            if let Item::Impl(block) = item {
                let Some(target) = type_name(&block.self_ty) else { continue };
                implemented.push(entry(target.clone(), item));
                for member in &block.items {
                    let name = match member {
                        ImplItem::Const(member) => &member.ident,
                        ImplItem::Fn(member) => &member.sig.ident,
                        _ => continue,
                    };
                    implemented.push(entry(format!("{target}::{name}"), member));
                }
            } else if let Some(name) = declaration(item) {
                declared.push(entry(name.to_string(), item));
            }
            if let Item::Mod(ItemMod { ident, content: Some((_, items)), .. }) = item {
                let module = format!("{module}::{ident}");
                self.add_items(module.trim_start_matches("::"), items, declared, implemented);
            }
        }
    }

    /// Indices of an item's lines, including attributes, documentation and the comments directly above it.
    fn lines_of(&self, node: &dyn Spanned) -> Range<usize> {
        let span = node.span();
        let first = span.start().line - 1;
        let is_comment = |line: &&&str| line.trim_start().starts_with("//") && !line.trim_start().starts_with("//!");
        let comments = self.lines[..first].iter().rev().take_while(is_comment).count();
        first - comments..span.end().line
    }

    fn is_for_tests(&self, node: &dyn Spanned) -> bool {
        let lines = self.lines[self.lines_of(node)].iter().map(|line| line.trim());
        lines.take_while(|line| line.starts_with("//") || line.starts_with("#[")).any(|line| line == "#[cfg(test)]")
    }

    /// The lines of an item without its indentation and without the examples in its documentation.
    fn part(&self, node: &dyn Spanned) -> Part {
        let range = self.lines_of(node);
        let indent = self.lines[range.start].len() - self.lines[range.start].trim_start().len();
        let mut in_example = false;
        let is_shown = |line: &&str| {
            let is_fence = line.trim_start().starts_with("/// ```");
            in_example ^= is_fence;
            !is_fence && !in_example
        };
        let lines = self.lines[range.clone()].iter().copied().filter(is_shown);
        let text: Vec<&str> = lines.map(|line| line.get(indent..).unwrap_or_default()).collect();
        Part { file: self.path.to_string(), line: range.start + 1, text: text.join("\n") }
    }
}

/// The name that an item declares. `mod name;` is left out: its file is indexed by itself.
fn declaration(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Mod(item) => item.content.as_ref().map(|_| &item.ident),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        _ => None,
    }
}

/// The name of the type that an `impl` block is for.
fn type_name(target: &Type) -> Option<String> {
    match target {
        Type::Path(target) => target.path.segments.last().map(|segment| segment.ident.to_string()),
        Type::Reference(target) => type_name(&target.elem),
        _ => None,
    }
}
