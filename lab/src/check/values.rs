//! Numbers and durations in lines of output.

use std::sync::LazyLock;

use regex::Regex;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a fixed pattern")
}

const NUMBER: &str = r"[+\-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+\-−]?\d+)?";
const TIME: &str = r"(?:ns|µs|μs|us|ms|s|secs?|seconds?|min|minutes?|h|hours?)\b";

/// A duration ("3 min 20 s"), a rate ("2016 images/s", "3.1 GFLOP/s", "12 per second") or a ratio of speeds ("2.1 times as
/// fast").
static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    let rate = r"[\p{L} ]{0,24}(?:/\s?s\b|\bper\s+second\b)";
    let ratio = r"(?:times|×|x)\s+(?:as\s+fast|as\s+slow|faster|slower)\b";
    pattern(&format!(r"{NUMBER}\s?(?:{rate}|{TIME}(?:\s+{NUMBER}\s?{TIME})*|{ratio})"))
});
static NUMBERS: LazyLock<Regex> = LazyLock::new(|| pattern(NUMBER));
/// A unit of time in the name of an axis or a column: "time (ms)", "images per second", "images/s", "seconds".
static TIMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)[(\[](?:ns|µs|μs|us|ms|s|min|h)[)\],]|\bper second\b|/\s?s\b|\b(?:seconds|minutes|duration|elapsed)\b",
    )
});
static ROW: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?is)<tr\b[^>]*>(.*?)</tr>"));
static TABLE_CELL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?is)<t[hd]\b[^>]*>(.*?)</t[hd]>"));
static TABLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?is)<table\b.*?</table>"));
static TAG: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?s)<[^>]*>"));

/// Returns true if a text quotes durations or rates.
pub fn has_durations(text: &str) -> bool {
    DURATION.is_match(text) || TIMED.is_match(text)
}

/// Returns the line without its durations and numbers, and without the spaces that align them.
pub fn masked(line: &str) -> String {
    let numbers = NUMBERS.replace_all(&DURATION.replace_all(line, "⟨time⟩"), "⟨number⟩").into_owned();
    numbers.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns true if two lines agree: equal but for durations and rates, and for numbers within the tolerances.
pub fn agree(old: &str, new: &str) -> bool {
    if masked(old) != masked(new) {
        return false;
    }
    // The values of such an axis stand apart from their unit.
    if TIMED.is_match(old) {
        return true;
    }
    let (old, new) = (DURATION.replace_all(old, ""), DURATION.replace_all(new, ""));
    let (old, new) = (NUMBERS.find_iter(&old), NUMBERS.find_iter(&new));
    old.zip(new).all(|(old, new)| close(old.as_str(), new.as_str()))
}

/// Returns true if two numbers are equal, or if both have decimals and differ by no more than one in the last printed digit,
/// 0.1 % or 1e-6.
fn close(old: &str, new: &str) -> bool {
    let parse = |text: &str| text.replace(',', "").replace('−', "-").parse::<f64>();
    let (Ok(a), Ok(b)) = (parse(old), parse(new)) else { return old == new };
    let (Some(step), Some(other)) = (last_digit(old), last_digit(new)) else { return a == b };
    // The printed values are rounded, so the tolerance of one digit gets room for binary fractions.
    (a - b).abs() <= (step.max(other) * 1.001).max(1e-3 * a.abs().max(b.abs())).max(1e-6)
}

/// Returns the value of one in the last printed digit of a number with decimals: 0.01 for "79.52", 1e-6 for "5.0e-5".
fn last_digit(number: &str) -> Option<f64> {
    let number = number.replace('−', "-").to_lowercase();
    let (digits, exponent) = number.split_once('e').unwrap_or((&number, "0"));
    let decimals = digits.split_once('.')?.1.len() as i32;
    Some(10f64.powi(exponent.parse::<i32>().ok()? - decimals))
}

/// Returns the tables of HTML without their tags.
pub fn tables(html: &str) -> String {
    TABLE.find_iter(html).map(|table| TAG.replace_all(table.as_str(), " ").into_owned()).collect::<Vec<_>>().join("\n")
}

/// Returns HTML as lines of text, with a line for each row of a table. Columns of durations and rates get their unit behind each
/// number, so that they are recognised in any row.
pub fn table_lines(html: &str) -> String {
    let plain = |html: &str| TAG.replace_all(html, " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut lines, mut end) = (Vec::new(), 0);
    for table in TABLE.find_iter(html) {
        lines.push(plain(&html[end..table.start()]));
        end = table.end();
        let mut timed = Vec::new();
        for (place, row) in ROW.captures_iter(table.as_str()).enumerate() {
            let cells: Vec<String> = TABLE_CELL.captures_iter(&row[1]).map(|cell| plain(&cell[1])).collect();
            if place == 0 {
                timed = cells.iter().map(|name| TIMED.is_match(name)).collect();
            }
            let shown = cells.iter().enumerate().map(|(column, cell)| {
                let bare = timed.get(column) == Some(&true)
                    && NUMBERS.find(cell).is_some_and(|number| number.as_str() == cell);
                if bare { format!("{cell} s") } else { cell.clone() }
            });
            lines.push(shown.collect::<Vec<_>>().join(" | "));
        }
    }
    lines.push(plain(&html[end..]));
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_rates_are_not_compared() {
        for (old, new) in [
            ("measured in 14 s", "measured in 9 s"),
            ("10 of 10 epochs · 4 min 6 s", "10 of 10 epochs · 58 s"),
            ("2016 images/s", "99 images/s"),
            ("it is 2.1 times as fast", "it is 1.4 times as fast"),
            ("loss 0.5    112 ms", "loss 0.5     51 ms"),
            ("time per image (ms): 0.003 to 7.55", "time per image (ms): 0.004 to 8.01"),
        ] {
            assert!(agree(old, new), "{old} and {new}");
        }
        assert!(!agree("14 s, loss 0.5", "14 s, loss 0.7"));
        assert!(!agree("5 steps", "6 steps"));
        assert!(!agree("5 s", "5 m"));
    }

    #[test]
    fn decimals_agree_within_the_last_digit_and_whole_numbers_exactly() {
        assert!(close("79.52", "79.53"));
        assert!(close("0.100", "0.101"));
        assert!(!close("0.100", "0.102"));
        assert!(close("1234.5", "1235.6"));
        assert!(close("0.0e0", "1.0e-7"));
        assert!(close("−0.14", "-0.15"));
        assert!(!close("−0.14", "0.14"));
        assert!(!close("245", "246"));
        assert!(close("210,122", "210122"));
    }

    #[test]
    fn a_column_of_rates_is_recognised_by_its_heading() {
        let table = |rate, correct| {
            format!(
                "<p>Speed</p><table><tr><th>way</th><th>images per second</th><th>right</th></tr><tr><td>one</td><td>{rate}</td><td>{correct}</td></tr></table>"
            )
        };
        let lines = |rate, correct| table_lines(&table(rate, correct)).lines().map(String::from).collect::<Vec<_>>();
        let (old, new) = (lines(387, 7), lines(401, 7));
        assert_eq!(old.len(), 3);
        assert!(old.iter().zip(&new).all(|(old, new)| agree(old, new)));
        assert!(!agree(&old[2], &lines(401, 8)[2]));
    }
}
