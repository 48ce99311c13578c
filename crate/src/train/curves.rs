//! Learning curves of trainings.

use super::{Epoch, History};
use crate::plot::{Figure, Panel, Series, curves};
use crate::{Error, Result};

/// Loss and accuracy by epoch of one or several trainings, each with its name in the legend, which may be empty for a
/// single one. Training scores are dashed, because they are measured with augmentation and dropout; test scores are solid.
/// The title is marked with the data of the first training.
///
/// # Errors
/// No training, or trainings without any epoch.
pub fn learning_curves(title: &str, runs: &[(&str, &History)]) -> Result<Figure> {
    let [(_, first), ..] = runs else {
        return Err(Error::argument("there is no training to draw: runs is empty; give at least one"));
    };
    curves(&first.origin.title(title), &score_panels(runs))
}

/// The panels of loss and accuracy. In each, the series of training and test alternate.
pub(super) fn score_panels(runs: &[(&str, &History)]) -> [Panel; 2] {
    let panel = |y_label: &str, percent: bool, train: fn(&Epoch) -> f64, test: fn(&Epoch) -> f64| {
        let series = runs.iter().flat_map(|(name, history)| {
            let line = |suffix: &str, dashed, value: fn(&Epoch) -> f64| {
                let name = format!("{name} {suffix}").trim().to_string();
                Series { dashed, ..Series::per_epoch(&name, history.epochs.iter().map(value)) }
            };
            [line("training", true, train), line("test", false, test)]
        });
        Panel {
            x_label: "epoch".into(),
            y_label: y_label.into(),
            series: series.collect(),
            percent,
            ..Panel::default()
        }
    };
    [
        panel("cross-entropy (nats)", false, |e| e.train_loss, |e| e.test_loss),
        panel("accuracy", true, |e| e.train_accuracy, |e| e.test_accuracy),
    ]
}
