//! Lengths of attention and MLP beside the residual, which a rollout leaves out, and the class token's own share.

use super::Results;
use super::cells::{UNMEASURED, spread};
use super::depth::{Column, NETWORKS, attention, by_layer, depth};
use crate::evidence::AttentionMeasures;
use crate::notebook::Table;

/// Lengths of attention and MLP beside the residual, by layer.
pub(super) fn lengths(runs: &[Results]) -> Table {
    let columns: [Column; 4] = [
        (|layer| Some(layer.attention_length.class), 2),
        (|layer| Some(layer.attention_length.patches), 2),
        (|layer| Some(layer.mlp_length.class), 2),
        (|layer| Some(layer.mlp_length.patches), 2),
    ];
    let header = [
        "run",
        "networks",
        "layer",
        "attention, class token",
        "attention, patches",
        "MLP, class token",
        "MLP, patches",
    ];
    Table::new("Lengths of attention and MLP beside the residual", &header, &by_layer(runs, &columns))
}

/// The class token's own share in its row of the rollout of the first layers, in percent.
pub(super) fn own_share(runs: &[Results]) -> Table {
    let most = NETWORKS.iter().map(|name| depth(&attention(runs, name))).max().unwrap_or(0);
    let mut rows = Vec::new();
    for name in NETWORKS {
        let networks = attention(runs, name);
        let Some(first) = networks.first() else {
            rows.push(vec![name.to_string(), UNMEASURED.to_string()]);
            continue;
        };
        for (index, share) in first.own_share.iter().enumerate() {
            let cells = (0..most).map(|layers| {
                let of_network =
                    |network: &&AttentionMeasures| network.own_share.get(index)?.layers.get(layers).copied();
                spread(&Vec::from_iter(networks.iter().filter_map(of_network)), 100.0, 1)
            });
            let start = [name.to_string(), share.fusion.to_string(), share.discard_ratio.to_string()];
            rows.push(start.into_iter().chain(cells).collect());
        }
    }
    let layers =
        Vec::from_iter((1..=most).map(|count| if count == 1 { "1 layer".into() } else { format!("{count} layers") }));
    let header = ["run", "fusion", "discarded"].into_iter().chain(layers.iter().map(String::as_str));
    Table::new("Class token's own share of its rollout (%)", &Vec::from_iter(header), &rows)
}
