//! Places in Rust source that rustfmt has formatted: items, their bodies, and lines. rustfmt puts the end of an item's head and
//! the end of its body on lines of their own, so that indentation tells where an item ends.

use std::ops::Range;

use crate::system::{Error, Result};

/// An item's text, without indentation and visibility, in three parts.
pub struct Item {
    /// Documentation and head.
    pub head: String,
    /// The lines of the body, indented by four spaces.
    pub body: String,
    /// The line of the closing brace.
    pub tail: String,
}

/// Returns the place of the first line at or after `start` that begins with `begin`, apart from spaces.
///
/// # Errors
/// Fails if there is none.
pub fn line_start(text: &str, begin: &str, start: usize) -> Result<usize> {
    lines(text)
        .find(|(place, line)| *place >= start && line.trim_start().starts_with(begin))
        .map(|(place, _)| place)
        .ok_or_else(|| Error::argument(format!("no line begins with {begin:?}")))
}

/// Returns the lines from one that begins with `first` to the next that begins with `last`.
///
/// # Errors
/// Fails if there are no such lines.
pub fn between<'a>(text: &'a str, first: &str, last: &str) -> Result<&'a str> {
    let start = line_start(text, first, 0)?;
    let end = line_start(text, last, start)?;
    let length = text[end..].find('\n').unwrap_or(text.len() - end);
    Ok(&text[start..end + length])
}

/// Returns the place of a function, as `fuse`, or a method, as `SelfAttention::forward`, with the documentation above it, if
/// the text has it.
pub fn item(text: &str, name: &str) -> Option<Range<usize>> {
    let (inside, name) = match name.split_once("::") {
        Some((target, name)) => (block(text, &|line| is_impl(line, target), 0)?, name),
        None => (0..text.len(), name),
    };
    let found = block(&text[inside.clone()], &|line| is_function(line, name), inside.start)?;
    let documented = lines(&text[..found.start]).collect::<Vec<_>>();
    let comments = documented.iter().rev().take_while(|(_, line)| line.trim_start().starts_with("///"));
    Some(comments.last().map_or(found.start, |(place, _)| *place)..found.end)
}

impl Item {
    /// Splits the text of an item that [`item`] has found. The examples in its documentation are left out.
    pub fn new(text: &str) -> Self {
        let text = without_indent(text);
        let mut in_example = false;
        let is_shown = |line: &&str| {
            let is_fence = line.starts_with("/// ```");
            in_example ^= is_fence;
            !is_fence && !in_example
        };
        let lines: Vec<&str> = text.lines().filter(is_shown).collect();
        let last_of_head = lines.iter().position(|line| line.ends_with('{')).unwrap_or(0);
        let comments = lines.iter().take_while(|line| line.starts_with("///")).count();
        // The example may have been the documentation's last part.
        let text = lines[..comments].iter().rposition(|line| *line != "///").map_or(0, |last| last + 1);
        let head = lines[..text].iter().chain(&lines[comments..=last_of_head]);
        let head: Vec<&str> = head.map(|line| without_visibility(line)).collect();
        let body = lines.get(last_of_head + 1..lines.len() - 1).unwrap_or_default();
        Item { head: head.join("\n"), body: body.join("\n"), tail: lines[lines.len() - 1].to_string() }
    }
}

/// Removes the indentation that all lines share.
pub fn without_indent(text: &str) -> String {
    let filled = || text.lines().filter(|line| !line.trim().is_empty());
    let indent = filled().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    text.lines().map(|line| line.get(indent..).unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn without_visibility(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("pub") else { return line };
    let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
    rest.trim_start()
}

fn is_impl(line: &str, target: &str) -> bool {
    let name = line.strip_prefix("impl ").map(|rest| rest.rsplit(" for ").next().unwrap_or(rest));
    name.is_some_and(|name| name.trim_end_matches('{').trim() == target)
}

fn is_function(line: &str, name: &str) -> bool {
    let rest = without_visibility(line).strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| rest.starts_with(['(', '<']))
}

/// Returns the place of the first block whose head begins with a line that `is_head` accepts, shifted by `offset`.
fn block(text: &str, is_head: &dyn Fn(&str) -> bool, offset: usize) -> Option<Range<usize>> {
    let (start, head) = lines(text).find(|(_, line)| is_head(line.trim_start()))?;
    let indent = &head[..head.len() - head.trim_start().len()];
    let closing = format!("{indent}}}");
    let (end, line) = lines(text).find(|(place, line)| *place > start && *line == closing)?;
    Some(offset + start..offset + end + line.len())
}

/// The lines of a text with their places.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_inclusive('\n').scan(0, |place, line| {
        let start = *place;
        *place += line.len();
        Some((start, line.trim_end_matches('\n')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "use a::B;\n\nimpl Model for Vit {\n    /// Other.\n    fn forward(&self) {}\n}\n\nimpl Vit {\n    /// Doubles.\n    ///\n    \
                          /// ```\n    /// example();\n    /// ```\n    pub(super) fn forward(\n        &self,\n    ) -> i64 {\n        if a {\n            1\n        }\n    \
                          }\n}\n\n/// Text.\nfn fuse<T>(a: T) -> T {\n    a\n}\nlet b = fuse(1);\n";

    #[test]
    fn a_function_is_found_with_its_documentation() {
        let found = item(SOURCE, "fuse").unwrap();
        assert_eq!(&SOURCE[found.clone()], "/// Text.\nfn fuse<T>(a: T) -> T {\n    a\n}");
        let Item { head, body, tail } = Item::new(&SOURCE[found]);
        assert_eq!((&*head, &*body, &*tail), ("/// Text.\nfn fuse<T>(a: T) -> T {", "    a", "}"));
        assert!(item(SOURCE, "fus").is_none());
    }

    #[test]
    fn a_method_is_found_in_the_impl_block_that_has_it() {
        // The first block of this name has an empty method of one line, which isn't one.
        let text = &SOURCE[SOURCE.find("impl Vit").unwrap()..];
        let Item { head, body, tail } = Item::new(&text[item(text, "Vit::forward").unwrap()]);
        assert_eq!(head, "/// Doubles.\nfn forward(\n    &self,\n) -> i64 {");
        assert_eq!((&*body, &*tail), ("    if a {\n        1\n    }", "}"));
    }

    #[test]
    fn lines_are_found_by_their_beginnings() {
        let text = "a {\n    let b = 1;\n    let c = 2;\n    d\n}";
        assert_eq!(between(text, "let b", "let c").unwrap(), "    let b = 1;\n    let c = 2;");
        assert_eq!(without_indent(between(text, "let b", "d").unwrap()), "let b = 1;\nlet c = 2;\nd");
        assert!(between(text, "let c", "let b").unwrap_err().to_string().contains("no line begins with \"let b\""));
    }
}
