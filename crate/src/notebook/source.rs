//! The crate's own source text, so that a notebook shows the code that really runs.

use std::fmt;
use std::ops::Range;

use include_dir::{Dir, include_dir};

use super::{Show, show};
use crate::{Error, Result};

const SOURCES: Dir = include_dir!("$CARGO_MANIFEST_DIR/src");
const KEYWORDS: [&str; 7] = ["struct ", "enum ", "trait ", "fn ", "type ", "const ", "mod "];
/// Similarity from which a name counts as near, 0 to 1.
const NEAR: f64 = 0.8;

/// Source text of an item that shows itself in a notebook, as highlighted Rust; `Display` gives it plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub parts: Vec<Part>,
}

/// Consecutive lines of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Below `crate/src`, as `model/vit.rs`.
    pub file: String,
    /// Of the first line, counted from 1.
    pub line: usize,
    pub text: String,
}

/// Finds `item` in this crate: a type with its `impl` blocks (`"SelfAttention"`), a method (`"SelfAttention::forward"`),
/// a function or constant (`"learning_rate"`).
///
/// ```
/// use vitlab::notebook::source;
/// let listing = source("Error::argument")?;
/// assert_eq!(listing.parts[0].file, "error.rs");
/// assert!(listing.to_string().contains("pub fn argument(problem: impl Into<String>) -> Self {"));
/// let message = source("SelfAtention").unwrap_err().to_string();
/// assert!(message.starts_with("SelfAtention is no item of vitlab; near names: SelfAttention"));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// An unknown item; the message lists near names.
pub fn source(item: &str) -> Result<Listing> {
    let mut names: Vec<String> = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for (file, text) in files(&SOURCES) {
        let lines: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
        for block in blocks(&lines, 0, 0..lines.len()) {
            let mut add = |name: String, range: Range<usize>| {
                if name == item {
                    parts.push(part(&file, &lines, range));
                }
                names.push(name);
            };
            if let Block::Impl { target, range } = &block {
                for method in blocks(&lines, 4, range.clone()) {
                    if let Block::Item { name, range } = method {
                        add(format!("{target}::{name}"), range);
                    }
                }
            }
            match block {
                Block::Item { name: target, range } | Block::Impl { target, range } => add(target, range),
            }
        }
    }
    if parts.is_empty() { Err(unknown(item, names)) } else { Ok(Listing { parts }) }
}

fn unknown(item: &str, names: Vec<String>) -> Error {
    let mut near: Vec<(f64, String)> = names
        .into_iter()
        .map(|name| {
            // A method's name alone is completed with the types that have it.
            let method = name.rsplit_once("::").is_some_and(|(_, method)| method == item);
            let likeness = if method { 1.0 } else { strsim::jaro_winkler(&item.to_lowercase(), &name.to_lowercase()) };
            (likeness, name)
        })
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let near: Vec<String> = near.into_iter().map(|(_, name)| name).take(5).collect();
    let hint = if near.is_empty() {
        "name a type, Type::method or a function".to_string()
    } else {
        format!("near names: {}", near.join(", "))
    };
    Error::argument(format!("{item} is no item of vitlab; {hint}"))
}

/// The library's files by their names below `crate/src`, in order, but for those that only test.
fn files(folder: &Dir<'static>) -> Vec<(String, &'static str)> {
    let mut found: Vec<(String, &'static str)> = folder
        .files()
        .filter(|file| !file.path().ends_with("tests.rs"))
        .filter_map(|file| Some((file.path().to_str()?.replace('\\', "/"), file.contents_utf8()?)))
        .collect();
    for below in folder.dirs().filter(|below| below.path().as_os_str() != "bin") {
        found.extend(files(below));
    }
    found.sort();
    found
}

/// What stands at one level of indentation.
enum Block {
    Item { name: String, range: Range<usize> },
    Impl { target: String, range: Range<usize> },
}

/// The items within `range` that are indented by `indent`; the source is formatted by rustfmt, so that an item ends
/// with the first line at its own indentation that closes it.
fn blocks(lines: &[&str], indent: usize, range: Range<usize>) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut i = range.start;
    while i < range.end {
        let Some(head) = at_indent(lines[i], indent) else {
            i += 1;
            continue;
        };
        let target = implemented(head);
        let Some(name) = target.clone().or_else(|| declared(head)) else {
            i += 1;
            continue;
        };
        let mut start = i;
        while start > range.start && at_indent(lines[start - 1], indent).is_some_and(leads) {
            start -= 1;
        }
        let one_line = head.ends_with(';') || (head.ends_with('}') && head.contains('{'));
        let closes = |line: &&str| {
            at_indent(line, indent).is_some_and(|line| line.starts_with(['}', ']', ')']) && line.ends_with(['}', ';']))
        };
        let end = match lines[i..range.end].iter().position(closes) {
            _ if one_line => i + 1,
            Some(distance) => i + distance + 1,
            None => range.end,
        };
        blocks.push(match target {
            Some(target) => Block::Impl { target, range: start..end },
            None => Block::Item { name, range: start..end },
        });
        i = end;
    }
    blocks
}

/// The line without `indent` spaces if exactly so many lead it.
fn at_indent(line: &str, indent: usize) -> Option<&str> {
    let text = line.trim_start();
    (!text.is_empty() && line.len() - text.len() == indent).then_some(text)
}

/// Whether a line belongs to the item below it: documentation, comment or attribute.
fn leads(line: &str) -> bool {
    line.starts_with("//") && !line.starts_with("//!") || line.starts_with("#[")
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The name that a line declares.
fn declared(line: &str) -> Option<String> {
    let mut rest = line;
    if let Some(after) = rest.strip_prefix("pub") {
        let scope_end = if after.starts_with('(') { after.find(')')? + 1 } else { 0 };
        rest = after[scope_end..].trim_start();
    }
    rest = if rest.starts_with("const fn ") { &rest["const ".len()..] } else { rest };
    let keyword = KEYWORDS.into_iter().find(|keyword| rest.starts_with(keyword))?;
    let is_module_line = keyword == "mod " && rest.ends_with(';');
    let name = identifier(&rest[keyword.len()..]);
    (!name.is_empty() && !is_module_line).then_some(name)
}

/// The type that an `impl` line is for.
fn implemented(line: &str) -> Option<String> {
    let mut rest = line.strip_prefix("impl")?;
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '<') - i32::from(*c == '>');
            depth == 0
        })?;
        rest = &rest[end.0 + 1..];
    }
    let rest = rest.trim_start();
    let target = rest.split_once(" for ").map_or(rest, |(_, target)| target);
    let path_end = target.find(['<', ' ', '{']).unwrap_or(target.len());
    let name = identifier(target[..path_end].rsplit("::").next()?);
    (!name.is_empty()).then_some(name)
}

/// Lines `range` of a file without the indentation of the first one and without the examples in its documentation,
/// which are for the crate's own pages.
fn part(file: &str, lines: &[&str], range: Range<usize>) -> Part {
    let indent = lines[range.start].len() - lines[range.start].trim_start().len();
    let mut in_example = false;
    let text: Vec<&str> = lines[range.clone()]
        .iter()
        .filter(|line| {
            let fence = line.trim_start().starts_with("/// ```");
            in_example ^= fence;
            !(fence || in_example)
        })
        .map(|line| line.get(indent..).unwrap_or(""))
        .collect();
    Part { file: file.to_string(), line: range.start + 1, text: text.join("\n") }
}

impl Listing {
    /// Called by the kernel for a listing that ends a cell: Markdown, which JupyterLab, HTML and PDF highlight.
    pub fn evcxr_display(&self) {
        show(self);
    }
}

impl Show for Listing {
    fn contents(&self) -> Vec<(&'static str, String)> {
        let markdown: Vec<String> = self
            .parts
            .iter()
            .map(|part| format!("`crate/src/{}`, line {}\n\n```rust\n{}\n```\n", part.file, part.line, part.text))
            .collect();
        vec![("text/markdown", markdown.join("\n")), ("text/plain", self.to_string())]
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let part = |part: &Part| format!("// crate/src/{}:{}\n{}", part.file, part.line, part.text);
        f.write_str(&self.parts.iter().map(part).collect::<Vec<_>>().join("\n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_comes_with_its_documentation_and_implementations() {
        let listing = source("SelfAttention").unwrap();
        let text = listing.to_string();
        assert!(listing.parts.len() >= 2 && listing.parts.iter().all(|part| part.file == "model/vit.rs"), "{text}");
        assert!(listing.parts[0].text.starts_with("///") && listing.parts[0].text.ends_with("\n}"), "{text}");
        assert!(
            text.contains("#[derive(Debug)]\npub struct SelfAttention {") && text.contains("impl SelfAttention {"),
            "{text}"
        );
    }

    #[test]
    fn a_method_is_shown_without_its_indentation() {
        let method = source("SelfAttention::forward").unwrap();
        let [part] = &method.parts[..] else { panic!("{method}") };
        assert!(part.text.starts_with("/// [B, S, E]") && part.text.ends_with("\n}"), "{}", part.text);
        assert!(part.text.contains("\npub fn forward(&self, x: &Tensor)"), "{}", part.text);
        let file = SOURCES.get_file("model/vit.rs").unwrap().contents_utf8().unwrap();
        let first = file.lines().nth(part.line - 1).unwrap();
        assert_eq!(first.trim(), part.text.lines().next().unwrap());
    }

    #[test]
    fn functions_constants_and_methods_of_generic_types() {
        for (item, contains) in [
            ("check_folder", "pub fn check_folder(folder: &Path) -> Result<()> {"),
            ("FILES", "pub const FILES: [File; 4] = ["),
            ("Garment::finish", "fn finish(self, rng: &mut Rng)"),
            ("replace", "pub fn replace("),
            ("Result", "pub type Result<T, E = Error>"),
        ] {
            let listing = source(item).unwrap();
            assert!(listing.to_string().contains(contains), "{listing}");
        }
        assert!(source("FILES").unwrap().parts[0].text.ends_with("];"));
    }

    /// Braces close where they open in everything that is found, and tests are left out.
    #[test]
    fn every_item_is_whole() {
        for (file, text) in files(&SOURCES) {
            let lines: Vec<&str> = text.lines().take_while(|line| *line != "#[cfg(test)]").collect();
            for block in blocks(&lines, 0, 0..lines.len()) {
                let (Block::Item { name, range } | Block::Impl { target: name, range }) = block;
                let code: String = lines[range]
                    .iter()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .map(|line| format!("{line}\n"))
                    .collect();
                let quoted = ["'{'", "'}'", "'{',", "\"{", "{\""].iter().any(|quote| code.contains(quote));
                let count = |brace: char| code.matches(brace).count();
                assert!(quoted || count('{') == count('}'), "{name} in {file}:\n{code}");
                assert!(!code.contains("#[test]"), "{name} in {file}");
            }
        }
    }

    #[test]
    fn unknown_items_get_near_names() {
        let message = |item| source(item).unwrap_err().to_string();
        assert!(message("SelfAtention").contains("near names: SelfAttention"), "{}", message("SelfAtention"));
        assert!(message("SelfAttention::foward").contains("SelfAttention::forward"));
        assert!(message("finish").contains("Garment::finish"));
        assert!(message("qqqqqq").contains("name a type"));
    }
}
