//! Differences between runs: without pairs, and within blocks.

use super::cells::{NONE, UNTRAINED, points_interval};
use super::machines::machine;
use super::{Network, Results, run};
use crate::notebook::Table;
use crate::statistics::{Interval, number, signed};
use crate::train::History;

/// The comparisons that the questions ask for.
const COMPARED: [(&str, &str); 16] = [
    ("student", "vit"),
    ("student", "two_tokens"),
    ("two_tokens", "vit"),
    ("student_soft", "student"),
    ("student_soft", "two_tokens"),
    ("teacher", "student"),
    ("vit_bfloat16", "vit"),
    ("student_zeros", "student"),
    ("student_orthogonal", "student"),
    ("student_soft_half", "student_soft"),
    ("student_of_weak", "student"),
    ("student_of_strong", "student"),
    ("student_cosine", "two_tokens_cosine"),
    ("student_cosine", "student"),
    ("student_all", "two_tokens_cosine"),
    ("matching", "student"),
];

/// The differences of test accuracies. A pair is two networks of the same seed that were trained on the same kind of
/// processor.
pub(super) fn table(runs: &[Results]) -> Table {
    let compared = COMPARED.iter().filter_map(|(a, b)| Some((run(runs, a)?, run(runs, b)?)));
    let rows = Vec::from_iter(compared.map(|(a, b)| row(a, b)));
    let header = [
        "difference",
        "points, unpaired",
        "95 % interval (Welch)",
        "degrees of freedom",
        "pairs",
        "points within pairs",
        "95 % interval within pairs",
        "what a pair shares",
    ];
    Table::new("Differences of test accuracies", &header, &rows)
}

fn row(a: &Results, b: &Results) -> Vec<String> {
    let name = format!("{} − {}", a.run.name, b.run.name);
    let values = |of: &Results| Vec::from_iter(of.of_histories(History::accuracy).into_iter().map(|(_, value)| value));
    let [first, second] = [values(a), values(b)];
    if first.is_empty() || second.is_empty() {
        return vec![name, UNTRAINED.to_string()];
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let points = |value: f64| signed(100.0 * value, 2);
    let welch = Interval::welch(&first, &second);
    let pairs = pairs(a, b);
    let within = Interval::of(&pairs);
    let interval = |interval: Option<Interval>| interval.map_or(NONE.to_string(), points_interval);
    vec![
        name,
        points(mean(&first) - mean(&second)),
        interval(welch),
        welch.map_or(NONE.to_string(), |welch| number(welch.freedom, 1)),
        pairs.len().to_string(),
        if pairs.is_empty() { NONE.to_string() } else { points(mean(&pairs)) },
        interval(within),
        shared(a, b).to_string(),
    ]
}

/// The differences of the pairs.
fn pairs(a: &Results, b: &Results) -> Vec<f64> {
    let histories = |network: &Network| Some((network.seed, network.history.as_ref()?.clone()));
    let second = Vec::from_iter(b.networks.iter().filter_map(histories));
    let pair = |(seed, first): (i64, History)| {
        let (_, other) = second.iter().find(|(known, other)| *known == seed && machine(other) == machine(&first))?;
        Some(first.accuracy()? - other.accuracy()?)
    };
    a.networks.iter().filter_map(histories).filter_map(pair).collect()
}

/// The reason for a pair: the block alone, or a teacher as well.
fn shared(a: &Results, b: &Results) -> &'static str {
    let teaches = |teacher: &Results, student: &Results| {
        let mut seeds = student.run.seeds.iter();
        let own =
            |seed| student.run.teachers.iter().any(|t| t.run_and_seed(seed) == Some((teacher.run.name.as_str(), seed)));
        seeds.all(|&seed| own(seed))
    };
    if teaches(a, b) || teaches(b, a) {
        "block; student and its own teacher"
    } else if !a.run.teachers.is_empty() && a.run.teachers == b.run.teachers {
        "block; the same teacher"
    } else {
        "block"
    }
}
