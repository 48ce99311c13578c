//! Learning curves of trainings.

use super::{Epoch, History};
use crate::plot::{Color, Figure, Panel, Series, curves};
use crate::{Error, Result};

/// Loss and accuracy by epoch of one or several trainings, each with the name of its network in the legend, which may be
/// empty for a single one. Each training has one colour, by its name that of the network in all figures; without a name
/// that of the ViT. Training scores are dashed, because they are measured with augmentation and dropout; test scores are
/// solid. The title is marked with the data of the first training.
///
/// # Errors
/// No training, or trainings without any epoch.
pub fn learning_curves(title: &str, runs: &[(&str, &History)]) -> Result<Figure> {
    let (_, first) = (runs.first())
        .ok_or_else(|| Error::argument("there is no training to draw: runs is empty; give at least one"))?;
    curves(&first.origin.title(title), &score_panels(runs))
}

/// The panels of loss and accuracy. In each, the series of training and test alternate.
pub(super) fn score_panels(runs: &[(&str, &History)]) -> [Panel; 2] {
    let names: Vec<&str> = runs.iter().map(|(name, _)| if name.is_empty() { "ViT" } else { name }).collect();
    let colors = Color::of_series(&names);
    let panel = |y_label: &str, percent: bool, train: fn(&Epoch) -> f64, test: fn(&Epoch) -> f64| {
        let series = runs.iter().zip(&colors).flat_map(|((name, history), &color)| {
            let line = |suffix: &str, dashed, value: fn(&Epoch) -> f64| {
                let name = format!("{name} {suffix}").trim().to_string();
                Series { dashed, color: Some(color), ..Series::per_epoch(&name, history.epochs.iter().map(value)) }
            };
            [line("training", true, train), line("test", false, test)]
        });
        let series = series.collect();
        Panel { x_label: "epoch".into(), y_label: y_label.into(), series, percent, ..Panel::default() }
    };
    [
        panel("cross-entropy (nats)", false, |e| e.train_loss, |e| e.test_loss),
        panel("accuracy", true, |e| e.train_accuracy, |e| e.test_accuracy),
    ]
}
