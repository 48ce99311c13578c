//! Rules on the execution: all cells ran once, in order, without an error or a warning, and are as they were when they ran.

use std::sync::LazyLock;

use regex::Regex;

use super::finding::{Found, Rule};
use super::notebook::{Cell, Notebook, Output};

/// A warning of the compiler, of cargo or of a library, at the beginning of a line.
static WARNING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?mi)^\s*warning(\[\w+\])?:").expect("a fixed pattern"));

pub fn find(notebook: &Notebook, run: &str) -> Vec<Found> {
    let mut found = order(notebook, run);
    for (number, cell) in notebook.code() {
        if cell.is_unedited() == Some(false) && cell.execution_count.is_some() {
            let message = format!("the source was edited after it ran, so the output may be another one's; {run}");
            found.push((Some(number), Rule::Edited, message));
        }
        found.extend(complaint(cell, run).map(|(rule, message)| (Some(number), rule, message)));
    }
    found.extend(quick_run(notebook, run));
    found
}

/// Checks the numbers beside the cells. Only the first one that is out of order is a finding, because the later ones follow it.
fn order(notebook: &Notebook, run: &str) -> Vec<Found> {
    let (mut found, mut expected, mut skipped, mut in_order) = (Vec::new(), 1, 0, true);
    for (number, cell) in notebook.code() {
        let Some(count) = cell.execution_count else {
            found.push((Some(number), Rule::Unexecuted, format!("wasn't executed; {run}")));
            skipped += 1;
            continue;
        };
        // A cell that wasn't executed may have had a number before.
        if in_order && !(expected..=expected + skipped).contains(&count) {
            let problem = "cells ran in another order, or more than once";
            found.push((
                Some(number),
                Rule::Order,
                format!("has the number [{count}], [{expected}] is due: {problem}; {run}"),
            ));
            in_order = false;
        }
        (expected, skipped) = (count + 1, 0);
    }
    found
}

/// Returns the first error or warning among a cell's outputs.
fn complaint(cell: &Cell, run: &str) -> Option<(Rule, String)> {
    let failed = cell.outputs.iter().find_map(|output| match output {
        Output::Error { ename, evalue, .. } => {
            Some(format!("failed ({ename}: {}); correct it, then {run}", first_line(evalue)))
        }
        _ => None,
    });
    let warned = || {
        cell.outputs.iter().find_map(|output| match output {
            Output::Stream { name, text } if name == "stderr" => {
                Some(format!("wrote to the standard error (\"{}\"); remove the cause, then {run}", first_line(text)))
            }
            Output::Stream { text, .. } => WARNING.find(text).map(|line| {
                format!("shows a warning (\"{}\"); remove its cause, then {run}", first_line(&text[line.start()..]))
            }),
            _ => None,
        })
    };
    failed.map(|message| (Rule::Failed, message)).or_else(|| Some((Rule::Warning, warned()?)))
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(120).collect()
}

/// Checks what `cargo lab run` noted about its run.
fn quick_run(notebook: &Notebook, run: &str) -> Option<Found> {
    let vitlab = &notebook.metadata["vitlab"];
    let problem = match () {
        () if vitlab["quick"] == true => "are of a quick run on a small subset",
        () if vitlab["data"] == "synthetic" => "are of the synthetic stand-in for FashionMNIST",
        () => return None,
    };
    Some((None, Rule::QuickRun, format!("the outputs {problem}; {run}")))
}
