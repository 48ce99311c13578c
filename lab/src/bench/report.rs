//! What is shown: tables on the terminal and in BENCHMARKS.md, and pictures of the ratios.

use std::fs;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use vitlab_dataset::{Error, Result};

use super::machine;
use super::sample::Sample;
use super::worker::Sides;
use crate::cache;
use crate::repository::Repository;

/// A part's table.
pub struct Section {
    pub name: &'static str,
    pub title: &'static str,
    pub columns: &'static [&'static str],
    pub rows: Vec<Vec<String>>,
    /// Sentences below the table.
    pub notes: Vec<String>,
    /// Ratios, drawn when there are any.
    pub bars: Vec<Bar>,
}

/// A ratio in a picture.
pub struct Bar {
    name: String,
    median: f64,
    /// Half the range.
    error: f64,
}

impl Bar {
    pub fn of(name: &str, ratio: &Sample) -> Self {
        let (min, max) = ratio.range();
        Bar { name: name.to_string(), median: ratio.median(), error: (max - min) / 2.0 }
    }
}

/// "1 round", "5 rounds"
pub fn rounds(n: u32) -> String {
    format!("{n} round{}", if n == 1 { "" } else { "s" })
}

fn table(section: &Section, preset: &str) -> String {
    let mut table = Table::new();
    table.load_preset(preset).set_header(section.columns);
    table.add_rows(&section.rows);
    table.trim_fmt()
}

fn origin(result: &Value) -> String {
    let versions: Vec<String> = result["versions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
        .collect();
    format!(
        "{}, {}; {}.",
        result["date"].as_str().unwrap_or_default(),
        machine::words(&result["machine"]),
        versions.join(", ")
    )
}

pub fn terminal(result: &Value, sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        text += &format!("{}\n{}\n", section.title, table(section, presets::UTF8_FULL_CONDENSED));
        for note in &section.notes {
            text += &format!("{note}\n");
        }
        text += "\n";
    }
    text + &origin(result) + "\n"
}

const HEAD: &str =
    "# Benchmarks\n\nWritten by `cargo lab bench --write`; each section is replaced when its part is measured again.\n";

/// Puts each section into BENCHMARKS.md, in the place of its earlier one.
pub fn write(repository: &Repository, result: &Value, sections: &[Section], sides: Option<&Sides>) -> Result<()> {
    let path = repository.root.join("BENCHMARKS.md");
    let mut text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEAD.to_string(),
        Err(error) => return Err(Error::file(&path, format!("can't be read ({error})"))),
    };
    for section in sections {
        let mut body = format!("## {}\n\n{}\n\n", section.title, table(section, presets::ASCII_MARKDOWN));
        if let (Some(sides), false) = (sides, section.bars.is_empty()) {
            let name = format!("models/bench_{}.png", section.name);
            let groups: Vec<_> = section.bars.iter().map(|bar| (&bar.name, bar.median, bar.error)).collect();
            let answer = sides.ours()?.ask(&json!({
                "do": "plot",
                "out": repository.root.join(&name),
                "title": format!("{}: how many times as fast as PyTorch", section.title),
                "label": "PyTorch's time / vitlab's, median and half the range",
                "groups": groups,
            }))?;
            body += &format!("![{}]({name})\n\n", answer["alt"].as_str().unwrap_or_default());
        }
        body += &format!("{}\n\n{}\n", section.notes.join(" "), origin(result));
        text = replaced(&text, section.name, body.trim());
    }
    cache::write(&path, &text)
}

/// `text` with `body` between the markers of `name`, which are added at the end if they aren't there.
fn replaced(text: &str, name: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- bench {name} -->"), format!("<!-- end of bench {name} -->"));
    let block = format!("{begin}\n{body}\n{end}");
    let found = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    match found {
        Some((before, after)) => format!("{before}{block}{after}"),
        None => format!("{}\n\n{block}\n", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_once_and_then_replaced() {
        let once = replaced(HEAD, "train", "first");
        let both = replaced(&once, "cells", "other");
        let again = replaced(&both, "train", "second");
        assert!(again.starts_with(HEAD.trim_end()) && again.ends_with("<!-- end of bench cells -->\n"));
        assert!(!again.contains("first") && again.contains("\nsecond\n") && again.contains("\nother\n"));
        assert_eq!(again.matches("bench train").count(), 2);
    }
}
