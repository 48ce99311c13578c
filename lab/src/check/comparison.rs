//! Compares a cell's outputs with those of a new run.

use similar::TextDiff;

use super::notebook::{Bundle, Output};
use super::{picture, values};

/// Longer lines are cut in the difference that is shown.
const LINE: usize = 240;
/// Formats of text from the richest one on. Only the first that both outputs have is compared: the others say the same.
const TEXTS: [&str; 4] = ["text/html", "text/markdown", "text/latex", "text/plain"];

/// A sentence on what differs, and lines of a unified diff.
pub type Difference = (String, Option<String>);

/// Returns the first difference, or `None` if the outputs agree within the tolerances.
pub fn compare(old: &[Output], new: &[Output]) -> Option<Difference> {
    let (old, new) = (merged(old), merged(new));
    let kinds = |outputs: &[Part]| outputs.iter().map(Part::kind).collect::<Vec<_>>();
    let (old_kinds, new_kinds) = (kinds(&old), kinds(&new));
    if old_kinds != new_kinds {
        let list = |kinds: &[String]| if kinds.is_empty() { "nothing".to_string() } else { kinds.join(", ") };
        let message = format!("shows {}, a new run shows {}", list(&old_kinds), list(&new_kinds));
        return Some((message, None));
    }
    old.iter().zip(&new).find_map(|(old, new)| match (old, new) {
        (Part::Text(_, old), Part::Text(_, new)) => compare_texts(old, new),
        (Part::Rich(old), Part::Rich(new)) => compare_bundles(old, new),
        _ => None,
    })
}

/// An output. The pieces in which a stream's text arrived are one.
enum Part<'a> {
    /// Name of the stream, or of an error, and the text.
    Text(&'a str, String),
    Rich(&'a Bundle),
}

impl Part<'_> {
    fn kind(&self) -> String {
        match self {
            Part::Text(name, _) => format!("text ({name})"),
            Part::Rich(bundle) => match bundle.data.keys().find(|kind| kind.starts_with("image/")) {
                Some(kind) => format!("a picture ({kind})"),
                None => "a result".to_string(),
            },
        }
    }
}

fn merged(outputs: &[Output]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part> = Vec::new();
    for output in outputs {
        match output {
            Output::Stream { name, text } => {
                // Streams may interleave differently with figures, but not with themselves.
                let same = parts.iter_mut().find_map(|part| match part {
                    Part::Text(other, all) if *other == name.as_str() => Some(all),
                    _ => None,
                });
                match same {
                    Some(all) => all.push_str(text),
                    None => parts.push(Part::Text(name, text.clone())),
                }
            }
            Output::Error { ename, evalue, .. } => parts.push(Part::Text("error", format!("{ename}: {evalue}"))),
            Output::DisplayData(bundle) | Output::ExecuteResult(bundle) => parts.push(Part::Rich(bundle)),
        }
    }
    parts
}

fn compare_bundles(old: &Bundle, new: &Bundle) -> Option<Difference> {
    let pictures = old.data.iter().filter(|(kind, _)| kind.starts_with("image/"));
    for (kind, content) in pictures {
        let (old_alt, new_alt) = (old.alt(kind).unwrap_or_default(), new.alt(kind).unwrap_or_default());
        // A description that was written by hand has no counterpart.
        let differ = if new_alt.is_empty() { None } else { compare_texts(old_alt, new_alt) };
        if let Some((_, difference)) = differ {
            return Some(("the figure's alt text isn't that of a new run".to_string(), difference));
        }
        // Such a figure differs in every run.
        if values::has_durations(old_alt) {
            continue;
        }
        let Some(again) = new.data.get(kind) else { return Some((format!("a new run gives no {kind}"), None)) };
        if let Some(problem) = picture::compare(kind, &content.0, &again.0) {
            return Some((format!("the figure isn't that of a new run: {problem}"), None));
        }
        return None;
    }
    let kind = TEXTS.iter().find(|kind| old.data.contains_key(**kind) && new.data.contains_key(**kind))?;
    let text = |bundle: &Bundle| match *kind {
        "text/html" => values::table_lines(&bundle.data[*kind].0),
        _ => bundle.data[*kind].0.clone(),
    };
    compare_texts(&text(old), &text(new))
}

fn compare_texts(old: &str, new: &str) -> Option<Difference> {
    // Lines within the tolerances are shown as they were, so that the difference holds the others only.
    let old_lines: Vec<&str> = old.lines().map(str::trim_end).collect();
    let mut new_lines: Vec<&str> = new.lines().map(str::trim_end).collect();
    let masked = |lines: &[&str]| lines.iter().map(|line| values::masked(line)).collect::<Vec<_>>();
    let (old_masked, new_masked) = (masked(&old_lines), masked(&new_lines));
    let pairs: Vec<(usize, usize)> = similar::capture_diff_slices(similar::Algorithm::Myers, &old_masked, &new_masked)
        .iter()
        // Without their numbers, lines that correspond are equal.
        .filter(|piece| piece.tag() == similar::DiffTag::Equal)
        .flat_map(|piece| piece.old_range().zip(piece.new_range()))
        .collect();
    for (before, after) in pairs {
        if values::agree(old_lines[before], new_lines[after]) {
            new_lines[after] = old_lines[before];
        }
    }
    if old_lines == new_lines {
        return None;
    }
    let text = |lines: &[&str]| {
        lines.iter().map(|line| line.chars().take(LINE).collect::<String>() + "\n").collect::<String>()
    };
    let (old, new) = (text(&old_lines), text(&new_lines));
    let difference = TextDiff::from_lines(&old, &new);
    let difference = difference.unified_diff().context_radius(1).header("in the notebook", "in a new run").to_string();
    let message =
        "the output isn't that of a new run; execute the notebook again, or fix what varies (a seed, the order)";
    Some((message.to_string(), Some(difference)))
}
