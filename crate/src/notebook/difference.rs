//! The lines that differ between two items of the crate's source.

use std::fmt;

use similar::TextDiff;

use super::{Show, show, source};
use crate::Result;

/// Two listings merged into one, which shows itself in a notebook: `-` marks lines of the first alone, `+` lines of the
/// second alone. `Display` gives the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub text: String,
}

/// Compares the code of two items, each named as for [`source`]. Documentation is left out.
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
/// An unknown or ambiguous name.
pub fn difference(before: &str, after: &str) -> Result<Difference> {
    let titled_code = |item: &str| -> Result<(String, String)> {
        let parts = source(item)?.parts;
        let title = format!("crate/src/{} {item}", parts[0].file);
        let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
        Ok((title, texts.join("\n\n")))
    };
    let (before, after) = (titled_code(before)?, titled_code(after)?);
    let code = |text| str::lines(text).filter(|line| !line.trim_start().starts_with("///")).collect::<Vec<_>>();
    Ok(Difference { text: merged([&before.0, &after.0], &code(&before.1), &code(&after.1)) })
}

/// The lines of both in one sequence, common lines once.
fn merged(titles: [&str; 2], before: &[&str], after: &[&str]) -> String {
    let mut text = format!("--- {}\n+++ {}", titles[0], titles[1]);
    for change in TextDiff::from_slices(before, after).iter_all_changes() {
        text += format!("\n{}{}", change.tag(), change.value()).trim_end_matches(' ');
    }
    text
}

impl Difference {
    /// Called by the kernel for a difference that ends a cell.
    pub fn evcxr_display(&self) {
        show(self);
    }
}

impl Show for Difference {
    fn contents(&self) -> Vec<(&'static str, String)> {
        vec![("text/markdown", format!("```diff\n{self}\n```\n")), ("text/plain", self.to_string())]
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_lines_stay_in_order() {
        let lines = |text| str::split_terminator(text, "").skip(1).collect::<Vec<_>>();
        for (before, after, signs) in
            [("abcd", "axcde", " a|-b|+x| c| d|+e"), ("", "a", "+a"), ("ab", "", "-a|-b"), ("ab", "ab", " a| b")]
        {
            let text = merged(["a", "b"], &lines(before), &lines(after)).replace('\n', "|");
            assert_eq!(text, format!("--- a|+++ b|{signs}"));
        }
    }

    #[test]
    fn unknown_items_are_said() {
        let message = difference("EmbedLayer", "EmbedLayr").unwrap_err().to_string();
        assert!(message.contains("near names: EmbedLayer"), "{message}");
    }
}
