//! What changes from one item of the crate's source to another, line by line.

use std::fmt;

use similar::{Algorithm, Change, ChangeTag, capture_diff_slices};

use super::{Show, show, source};
use crate::Result;

/// Two listings as one, which shows itself in a notebook: lines of the first alone are marked −, of the second alone +.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// File and name of each of the two.
    pub titles: [String; 2],
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Both(String),
    Before(String),
    After(String),
}

/// The code of `before` and `after`, named as for [`source`], documentation left out.
///
/// ```
/// let difference = vitlab::notebook::difference("EmbedLayer", "DistilledEmbedLayer")?;
/// let text = difference.to_string();
/// assert!(text.contains("\n+    pub dist_token: Tensor,\n"), "{text}");
/// assert!(text.contains("\n     pub cls_token: Tensor,\n"), "{text}");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// An unknown item.
pub fn difference(before: &str, after: &str) -> Result<Difference> {
    let read = |item: &str| -> Result<(String, Vec<String>)> {
        let parts = source(item)?.parts;
        let title = format!("crate/src/{} {item}", parts[0].file);
        let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
        let code = texts.join("\n\n");
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("///"));
        Ok((title, lines.map(String::from).collect()))
    };
    let ((title, before), (other, after)) = (read(before)?, read(after)?);
    Ok(Difference { titles: [title, other], lines: compare(&before, &after) })
}

/// The lines of both in one sequence, what they have in common once.
fn compare(before: &[String], after: &[String]) -> Vec<Line> {
    let line = |change: Change<String>| {
        let tag = change.tag();
        let text = change.value();
        match tag {
            ChangeTag::Equal => Line::Both(text),
            ChangeTag::Delete => Line::Before(text),
            ChangeTag::Insert => Line::After(text),
        }
    };
    capture_diff_slices(Algorithm::Myers, before, after)
        .iter()
        .flat_map(|part| part.iter_changes(before, after))
        .map(line)
        .collect()
}

impl Difference {
    /// Called by the kernel for a difference that ends a cell: Markdown, which JupyterLab, HTML and PDF colour.
    pub fn evcxr_display(&self) {
        show(self);
    }
}

impl Show for Difference {
    fn contents(&self) -> Vec<(&'static str, String)> {
        let text = self.to_string();
        let markdown = format!("```diff\n{text}\n```\n");
        vec![("text/markdown", markdown), ("text/plain", text)]
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [before, after] = &self.titles;
        write!(f, "--- {before}\n+++ {after}")?;
        for line in &self.lines {
            let (sign, text) = match line {
                Line::Both(text) => (' ', text),
                Line::Before(text) => ('-', text),
                Line::After(text) => ('+', text),
            };
            write!(f, "\n{}", format!("{sign}{text}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_lines_stay_in_order() {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let signs = |before: &str, after: &str| {
            let difference =
                Difference { titles: ["a".into(), "b".into()], lines: compare(&lines(before), &lines(after)) };
            difference.to_string().replace('\n', "|")
        };
        assert_eq!(signs("abcd", "axcde"), "--- a|+++ b| a|-b|+x| c| d|+e");
        assert_eq!(signs("", "a"), "--- a|+++ b|+a");
        assert_eq!(signs("ab", ""), "--- a|+++ b|-a|-b");
        assert_eq!(signs("ab", "ab"), "--- a|+++ b| a| b");
    }

    #[test]
    fn unknown_items_are_said() {
        let message = difference("EmbedLayer", "EmbedLayr").unwrap_err().to_string();
        assert!(message.contains("near names: EmbedLayer"), "{message}");
    }
}
