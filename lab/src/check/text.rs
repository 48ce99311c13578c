//! Rules on the text: the author's parts are filled in, the assignment's headings are there, sources are linked.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::assignment;
use super::finding::{Found, Rule};
use super::notebook::{CellType, Notebook};

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a fixed pattern")
}

static AUTHOR: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^\W*Author:.*$"));
static AUTHOR_BLANK: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)your name|your course|fill in"));
/// nbgrader's texts in blanks, and marks of unfinished code.
static BLANK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"YOUR (ANSWER|CODE) HERE|\b(TODO|FIXME)\b|\b(todo|unimplemented)!\("));
pub(super) static HEADING: LazyLock<Regex> = LazyLock::new(|| pattern(r"^ {0,3}#{1,6}\s+(.*?)[\s#]*$"));
/// A link of Markdown with its text, or a plain address.
static LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[[^\]]*\]\(\s*<?https?://[^)]*\)|https?://[^\s)>\]]+"));
static PAPER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"https?://[\w.]*(arxiv\.org|doi\.org|openreview\.net|aclanthology\.org|jmlr\.org|thecvf\.com|neurips\.cc|mlr\.press)|https?://[^\s)]*\.pdf",
    )
});
static ARXIV: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\barxiv[\s:]*\d{4}\.\d{4,5}"));
static CITED: LazyLock<Regex> = LazyLock::new(|| pattern(r"(\p{Lu}[\p{L}’'-]+)\s+et\s+al\."));
static PAPERS_NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?is)\bthe\s+paper\b.*\d|\d.*\bthe\s+paper\b"));

/// A heading and the number of its cell.
type Heading = (usize, String);

pub fn find(notebook: &Notebook) -> Vec<Found> {
    let mut found = placeholders(notebook);
    let headings = headings(notebook);
    if let Some(due) = assignment::headings(&notebook.name()) {
        found.extend(missing_headings(&headings, due));
        found.extend(sources_section(notebook, &headings));
    }
    found.extend(unlinked_sources(notebook));
    found
}

/// Returns the line that names the author.
pub fn author_line(source: &str) -> Option<&str> {
    AUTHOR.find(source).map(|line| line.as_str())
}

fn placeholders(notebook: &Notebook) -> Vec<Found> {
    let mut found = Vec::new();
    let author = notebook.markdown().find_map(|(number, cell)| Some((number, author_line(&cell.source)?)));
    match author {
        None => {
            let remedy = "write `*Author: … · Course: … · Date: …*` below the title";
            found.push((None, Rule::Placeholder, format!("no line names the author; {remedy}")));
        }
        Some((number, line)) => {
            let blanks: Vec<_> = AUTHOR_BLANK.find_iter(line).map(|blank| format!("\"{}\"", blank.as_str())).collect();
            if !blanks.is_empty() {
                let message =
                    format!("the author line still has {}; fill in author, course and date", blanks.join(", "));
                found.push((Some(number), Rule::Placeholder, message));
            }
        }
    }
    for (number, cell) in notebook.numbered().filter(|(_, cell)| cell.cell_type != CellType::Raw) {
        if let Some(blank) = BLANK.find(&cell.source) {
            let message = format!("still has the placeholder \"{}\"; replace it by the answer", blank.as_str());
            found.push((Some(number), Rule::Placeholder, message));
        }
    }
    found
}

/// Returns the headings of the Markdown cells, without lines of code blocks.
fn headings(notebook: &Notebook) -> Vec<Heading> {
    let mut headings = Vec::new();
    for (number, cell) in notebook.markdown() {
        let mut in_code = false;
        for line in cell.source.lines() {
            in_code ^= line.trim_start().starts_with("```");
            if let Some(heading) = HEADING.captures(line).filter(|_| !in_code) {
                headings.push((number, heading[1].to_string()));
            }
        }
    }
    headings
}

fn missing_headings(headings: &[Heading], due: &[&str]) -> Vec<Found> {
    let (mut found, mut after) = (Vec::new(), 0);
    for (place, title) in due.iter().enumerate() {
        let Some(at) = headings.iter().position(|(_, heading)| heading == title) else {
            let message = format!("the heading \"{title}\" of the assignment is missing; add it above its answer");
            found.push((None, Rule::Heading, message));
            continue;
        };
        if at < after {
            let message =
                format!("the heading \"{title}\" belongs below \"{}\"; restore the assignment's order", due[place - 1]);
            found.push((Some(headings[at].0), Rule::Heading, message));
        }
        after = after.max(at);
    }
    found
}

/// Checks that the last section lists the sources, with links.
fn sources_section(notebook: &Notebook, headings: &[Heading]) -> Option<Found> {
    let section = headings.iter().rfind(|(_, heading)| assignment::SOURCES.contains(&heading.as_str()));
    let Some((start, heading)) = section else {
        let message = "there is no section \"References\" or \"Sources\"; add one that names them with links";
        return Some((None, Rule::Source, message.to_string()));
    };
    let linked = notebook.markdown().any(|(number, cell)| number >= *start && LINK.is_match(&cell.source));
    let message = format!("the section \"{heading}\" has no link; name each source with its address");
    (!linked).then_some((Some(*start), Rule::Source, message))
}

/// Checks three kinds of citations, each of which needs a link:
///
/// - an arXiv number is the text of a link, or stands beside its address;
/// - "NAME et al." is explained by a paragraph or list item of the notebook that has the name and a link;
/// - a number of "the paper" needs a link to a paper anywhere in the notebook.
fn unlinked_sources(notebook: &Notebook) -> Vec<Found> {
    let texts: Vec<(usize, &str)> = notebook.markdown().map(|(number, cell)| (number, cell.source.as_str())).collect();
    let linked: Vec<&str> =
        texts.iter().flat_map(|(_, text)| blocks(text)).filter(|block| LINK.is_match(block)).collect();
    let has_paper = linked.iter().any(|block| PAPER.is_match(block));
    let (mut found, mut names) = (Vec::new(), BTreeSet::new());
    for (number, text) in &texts {
        let mut add = |message| found.push((Some(*number), Rule::Source, message));
        for arxiv in ARXIV.find_iter(&LINK.replace_all(text, "")) {
            let id = arxiv.as_str().trim_start_matches(|letter: char| !letter.is_ascii_digit());
            let address = format!("[arXiv {id}](https://arxiv.org/abs/{id})");
            add(format!("\"{}\" is no link; write {address}", arxiv.as_str().replace('\n', " ")));
        }
        for name in CITED.captures_iter(text).map(|cited| cited[1].to_string()) {
            let explained = linked.iter().any(|block| block.contains(&name));
            if !explained && names.insert(name.clone()) {
                add(format!(
                    "\"{name} et al.\" is cited without a link; add the source with its address to the references"
                ));
            }
        }
        if !has_paper && blocks(text).iter().any(|block| PAPERS_NUMBER.is_match(block)) {
            add("a number is said to be the paper's, but no paper is linked; add its address".to_string());
        }
    }
    found
}

/// Splits Markdown into paragraphs and list items.
fn blocks(text: &str) -> Vec<&str> {
    static START: LazyLock<Regex> = LazyLock::new(|| pattern(r"\n\s*\n|\n\s*(?:[-*+]|\d+\.)\s"));
    let starts = START.find_iter(text).map(|start| start.start());
    let bounds: Vec<usize> = std::iter::once(0).chain(starts).chain([text.len()]).collect();
    bounds.windows(2).map(|bound| &text[bound[0]..bound[1]]).collect()
}
