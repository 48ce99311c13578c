//! CNN and ViT on parts of the training images.

use super::Results;
use super::cells::{NONE, UNTRAINED, percent, points_interval};
use crate::Config;
use crate::notebook::Table;
use crate::statistics::{Interval, signed};
use crate::train::History;

/// FashionMNIST's training images: a configuration without TRAIN_IMAGES uses all.
const ALL: i64 = 60_000;

/// The beginnings of the names of the two networks' runs.
const CNN: &str = "cnn_";
const VIT: &str = "vit_";

/// Accuracies of both networks by schedule and number of images.
pub(super) fn table(runs: &[Results]) -> Table {
    let config = |results: &Results| results.run.config(results.run.seeds[0]).expect("a plan is checked");
    let mut pairs = Vec::new();
    for vit in runs {
        let cnn = vit.run.name.strip_prefix(VIT).and_then(|end| super::run(runs, &format!("{CNN}{end}")));
        if let Some(cnn) = cnn {
            pairs.push((images(&config(vit)), steps(&config(vit)), config(vit).epochs, cnn, vit));
        }
    }
    pairs.sort_by_key(|(images, ..)| *images);
    let most = pairs.iter().map(|(_, steps, ..)| *steps).max().unwrap_or(0);
    let equal_steps = pairs.iter().filter(|(_, steps, ..)| *steps == most);
    let equal_epochs = pairs.iter().filter(|(images, steps, ..)| *images == ALL || *steps != most);
    let rows = [("equal steps", Vec::from_iter(equal_steps)), ("equal epochs", Vec::from_iter(equal_epochs))];
    let rows = rows.iter().flat_map(|(schedule, pairs)| {
        pairs.iter().map(move |(images, steps, _, cnn, vit)| {
            let share = format!("{} %", *images as f64 * 100.0 / ALL as f64);
            let start = [schedule.to_string(), share, images.to_string(), steps.to_string()];
            start.into_iter().chain(accuracies(cnn, vit)).collect()
        })
    });
    let header = [
        "schedule",
        "share",
        "images",
        "steps",
        "networks",
        "CNN (%)",
        "ViT (%)",
        "CNN − ViT (points)",
        "95 % interval (Welch)",
    ];
    Table::new("CNN and ViT by number of training images", &header, &Vec::from_iter(rows))
}

/// Number of networks, accuracies and their difference.
fn accuracies(cnn: &Results, vit: &Results) -> Vec<String> {
    let values = |of: &Results| Vec::from_iter(of.of_histories(History::accuracy).into_iter().map(|(_, value)| value));
    let [cnn, vit] = [values(cnn), values(vit)];
    let count = format!("{} and {}", cnn.len(), vit.len());
    if cnn.is_empty() && vit.is_empty() {
        return vec![count, UNTRAINED.to_string()];
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let both = !cnn.is_empty() && !vit.is_empty();
    vec![
        count,
        percent(&cnn),
        percent(&vit),
        if both { signed(100.0 * (mean(&cnn) - mean(&vit)), 2) } else { NONE.to_string() },
        Interval::welch(&cnn, &vit).map_or(NONE.to_string(), points_interval),
    ]
}

fn images(config: &Config) -> i64 {
    config.train_images.unwrap_or(ALL)
}

/// Steps of the whole training.
fn steps(config: &Config) -> i64 {
    config.epochs as i64 * config.steps_per_epoch.unwrap_or(images(config) / config.batch_size)
}
