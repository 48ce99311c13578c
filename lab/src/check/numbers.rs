//! Rule on numbers in the text: each one that a Markdown cell states as a result stands in the notebook's outputs or code.
//!
//! A number is taken for a result if it has decimals or an exponent, is a percentage or a number of points, or is at least
//! 100. Not taken for results are years, sizes (224 × 224), numbers of headings, tasks, sections, figures and the like, names
//! with digits (DINOv2, 2.11.0), and everything in headings, links, code and formulas.
//!
//! A result must be a number of an output (streams, text, tables, descriptions of figures) or of a code cell, rounded to the
//! digits that the text shows. 79.5 % may stand there as 0.795, and the other way round. A sign that the text shows must be
//! the same. A cell's metadata can list exceptions with their reasons: `"vitlab": {"numbers": {"0.65": "Table 4 of …"}}`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

use super::finding::{Found, Rule};
use super::notebook::{Cell, CellType, Notebook, Output};
use super::text::{HEADING, author_line};
use super::values;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a fixed pattern")
}

/// Digits, with commas or narrow spaces between thousands, decimals and an exponent.
const DIGITS: &str = r"[0-9]{1,3}(?:[,\x{202f}\x{a0}][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?(?:[eE][+\-−]?[0-9]+)?";
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"([+\-−]?)({DIGITS})(\s?%|\s+points?\b)?")));
/// A number of something, which is no result.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    let words =
        "Tasks?|[Ss]ections?|[Ff]igures?|[Tt]ables?|[Ee]quations?|[Aa]ppendix|[Ii]ssues?|[Vv]ersions?|[Qq]uestions?";
    pattern(&format!(r"\b(?:{words})\s+[A-Z]?[0-9]+(?:\.[0-9]+)*(?:(?:,| and| to|–)\s*[0-9]+(?:\.[0-9]+)*)*"))
});
/// Whole numbers with × between them, and the sign before.
static SIZE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(^|[^0-9.,])[0-9]+(?:\s?×\s?[0-9]+)+\b"));
/// Parts of a line or cell that state nothing: code, formulas, links, addresses, tags.
static SILENT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?s)`[^`\n]*`|\$\$.*?\$\$|\$[^$]+\$|!?\[[^\]]*\]\([^)]*\)|https?://[^\s)>\]]+|</?[A-Za-z][^>]*>")
});

pub fn find(notebook: &Notebook) -> Vec<Found> {
    // Without code there is nothing to compare with.
    if notebook.code().next().is_none() {
        return Vec::new();
    }
    let known = Known::of(notebook);
    notebook.markdown().flat_map(|(number, cell)| of_cell(number, cell, &known)).collect()
}

fn of_cell(number: usize, cell: &Cell, known: &Known) -> Vec<Found> {
    let exceptions = exceptions(cell);
    let stated = stated(&cell.source);
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for result in stated.iter().filter(|result| !exceptions.contains_key(&result.digits)) {
        if !known.has(result) && !unknown.contains(&result.text) {
            unknown.push(result.text.clone());
        }
    }
    if !unknown.is_empty() {
        let message = format!(
            "states {}, which no output shows; correct the text, print the number, or give the reason in the cell's \
             metadata: \"vitlab\": {{\"numbers\": {{\"{}\": \"…\"}}}}",
            unknown.join(", "),
            unknown[0].trim_start_matches(['+', '-', '−']).trim_end_matches(|c: char| !c.is_ascii_digit())
        );
        found.push((Some(number), Rule::Number, message));
    }
    for (digits, reason) in &exceptions {
        let problem = if reason.trim().is_empty() {
            "has no reason; write one"
        } else if stated.iter().all(|result| result.digits != *digits) {
            "isn't stated in the cell; remove it"
        } else {
            continue;
        };
        found.push((Some(number), Rule::Number, format!("the number {digits} in the cell's metadata {problem}")));
    }
    found
}

/// The numbers that a cell's metadata excuse, with the reasons.
fn exceptions(cell: &Cell) -> BTreeMap<String, String> {
    let listed = cell.metadata["vitlab"]["numbers"].as_object().into_iter().flatten();
    listed.map(|(digits, reason)| (digits.clone(), reason.as_str().unwrap_or_default().to_string())).collect()
}

/// A number as the text shows it.
#[derive(Debug, PartialEq)]
struct Shown {
    /// With sign and unit.
    text: String,
    /// Without sign and unit.
    digits: String,
    /// `Some(false)` for a minus sign.
    sign: Option<bool>,
    value: f64,
    /// Half of one in the last digit.
    half: f64,
    percent: bool,
}

impl Shown {
    /// Reads a match of [`NUMBER`] in `text`; `None` for a part of a name, a version or a date.
    fn read(text: &str, number: &Captures) -> Option<Self> {
        let (whole, digits) = (number.get(0)?, number.get(2)?);
        let before = text[..digits.start()].chars().next_back();
        let (before_sign, after) = (text[..whole.start()].chars().next_back(), text[digits.end()..].chars().next());
        let in_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '^'));
        let signed = !number[1].is_empty();
        // "GPT-2" is a name; in "0.3-0.5" the hyphen isn't a sign.
        let joined = signed && in_word(before_sign);
        if joined && before_sign.is_some_and(char::is_alphabetic) || in_word(before) || in_word(after) {
            return None;
        }
        let version = |rest: &str| rest.starts_with('.') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        if before == Some('.') || version(&text[digits.end()..]) {
            return None;
        }
        let plain: String = digits.as_str().chars().filter(|c| !matches!(c, ',' | '\u{202f}' | '\u{a0}')).collect();
        let value: f64 = plain.replace('−', "-").parse().ok()?;
        let unit = number.get(3).map_or("", |unit| unit.as_str());
        let sign = if joined { "" } else { &number[1] };
        Some(Shown {
            text: format!("{sign}{}{}", digits.as_str(), unit.replace('\n', " ")),
            digits: digits.as_str().to_string(),
            sign: (!sign.is_empty()).then(|| sign == "+"),
            value,
            half: half_digit(&plain),
            percent: unit.ends_with('%'),
        })
    }

    fn is_result(&self, has_unit: bool) -> bool {
        let whole = !self.digits.contains(['.', 'e', 'E']);
        let year = (1900.0..2100.0).contains(&self.value) && self.digits.len() == 4;
        has_unit || !whole || self.value >= 100.0 && !year
    }
}

/// Half of one in the last digit: 0.005 for "79.52", 0.5 for "245", 5e-7 for "5.0e-5".
fn half_digit(number: &str) -> f64 {
    let number = number.replace('−', "-").to_lowercase();
    let (mantissa, exponent) = number.split_once('e').unwrap_or((&number, "0"));
    let decimals = mantissa.split_once('.').map_or(0, |(_, decimals)| decimals.len() as i32);
    0.5 * 10f64.powi(exponent.parse::<i32>().unwrap_or(0) - decimals)
}

/// The results that the source of a Markdown cell states.
fn stated(source: &str) -> Vec<Shown> {
    let (mut text, mut in_code) = (String::new(), false);
    let author = author_line(source).unwrap_or("\0");
    for line in source.lines() {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        if !(in_code || fence || HEADING.is_match(line) || line == author) {
            text += line;
        }
        text.push('\n');
    }
    let text = SILENT.replace_all(&text, " ␣ ");
    let text = REFERENCE.replace_all(&text, " ␣ ");
    let text = SIZE.replace_all(&text, "$1 ␣ ");
    let numbers = NUMBER.captures_iter(&text);
    let results =
        numbers.filter_map(|number| Shown::read(&text, &number).map(|shown| (shown, number.get(3).is_some())));
    results.filter(|(shown, has_unit)| shown.is_result(*has_unit)).map(|(shown, _)| shown).collect()
}

/// The numbers of outputs, code and headings.
struct Known {
    numbers: Vec<Shown>,
}

impl Known {
    fn of(notebook: &Notebook) -> Self {
        let mut texts = Vec::new();
        for cell in &notebook.cells {
            match cell.cell_type {
                CellType::Code => {
                    texts.push(cell.source.clone());
                    texts.extend(cell.outputs.iter().flat_map(shown_by));
                }
                CellType::Markdown => {
                    texts.extend(cell.source.lines().filter(|line| HEADING.is_match(line)).map(str::to_string));
                }
                CellType::Raw => {}
            }
        }
        let numbers = texts.iter().flat_map(|text| {
            NUMBER.captures_iter(text).filter_map(|number| of_output(text, &number)).collect::<Vec<_>>()
        });
        Known { numbers: numbers.collect() }
    }

    /// Whether a known number, rounded to the digits of `result`, is the same.
    fn has(&self, result: &Shown) -> bool {
        // The bounds get room for binary fractions.
        let near =
            |known: f64, value: f64, half: f64| (known - value).abs() <= half * (1.0 + 1e-9) + 1e-12 * value.abs();
        self.numbers.iter().any(|known| {
            let same_sign = result.sign.is_none_or(|plus| plus == (known.sign != Some(false)));
            let fraction = result.value <= 1.0 && known.percent;
            same_sign
                && (near(known.value, result.value, result.half)
                    || near(100.0 * known.value, result.value, result.half) && known.value <= 1.0
                    || fraction && near(known.value / 100.0, result.value, result.half))
        })
    }
}

/// Reads a number of an output or of code, also one that is a part of a word, such as "93%" or "3f64".
fn of_output(text: &str, number: &Captures) -> Option<Shown> {
    Shown::read(text, number).or_else(|| {
        let digits = number.get(2)?.as_str();
        let plain = digits.replace([',', '\u{202f}', '\u{a0}'], "").replace('−', "-");
        let (text, digits, sign) = (number[0].to_string(), digits.to_string(), None);
        Some(Shown { text, digits, sign, value: plain.parse().ok()?, half: half_digit(&plain), percent: false })
    })
}

/// The texts of an output that a reader sees, without pages made of scripts.
fn shown_by(output: &Output) -> Vec<String> {
    match output {
        Output::Stream { text, .. } => vec![text.clone()],
        Output::Error { .. } => Vec::new(),
        Output::DisplayData(bundle) | Output::ExecuteResult(bundle) => {
            let plain = bundle.data.get("text/plain").map(|text| text.0.clone());
            let tables = bundle.data.get("text/html").map(|html| values::tables(&html.0));
            let alts = bundle.metadata.values().filter_map(|of_kind| of_kind.get("alt").and_then(Value::as_str));
            plain.into_iter().chain(tables).chain(alts.map(str::to_string)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(source: &str) -> Vec<String> {
        stated(source).into_iter().map(|shown| shown.text).collect()
    }

    #[test]
    fn numbers_with_decimals_percentages_and_large_ones_are_results() {
        assert_eq!(
            results("It has 79.52 %, 7 % or 0.65, −0.14 (1,234 of 10,000)."),
            ["79.52 %", "7 %", "0.65", "−0.14", "1,234", "10,000"]
        );
        assert_eq!(
            results("A lead of 3 points, 57.8 ± 14.9 %, 2.4e-7, 0.3–0.5."),
            ["3 points", "57.8", "14.9 %", "2.4e-7", "0.3", "0.5"]
        );
        assert_eq!(results("0.3-0.5, 245 images\n| a | 3.5 |"), ["0.3", "0.5", "245", "3.5"]);
    }

    #[test]
    fn structural_numbers_are_no_results() {
        for text in [
            "in 2019, layers 0 and 1, 24 heads, ten classes",
            "patches of 224 × 224 pixels, [6, 4, 50, 50]",
            "# Title with 99.5 %\n### Task 2.2: x",
            "`0.65`\n```\n0.65\n```",
            "$x / 255.5$ and $$\n0.25\n$$",
            "[arXiv 2010.11929](https://arxiv.org/abs/2010.11929), https://x.org/123.5",
            "section 3.1, Task 2.3, Figure 4.2, Tables 1.1 and 1.2, issue 161, appendix D.7",
            "DINOv2, ViT-S/16, GPT-3.5, ImageNet-21k, libtorch 2.11.0, 2026-11-29",
            "*Author: M, 1234567 · Course: C 205.3 · Date: D*",
        ] {
            assert_eq!(results(text), [""; 0], "{text}");
        }
        assert_eq!(
            results("```\n0.65\n```\n0.75, 1.5 × 224, p < 0.05 and > 0.01"),
            ["0.75", "1.5", "224", "0.05", "0.01"]
        );
    }

    /// Whether an output with `output` has the only number of `text`.
    fn fits(text: &str, output: &str) -> bool {
        let stated = stated(text);
        assert_eq!(stated.len(), 1, "{text}");
        let numbers = NUMBER.captures_iter(output).filter_map(|number| of_output(output, &number)).collect();
        Known { numbers }.has(&stated[0])
    }

    #[test]
    fn numbers_are_rounded_to_the_digits_of_the_text() {
        for (text, output) in [
            ("79.52 %", "accuracy 79.52"),
            ("79.5 %", "79.52"),
            ("80 %", "79.52"),
            ("0.13", "0.125"),
            ("1,234", "1234"),
            ("10.37 points", "+10.37"),
            ("−0.132", "-0.132"),
            ("−0.13", "−0.132 ± 0.011"),
            ("79.5 %", "0.7952"),
            ("79.5", "0.7952"),
            ("0.795", "79.52 %"),
            ("2.4e-7", "2.4e−7"),
            ("0.0005", "\"LR\": 5e-4,"),
            ("3.5", "let x = 3.5f64;"),
        ] {
            assert!(fits(text, output), "{text} and {output}");
        }
        for (text, output) in [
            ("79.52 %", "79.5"),
            ("79.53 %", "79.52"),
            ("80 %", "79.4"),
            ("245", "246"),
            ("−0.132", "0.132"),
            ("+0.13", "−0.132"),
            ("0.795", "79.52"),
            ("2.4e-7", "2.5e-7"),
            ("300", "30"),
        ] {
            assert!(!fits(text, output), "{text} and {output}");
        }
    }
}
