//! Learning curves of trainings.

use super::{Figure, Panel, Series, curves};
use crate::train::{Epoch, History};
use crate::{Error, Result};

/// Loss and accuracy by epoch of one or several trainings, each with its name in the legend (an empty name for a
/// single one): training dashed, because it is measured with augmentation and dropout, test solid. The title is
/// marked with the first training's data.
///
/// # Errors
/// No training, or one without an epoch.
pub fn learning_curves(title: &str, runs: &[(&str, &History)]) -> Result<Figure> {
    let [(_, first), ..] = runs else {
        return Err(Error::argument("there is no training to draw: runs is empty"));
    };
    let panel = |y_label: &str, percent: bool, train: fn(&Epoch) -> f64, test: fn(&Epoch) -> f64| {
        let lines = runs.iter().flat_map(|(name, history)| {
            let line = |suffix: &str, dashed, value: fn(&Epoch) -> f64| {
                let name = format!("{name} {suffix}").trim().to_string();
                Series { dashed, ..Series::per_epoch(&name, history.epochs.iter().map(value)) }
            };
            [line("training", true, train), line("test", false, test)]
        });
        Panel { x_label: "epoch".into(), y_label: y_label.into(), series: lines.collect(), percent, ..Panel::default() }
    };
    let panels = [
        panel("cross-entropy (nats)", false, |e| e.train_loss, |e| e.test_loss),
        panel("accuracy", true, |e| e.train_accuracy, |e| e.test_accuracy),
    ];
    curves(&first.origin.title(title), &panels)
}
