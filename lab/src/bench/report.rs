//! Reports the measurements: tables on the terminal and in BENCHMARKS.md, and pictures of the ratios.

use std::process::Command;

use comfy_table::{Table, presets};
use serde_json::{Value, json};
use vitlab_dataset::machine::processor;

use super::{Sample, Workers};
use crate::setup::{Environment, kernel_build};
use crate::system::{Repository, Result, file, process, toolchain};

/// The instruction sets that influence the measurements.
const FEATURES: [&str; 6] = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd"];

/// The report of a part.
pub struct Section {
    pub name: &'static str,
    pub title: &'static str,
    /// Titles, with bars between them.
    pub columns: &'static str,
    pub rows: Vec<Vec<String>>,
    /// Sentences that explain the table.
    pub notes: Vec<String>,
    /// Names and ratios for the picture. Without any, there is none.
    pub bars: Vec<(&'static str, Sample)>,
}

/// Formats a number of rounds: "1 round", "5 rounds".
pub fn format_rounds(n: u32) -> String {
    format!("{n} round{}", if n == 1 { "" } else { "s" })
}

/// Formats a cell of a table, which has a dash if there is no value.
pub fn optional<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> String {
    value.map_or("–".to_string(), format)
}

fn table(section: &Section, preset: &str) -> String {
    if section.rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(preset).set_header(section.columns.split(" | "));
    table.add_rows(&section.rows);
    table.trim_fmt()
}

/// Returns date (UTC), machine and versions, the head of a report.
pub fn describe(repository: &Repository) -> Result<Value> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).unwrap_or_default();
    let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
    let environment = Environment::read(repository)?;
    let pinned = |name| {
        let mut pins = environment.pip.iter().filter_map(|requirement| requirement.split_once("=="));
        pins.find_map(|(package, version)| (package == name).then_some(version)).unwrap_or_default()
    };
    Ok(json!({
        "date": process::output(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default(),
        "machine": {
            "cpu": processor(),
            "cores": super::cores(),
            "features": FEATURES.into_iter().filter(has).collect::<Vec<_>>(),
        },
        "versions": {
            "vitlab": env!("CARGO_PKG_VERSION"),
            "torch": pinned("torch"),
            "torchvision": pinned("torchvision"),
            "evcxr_jupyter": kernel_build::EVCXR_VERSION,
            "rustc": toolchain::rustc()?.split(' ').nth(1).unwrap_or_default(),
        },
        "ratio": {},
    }))
}

/// Formats [`describe`]'s values as "2026-11-27, AMD EPYC, 2 cores (avx2, fma); rustc 1.90.0, torch 2.11.0, …".
fn origin(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (date, machine) = (text(&result["date"]), &result["machine"]);
    let features: Vec<String> = machine["features"].as_array().into_iter().flatten().map(text).collect();
    let versions = result["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> = versions.map(|(name, version)| format!("{name} {}", text(version))).collect();
    let (cpu, cores) = (text(&machine["cpu"]), &machine["cores"]);
    format!("{date}, {cpu}, {cores} cores ({}); {}.", features.join(", "), versions.join(", "))
}

/// Formats the sections for the terminal.
pub fn terminal(result: &Value, sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        text += &format!("{}\n{}\n", section.title, table(section, presets::UTF8_FULL_CONDENSED));
        text.extend(section.notes.iter().map(|note| format!("{note}\n")));
        text += "\n";
    }
    text + &origin(result) + "\n"
}

const HEAD: &str = "# Benchmarks\n\n`cargo lab bench --write` writes this file. It replaces the sections of the parts that it measures.\n";

/// Writes each section to BENCHMARKS.md, in the place of its predecessor. A section without rows was left out: what an
/// earlier run has measured stays. `workers` draw the pictures.
pub fn write(repository: &Repository, result: &Value, sections: &[Section], workers: Option<&Workers>) -> Result<()> {
    let path = repository.root.join("BENCHMARKS.md");
    let mut text = if path.exists() { file::read(&path)? } else { HEAD.to_string() };
    for section in sections.iter().filter(|section| !section.rows.is_empty()) {
        let mut body = format!("## {}\n\n{}\n\n", section.title, table(section, presets::ASCII_MARKDOWN));
        if let (Some(workers), false) = (workers, section.bars.is_empty()) {
            let name = format!("models/bench_{}.png", section.name);
            let group = |(name, ratio): &(&'static str, Sample)| {
                let (min, max) = ratio.range();
                (*name, ratio.median(), (max - min) / 2.0)
            };
            let groups: Vec<_> = section.bars.iter().map(group).collect();
            let answer = workers.vitlab()?.ask(&json!({
                "do": "plot",
                "out": repository.root.join(&name),
                "title": format!("{}: speed relative to PyTorch", section.title),
                "label": "PyTorch's time / vitlab's, median and half the range",
                "groups": groups,
            }))?;
            body += &format!("![{}]({name})\n\n", answer["alt"].as_str().unwrap_or_default());
        }
        body += &format!("{}\n\n{}\n", section.notes.join(" "), origin(result));
        text = replace_section(&text, section.name, body.trim());
    }
    file::write(&path, &text)
}

/// Replaces the text between the markers of `name` by `body`. Appends the markers if they are missing.
fn replace_section(text: &str, name: &str, body: &str) -> String {
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
    fn a_section_that_was_left_out_keeps_its_predecessor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("BENCHMARKS.md");
        let before = replace_section(HEAD, "vits", "measured before");
        file::write(&path, &before).unwrap();
        let (rows, notes) = (Vec::new(), vec!["Left out".to_string()]);
        let left_out = Section { name: "vits", title: "", columns: "a | b", rows, notes, bars: Vec::new() };
        let repository = Repository { root: folder.path().to_owned() };
        write(&repository, &Value::Null, &[left_out], None).unwrap();
        assert_eq!(file::read(&path).unwrap(), before);
    }

    #[test]
    fn a_section_is_added_once_and_then_replaced() {
        let once = replace_section(HEAD, "train", "first");
        let both = replace_section(&once, "cells", "other");
        let again = replace_section(&both, "train", "second");
        assert!(again.starts_with(HEAD.trim_end()) && again.ends_with("<!-- end of bench cells -->\n"));
        assert!(!again.contains("first") && again.contains("\nsecond\n") && again.contains("\nother\n"));
        assert_eq!(again.matches("bench train").count(), 2);
    }
}
