//! Listings of the crate's own source, so that a notebook shows the code that runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use include_dir::{Dir, include_dir};

use super::index::{Entry, Part, index};
use super::{Show, show};
use crate::{Error, Result};

const SOURCES: Dir = include_dir!("$CARGO_MANIFEST_DIR/src");
/// Every item of the library, parsed at the first listing.
static ITEMS: LazyLock<Vec<Entry>> = LazyLock::new(|| index(&files(&SOURCES)));
/// The least similarity, from 0 to 1, of the names that the message for an unknown name lists.
const NEAR: f64 = 0.8;

/// The source of an item, which shows itself in a notebook as highlighted Rust. `Display` gives plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub parts: Vec<Part>,
}

/// Finds one item of this crate: a type with its `impl` blocks (`"SelfAttention"`), a method (`"SelfAttention::forward"`),
/// a function or a constant (`"learning_rate"`). If several items have the name, a path chooses one; it may leave out
/// modules: `"model::vit::forward_blocks"`, `"vit::forward_blocks"`.
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
/// An unknown name; the message lists similar names. An ambiguous name; the message lists the paths of all its items.
pub fn source(item: &str) -> Result<Listing> {
    find(&ITEMS, item)
}

fn find(entries: &[Entry], item: &str) -> Result<Listing> {
    let query = item.trim_start_matches("vitlab::").trim_start_matches("crate::");
    let mut found: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.matches(query)) {
        found.entry(entry.path()).or_default().push(entry.part.clone());
    }
    let single = if found.len() == 1 { found.pop_first() } else { found.remove_entry(query) };
    match (single, found.len()) {
        (Some((_, parts)), _) => Ok(Listing { parts }),
        (None, 0) => Err(unknown(entries, item)),
        (None, n) => {
            let paths = found.into_keys().collect::<Vec<_>>().join(", ");
            Err(Error::argument(format!("{item} names {n} items of vitlab; write one of {paths}")))
        }
    }
}

fn unknown<'a>(entries: &'a [Entry], item: &str) -> Error {
    let with_similarity = |Entry { name, .. }: &'a Entry| {
        // The name of a method alone is completed with each type that has the method.
        let is_method = name.rsplit_once("::").is_some_and(|(_, method)| method == item);
        let similarity = if is_method { 1.0 } else { strsim::jaro_winkler(&item.to_lowercase(), &name.to_lowercase()) };
        (similarity, name.as_str())
    };
    let mut near: Vec<_> = entries.iter().map(with_similarity).filter(|(similarity, _)| *similarity >= NEAR).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let near: Vec<&str> = near.into_iter().map(|(_, name)| name).take(5).collect();
    let hint = match near[..] {
        [] => "name a type, Type::method or a function".to_string(),
        _ => format!("near names: {}", near.join(", ")),
    };
    Error::argument(format!("{item} is no item of vitlab; {hint}"))
}

/// The library's files as (path below `crate/src`, text), sorted. The `vitlab` command and files of tests are left out.
fn files(folder: &Dir<'static>) -> Vec<(String, &'static str)> {
    let library = folder.files().filter(|file| !file.path().ends_with("tests.rs"));
    let mut found: Vec<_> =
        library.filter_map(|file| Some((file.path().to_str()?.replace('\\', "/"), file.contents_utf8()?))).collect();
    found.extend(folder.dirs().filter(|below| !below.path().ends_with("bin")).flat_map(files));
    found.sort();
    found
}

impl Listing {
    /// Called by the kernel for a listing that ends a cell.
    pub fn evcxr_display(&self) {
        show(self);
    }
}

impl Show for Listing {
    fn contents(&self) -> Vec<(&'static str, String)> {
        let part =
            |part: &Part| format!("`crate/src/{}`, line {}\n\n```rust\n{}\n```\n", part.file, part.line, part.text);
        let markdown: Vec<String> = self.parts.iter().map(part).collect();
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
    use syn::{ImplItem, Item};

    use super::*;

    const A: &str = r"//! A module.

// A comment.
/// Doubles.
#[inline]
pub fn run() {
    // Inside.
} // Behind.
#[cfg(test)]
mod tests {
    fn hidden() {}
}
pub mod inner {
    /// Nested.
    pub fn deep() {}
    pub fn run() {}
}
";
    const B: &str = r"pub struct Pair<T>(T);
impl<T: Clone> Iterator for Pair<T> {
    fn next(&mut self) {}
}
";
    const LIB: &str = r"/// Text.
///
/// ```
/// example();
/// ```
#[derive(Debug)]
pub struct Whole;
pub fn run() {}
impl From<Pair<u8>> for Whole {}
impl Whole {
    /// A method.
    #[must_use]
    pub fn new() -> Self {
        Whole
    }
}
";

    fn in_files(item: &str) -> Result<Listing> {
        find(&index(&[("a/mod.rs".into(), A), ("a/b.rs".into(), B), ("lib.rs".into(), LIB)]), item)
    }

    fn text(item: &str) -> String {
        in_files(item).unwrap().parts.into_iter().map(|part| part.text + "|").collect()
    }

    #[test]
    fn comments_documentation_and_attributes_belong_to_the_item() {
        let run = in_files("a::run").unwrap();
        let text = "// A comment.\n/// Doubles.\n#[inline]\npub fn run() {\n    // Inside.\n} // Behind.";
        assert_eq!(run.parts, [Part { file: "a/mod.rs".into(), line: 3, text: text.into() }]);
        assert_eq!(run.to_string(), format!("// crate/src/a/mod.rs:3\n{text}"));
    }

    #[test]
    fn a_type_comes_before_its_implementations_and_without_its_example() {
        let declaration = "/// Text.\n///\n#[derive(Debug)]\npub struct Whole;|";
        assert!(text("Whole").starts_with(&format!("{declaration}impl From<Pair<u8>> for Whole {{}}|impl Whole {{\n")));
        assert!(text("Whole").ends_with("        Whole\n    }\n}|"));
        assert!(text("Pair").starts_with("pub struct Pair<T>(T);|impl<T: Clone> Iterator for Pair<T> {"));
    }

    #[test]
    fn items_are_found_by_name_or_path_and_lose_their_indentation() {
        for (item, expected) in [
            ("Whole::new", "/// A method.\n#[must_use]\npub fn new() -> Self {\n    Whole\n}|"),
            ("a::b::Pair::next", "fn next(&mut self) {}|"),
            ("deep", "/// Nested.\npub fn deep() {}|"),
            ("run", "pub fn run() {}|"), // the one whose whole path is `run`
            ("inner::run", "pub fn run() {}|"),
        ] {
            assert_eq!(text(item), expected);
        }
        assert_eq!(text("a::inner::deep"), text("vitlab::inner::deep"));
        assert!(text("inner").starts_with("pub mod inner {\n    /// Nested."));
        assert!(text("a::run").contains("Doubles"));
        assert!(in_files("hidden").is_err()); // in a module of tests
        let message = in_files("inner::new").unwrap_err().to_string();
        assert!(message.contains("is no item of vitlab"), "{message}");
        let without_root = find(&index(&[("b.rs".into(), "fn run() {}"), ("c/d.rs".into(), "fn run() {}")]), "run");
        let message = without_root.unwrap_err().to_string();
        assert_eq!(message, "run names 2 items of vitlab; write one of b::run, c::d::run");
    }

    #[test]
    fn a_type_comes_with_its_documentation_and_implementations() {
        let listing = source("SelfAttention").unwrap();
        let text = listing.to_string();
        assert!(listing.parts.len() >= 2 && listing.parts.iter().all(|part| part.file == "model/vit.rs"), "{text}");
        assert!(listing.parts[0].text.starts_with("///") && listing.parts[0].text.ends_with("\n}"), "{text}");
        for code in ["#[derive(Debug)]\npub struct SelfAttention {", "impl SelfAttention {"] {
            assert!(text.contains(code), "{text}");
        }
    }

    #[test]
    fn a_method_is_shown_without_its_indentation() {
        let method = source("SelfAttention::forward").unwrap();
        let [Part { text, line, .. }] = &method.parts[..] else { panic!("{method}") };
        assert!(text.starts_with("/// [B, S, E]") && text.ends_with("\n}"), "{text}");
        assert!(text.contains("\npub fn forward(&self, x: &Tensor, "), "{text}");
        let file = SOURCES.get_file("model/vit.rs").unwrap().contents_utf8().unwrap();
        assert_eq!(file.lines().nth(line - 1).map(str::trim), text.lines().next());
    }

    #[test]
    fn functions_constants_and_methods_of_generic_types() {
        for (item, contains) in [
            ("learning_rate", "pub fn learning_rate("),
            ("UNITS", "const UNITS: [&str; 9] = ["),
            ("by_serde_name", "macro_rules! by_serde_name {"),
            ("Figure::evcxr_display", "pub fn evcxr_display(&self)"),
            ("Result", "pub type Result<T, E = Error>"),
        ] {
            let listing = source(item).unwrap();
            assert!(listing.to_string().contains(contains), "{listing}");
        }
        assert!(source("UNITS").unwrap().parts[0].text.ends_with("];"));
    }

    /// The listing of every item can be parsed again, and tests are left out.
    #[test]
    fn every_item_is_whole() {
        for entry in ITEMS.iter() {
            let (path, text) = (entry.path(), &entry.part.text);
            let parsed = syn::parse_str::<Item>(text).is_ok() || syn::parse_str::<ImplItem>(text).is_ok();
            assert!(parsed, "{path}:\n{text}");
            assert!(!text.contains("#[test]"), "{path}");
        }
    }

    #[test]
    fn unknown_items_get_near_names() {
        let message = |item| source(item).unwrap_err().to_string();
        assert!(message("SelfAtention").contains("near names: SelfAttention"), "{}", message("SelfAtention"));
        assert!(message("SelfAttention::foward").contains("SelfAttention::forward"));
        assert!(message("evcxr_display").contains("Figure::evcxr_display"));
        assert!(message("qqqqqq").contains("name a type"));
    }
}
