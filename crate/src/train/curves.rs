//! Learning curves of trainings, and their live progress in a notebook of vitlab's kernel: a progress bar and learning
//! curves, replaced in place. On any other kernel a training shows only the lines that the notebook prints.

use std::time::{Duration, Instant};

use vitlab_dataset::duration::human_duration;

use super::{Epoch, History, Step};
use crate::notebook::{DisplayHandle, Show, cell, kernel};
use crate::plot::{Color, Figure, Panel, Series, curves};
use crate::{Error, Result};

/// Time between two drawings of the curves within an epoch. A drawing takes a few hundredths of a second.
const REDRAW: Duration = Duration::from_secs(5);

/// Loss, accuracy and learning rate by epoch of one or several trainings, each with the name of its network in the legend, which may be
/// empty for a single one. A training has the colour of the network that it is named after; an unnamed one has the
/// ViT's. Training scores are dashed, because they are measured with augmentation and dropout; test scores are solid.
/// The title is marked with the data of the first training.
///
/// # Errors
/// No training, or trainings without any epoch.
pub fn learning_curves(title: &str, runs: &[(&str, &History)]) -> Result<Figure> {
    let (_, first) = (runs.first())
        .ok_or_else(|| Error::argument("there is no training to draw: runs is empty; give at least one"))?;
    curves(&first.origin.title(title), &panels(runs))
}

/// The panels of loss and accuracy, in which the series of training and test alternate, and of the learning rate.
fn panels(runs: &[(&str, &History)]) -> [Panel; 3] {
    let names: Vec<&str> = runs.iter().map(|(name, _)| if name.is_empty() { "ViT" } else { name }).collect();
    let colors = Color::of_series(&names);
    let lines = |suffix: &str, dashed, value: fn(&Epoch) -> f64| {
        let line = |((name, history), network): (&(&str, &History), &&str)| {
            let series = Series::per_epoch(format!("{name} {suffix}").trim(), history.epochs.iter().map(value));
            Series { dashed, color: Some(colors[network]), ..series }
        };
        Vec::from_iter(runs.iter().zip(&names).map(line))
    };
    let scores = |y_label: &str, percent: bool, train: fn(&Epoch) -> f64, test: fn(&Epoch) -> f64| {
        let pairs = lines("training", true, train).into_iter().zip(lines("test", false, test));
        let series = pairs.flat_map(|(train, test)| [train, test]);
        Panel { percent, ..Panel::new("epoch", y_label, series) }
    };
    [
        scores("cross-entropy (nats)", false, |e| e.train_loss, |e| e.test_loss),
        scores("accuracy", true, |e| e.train_accuracy, |e| e.test_accuracy),
        Panel::new("epoch", "learning rate", lines("", false, |e| e.lr)),
    ]
}

pub(super) struct LiveCurves {
    /// The number of the cell whose output contains the view.
    cell: Option<String>,
    bar: DisplayHandle,
    curves: DisplayHandle,
    drawn: Instant,
    /// Loss and accuracy so far within the running epoch, each as (epochs done, score).
    running: [Vec<(f64, f64)>; 2],
}

impl LiveCurves {
    /// `None` on a kernel that can't replace output.
    pub(super) fn open() -> Option<Self> {
        kernel().map(|_| LiveCurves {
            cell: cell(),
            bar: DisplayHandle::new(),
            curves: DisplayHandle::new(),
            drawn: Instant::now(),
            running: Default::default(),
        })
    }

    /// Whether an earlier cell opened the view; the running cell then opens its own.
    pub(super) fn is_of_another_cell(&self) -> bool {
        self.cell != cell()
    }

    pub(super) fn step(&mut self, step: &Step, history: &History) {
        let done = (step.epoch - 1) as f64 + step.batch as f64 / step.batches as f64;
        let [losses, accuracies] = &mut self.running;
        losses.push((done, step.score.loss));
        accuracies.push((done, step.score.accuracy));
        let Step { epoch, epochs, score, images_per_second, .. } = step;
        let text = format!(
            "epoch {epoch} of {epochs} · loss {:.3} · accuracy {:.1} % · {images_per_second:.0} images/s · {} left",
            score.loss,
            score.accuracy * 100.0,
            human_duration(step.left)
        );
        self.bar.show(&ProgressBar(done / step.epochs as f64, text));
        if self.drawn.elapsed() > REDRAW {
            self.draw(history);
        }
    }

    /// Shows `epoch`, the last of `history`.
    pub(super) fn epoch(&mut self, epoch: &Epoch, history: &History) {
        let epochs = history.config.epochs;
        let done = match epoch.stopped_after {
            Some(batches) => format!("interrupted after {batches} batches of epoch {} of {epochs}", epoch.epoch),
            None => format!("{} of {epochs} epochs", epoch.epoch),
        };
        let (accuracy, seconds) =
            (epoch.test_accuracy * 100.0, human_duration(Duration::from_secs_f64(history.seconds())));
        let text = format!("{done} · test accuracy {accuracy:.1} % · {seconds}");
        self.bar.show(&ProgressBar(epoch.epoch as f64 / epochs as f64, text));
        // The mean over the epoch replaces the scores within it.
        self.running = Default::default();
        self.draw(history);
    }

    fn draw(&mut self, history: &History) {
        self.drawn = Instant::now();
        let mut panels = panels(&[("", history)]);
        for (panel, running) in panels.iter_mut().zip(&self.running) {
            panel.series[0].points.extend(running);
        }
        // A training continues without a figure, for example while its loss is NaN.
        if let Ok(figure) = curves(&history.origin.title("Training so far"), &panels) {
            self.curves.show(&figure);
        }
    }
}

/// A share from 0 to 1, with a text beside the bar.
struct ProgressBar(f64, String);

impl Show for ProgressBar {
    fn contents(&self) -> Vec<(&'static str, String)> {
        let ProgressBar(share, text) = self;
        let html = format!("<progress value=\"{share:.4}\" max=\"1\" style=\"width: 16em\"></progress> {text}");
        vec![("text/html", html), ("text/plain", format!("{:3.0} % · {text}", share * 100.0))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_colour_per_training() {
        let history = History::default();
        let [loss, _, _] = panels(&[("CNN", &history), ("ViT", &history)]);
        let styles: Vec<_> = loss.series.iter().map(|series| (series.color.unwrap(), series.dashed)).collect();
        let [cnn, vit] = [Color::BLUE, Color::VERMILLION];
        assert_eq!(styles, [(cnn, true), (cnn, false), (vit, true), (vit, false)]);
    }
}
