//! The attention by layer, over trained and untrained ViTs.

use super::cells::{NONE, UNMEASURED, spread};
use super::{Results, run};
use crate::evidence::{AttentionMeasures, LayerMeasures};
use crate::notebook::Table;

/// The runs that the tables compare.
pub(super) const NETWORKS: [&str; 2] = ["vit", "vit_untrained"];

/// The attention of the measured networks of a run; empty if the plan doesn't have it.
pub(super) fn attention<'a>(runs: &'a [Results], name: &str) -> Vec<&'a AttentionMeasures> {
    let measures = run(runs, name).into_iter().flat_map(Results::measures);
    measures.filter_map(|measures| measures.attention.as_ref()).collect()
}

/// Number of layers of the networks.
pub(super) fn depth(networks: &[&AttentionMeasures]) -> usize {
    networks.iter().map(|network| network.layers.len()).max().unwrap_or(0)
}

/// A value of one layer, and the digits behind its decimal point.
pub(super) type Column = (fn(&LayerMeasures) -> Option<f64>, usize);

/// Rows of run, number of networks, layer, and each column's mean ± standard deviation over the networks.
pub(super) fn by_layer(runs: &[Results], columns: &[Column]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for name in NETWORKS {
        let networks = attention(runs, name);
        if networks.is_empty() {
            rows.push(vec![name.to_string(), "0".to_string(), UNMEASURED.to_string()]);
        }
        for layer in 0..depth(&networks) {
            let cells = columns.iter().map(|&(value, digits)| {
                let of_network = |network: &&AttentionMeasures| value(network.layers.get(layer)?);
                spread(&Vec::from_iter(networks.iter().filter_map(of_network)), 1.0, digits)
            });
            let start = [name.to_string(), networks.len().to_string(), layer.to_string()];
            rows.push(start.into_iter().chain(cells).collect());
        }
    }
    rows
}

/// Measures of each layer.
pub(super) fn layers(runs: &[Results]) -> Table {
    let columns: [Column; 5] = [
        (|layer| Some(100.0 * layer.garment.mean_0?), 1),
        (|layer| Some(100.0 * layer.garment.max_90?), 1),
        (|layer| Some(layer.class_entropy), 2),
        (|layer| Some(layer.entropy), 2),
        (|layer| Some(layer.distance), 2),
    ];
    let header = [
        "run",
        "networks",
        "layer",
        "on the garment (%), mean, 0",
        "on the garment (%), max, 0.9",
        "entropy of the class token's rows (nats)",
        "entropy of all rows (nats)",
        "attention distance (patches)",
    ];
    Table::new("Attention by layer", &header, &by_layer(runs, &columns))
}

/// Correlations of the layers' maps, mean ± standard deviation over networks.
pub(super) fn correlations(runs: &[Results]) -> Table {
    let most = NETWORKS.iter().map(|name| depth(&attention(runs, name))).max().unwrap_or(0);
    let mut rows = Vec::new();
    for name in NETWORKS {
        let networks = attention(runs, name);
        if networks.is_empty() {
            rows.push(vec![name.to_string(), UNMEASURED.to_string()]);
        }
        for a in 0..depth(&networks) {
            let with = |b: usize| {
                let of_network = |network: &&AttentionMeasures| *network.layer_correlations.get(a)?.get(b)?;
                let values = Vec::from_iter(networks.iter().filter_map(of_network));
                if a == b { "1".to_string() } else { spread(&values, 1.0, 2) }
            };
            rows.push([name.to_string(), a.to_string()].into_iter().chain((0..most).map(with)).collect());
        }
    }
    let layers = Vec::from_iter((0..most).map(|layer| format!("with layer {layer}")));
    let header = ["run", "layer"].into_iter().chain(layers.iter().map(String::as_str));
    Table::new("Correlations of the maps of single layers", &Vec::from_iter(header), &rows)
}

/// A value of one network.
type OfNetwork = fn(&AttentionMeasures) -> Option<f64>;

/// A statement about one network of at least six layers; `None` where a value is missing.
type Statement = fn(&AttentionMeasures) -> Option<bool>;

/// The statements that notebook 2 makes about one network.
const STATEMENTS: [(&str, Statement); 10] = [
    ("The rollout over all layers (max, 0.9) lies on the garment more than a flat map", |n| {
        Some(n.garment.max_90? > n.garment_area)
    }),
    ("Layers 0 and 1 lie on the garment more than layers 2 and 3 (max, 0.9)", |n| {
        Some(mean_share(n, 0)? > mean_share(n, 2)?)
    }),
    ("Layers 0 and 1 lie on the garment more than layers 4 and 5 (max, 0.9)", |n| {
        Some(mean_share(n, 0)? > mean_share(n, 4)?)
    }),
    ("Layers 4 and 5 lie on the garment more than layers 2 and 3 (max, 0.9)", |n| {
        Some(mean_share(n, 4)? > mean_share(n, 2)?)
    }),
    ("Layer 0 has the largest share on the garment (max, 0.9)", |n| {
        let first = n.layers.first()?.garment.max_90?;
        Some(n.layers.iter().all(|layer| layer.garment.max_90.is_none_or(|share| share <= first)))
    }),
    ("Early and late map correlate negatively (mean, 0)", |n| Some(n.early_late.mean_0? < 0.0)),
    ("Early and late map correlate negatively (max, 0.9)", |n| Some(n.early_late.max_90? < 0.0)),
    ("Layers 0 and 1 are more alike than either is to layers 4 and 5 (mean, 0)", |n| {
        let near = alike(n, 0, 1)?;
        Some([(0, 4), (0, 5), (1, 4), (1, 5)].iter().all(|&(a, b)| alike(n, a, b).is_some_and(|far| far < near)))
    }),
    ("Layer 0 has the shortest attention distance", |n| {
        let first = n.layers.first()?.distance;
        Some(n.layers.iter().all(|layer| layer.distance >= first))
    }),
    ("The entropy of all rows falls from layer 0 to the last layer", |n| {
        Some(n.layers.last()?.entropy < n.layers.first()?.entropy)
    }),
];

/// Mean share on the garment of two neighbouring layers.
fn mean_share(network: &AttentionMeasures, first: usize) -> Option<f64> {
    let share = |layer: usize| network.layers.get(layer)?.garment.max_90;
    Some((share(first)? + share(first + 1)?) / 2.0)
}

fn alike(network: &AttentionMeasures, a: usize, b: usize) -> Option<f64> {
    *network.layer_correlations.get(a)?.get(b)?
}

/// Number of networks in which each statement holds, and the correlation of early and late maps.
pub(super) fn orderings(runs: &[Results]) -> Table {
    let networks = NETWORKS.map(|name| attention(runs, name));
    let held = |networks: &Vec<&AttentionMeasures>, statement: Statement| {
        let answers = Vec::from_iter(networks.iter().filter_map(|network| statement(network)));
        let holds = answers.iter().filter(|holds| **holds).count();
        if answers.is_empty() { NONE.to_string() } else { format!("{holds} of {}", answers.len()) }
    };
    let statement = |(text, statement): &(&str, Statement)| {
        [text.to_string()].into_iter().chain(networks.each_ref().map(|n| held(n, *statement))).collect()
    };
    let mut rows: Vec<Vec<String>> = STATEMENTS.iter().map(statement).collect();
    let values: [(&str, OfNetwork); 2] = [
        ("Correlation of early and late map (mean, 0)", |n| n.early_late.mean_0),
        ("Correlation of early and late map (max, 0.9)", |n| n.early_late.max_90),
    ];
    for (text, value) in values {
        let of = |n: &Vec<&AttentionMeasures>| spread(&Vec::from_iter(n.iter().filter_map(|n| value(n))), 1.0, 2);
        rows.push([text.to_string()].into_iter().chain(networks.each_ref().map(of)).collect());
    }
    Table::new("Statements about single networks", &["statement", "trained", "untrained"], &rows)
}
