//! Heads, teachers and tokens of the runs with two tokens.

use super::Results;
use super::cells::{UNMEASURED, percent, spread};
use crate::evidence::{HeadMeasures, TeacherMeasures, TokenMeasures};
use crate::learner::ModelKind;
use crate::notebook::Table;

fn students(runs: &[Results]) -> impl Iterator<Item = &Results> {
    runs.iter().filter(|results| results.run.model == ModelKind::Deit)
}

/// A row with the run's name, the number of networks and the cells, or with [`UNMEASURED`].
fn row(results: &Results, cells: impl FnOnce() -> Vec<String>) -> Vec<String> {
    let name = results.run.name.clone();
    if !results.is_measured() {
        return vec![name, "0".to_string(), UNMEASURED.to_string()];
    }
    [name, results.measures().count().to_string()].into_iter().chain(cells()).collect()
}

/// Accuracies of the heads and of both together.
pub(super) fn heads(runs: &[Results]) -> Table {
    let measure = |results: &Results, value: fn(&HeadMeasures) -> f64| {
        percent(&results.of_measures(|measures| measures.heads.as_ref().map(value)))
    };
    let rows = students(runs).map(|results| {
        row(results, || {
            vec![
                measure(results, |heads| heads.class),
                measure(results, |heads| heads.distillation),
                measure(results, |heads| heads.distillation - heads.class),
                measure(results, |heads| heads.mean_logits),
                measure(results, |heads| heads.mean_probabilities),
                measure(results, |heads| heads.agreement),
            ]
        })
    });
    let header = [
        "run",
        "networks",
        "class head (%)",
        "distillation head (%)",
        "distillation − class (points)",
        "mean of logits (%)",
        "mean of probabilities (%)",
        "heads agree (%)",
    ];
    Table::new("Heads of students", &header, &Vec::from_iter(rows))
}

/// Agreement with the teachers.
pub(super) fn teachers(runs: &[Results]) -> Table {
    let measure = |results: &Results, value: fn(&TeacherMeasures) -> f64| {
        percent(&results.of_measures(|measures| measures.heads.as_ref()?.teacher.as_ref().map(value)))
    };
    let taught = students(runs).filter(|results| !results.run.teachers.is_empty());
    let rows = taught.map(|results| {
        row(results, || {
            vec![
                measure(results, |teacher| teacher.accuracy),
                measure(results, |teacher| teacher.training_accuracy),
                measure(results, |teacher| teacher.class_agreement),
                measure(results, |teacher| teacher.distillation_agreement),
                measure(results, |teacher| teacher.distillation_agreement - teacher.class_agreement),
            ]
        })
    });
    let header = [
        "run",
        "networks",
        "teacher's test accuracy (%)",
        "teacher's answer is the label, training images (%)",
        "class head agrees (%)",
        "distillation head agrees (%)",
        "distillation − class (points)",
    ];
    Table::new("Teachers and agreement with them", &header, &Vec::from_iter(rows))
}

/// Cosines of the tokens by layer, and the difference of their maps.
pub(super) fn cosines(runs: &[Results]) -> Table {
    let tokens = |results: &Results, value: &dyn Fn(&TokenMeasures) -> Option<f64>, digits| {
        spread(&results.of_measures(|measures| measures.tokens.as_ref().and_then(value)), 1.0, digits)
    };
    let of_measures = students(runs).flat_map(Results::measures);
    let layers = of_measures.filter_map(|measures| Some(measures.tokens.as_ref()?.layers.len())).max().unwrap_or(1);
    let rows = students(runs).map(|results| {
        row(results, || {
            let learned = tokens(results, &|tokens| Some(tokens.learned), 3);
            let by_layer = (0..layers).map(|layer| tokens(results, &|tokens| tokens.layers.get(layer).copied(), 3));
            let ends = [
                tokens(results, &|tokens| Some(tokens.normed), 3),
                tokens(results, &|tokens| tokens.map_correlation, 3),
                tokens(results, &|tokens| Some(tokens.map_distance), 4),
            ];
            [learned].into_iter().chain(by_layer).chain(ends).collect()
        })
    });
    let blocks = Vec::from_iter((1..layers).map(|block| format!("after block {block}")));
    let header = ["run", "networks", "cosine of the learned tokens", "with positions"].into_iter();
    let header = header.chain(blocks.iter().map(String::as_str));
    let header = header.chain(["after the last norm", "correlation of the maps", "distance of the maps"]);
    Table::new("Class and distillation token", &Vec::from_iter(header), &Vec::from_iter(rows))
}
