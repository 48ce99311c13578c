//! What a training shows in a notebook of vitlab's kernel while it runs: a bar and a learning curve, changed in place. On
//! any other kernel the lines that the notebook prints are all there is.

use std::time::{Duration, Instant};

use super::{Epoch, History, Step};
use crate::notebook::{Place, Show, cell, kernel};
use crate::plot::{Figure, Panel, Series, curves};
use crate::{Error, Result};

/// A curve takes a few hundredths of a second to draw.
const REDRAWN: Duration = Duration::from_secs(5);

pub(super) struct View {
    /// In whose output it is.
    cell: Option<String>,
    bar: Place,
    curve: Place,
    drawn: Instant,
    /// (epochs done, loss and accuracy so far) within the epochs.
    running: Vec<(f64, f64, f64)>,
}

impl View {
    /// None where nothing can be changed in place.
    pub(super) fn open() -> Option<Self> {
        kernel().map(|_| View {
            cell: cell(),
            bar: Place::new(),
            curve: Place::new(),
            drawn: Instant::now(),
            running: Vec::new(),
        })
    }

    /// Whether another cell runs by now, in whose output a view of its own belongs.
    pub(super) fn is_of_another_cell(&self) -> bool {
        self.cell != cell()
    }

    pub(super) fn step(&mut self, step: &Step, history: &History) {
        let done = (step.epoch - 1) as f64 + step.batch as f64 / step.batches as f64;
        self.running.push((done, step.score.loss, step.score.accuracy));
        self.bar.show(&Bar {
            share: done / step.epochs as f64,
            text: format!(
                "epoch {} of {} · loss {:.3} · accuracy {:.1} % · {:.0} images/s · {} left",
                step.epoch,
                step.epochs,
                step.score.loss,
                step.score.accuracy * 100.0,
                step.images_per_second,
                time(step.left)
            ),
        });
        if self.drawn.elapsed() > REDRAWN {
            self.draw(history);
        }
    }

    /// After an epoch was recorded.
    pub(super) fn epoch(&mut self, epoch: &Epoch, history: &History) {
        let epochs = history.config.epochs;
        let done = match epoch.stopped_after {
            Some(batches) => format!("interrupted after {batches} batches of epoch {} of {epochs}", epoch.epoch),
            None => format!("{} of {epochs} epochs", epoch.epoch),
        };
        self.bar.show(&Bar {
            share: epoch.epoch as f64 / epochs as f64,
            text: format!(
                "{done} · test accuracy {:.1} % · {}",
                epoch.test_accuracy * 100.0,
                time(Duration::from_secs_f64(history.seconds()))
            ),
        });
        // From here on the epoch's own mean stands for it.
        self.running.clear();
        self.draw(history);
    }

    fn draw(&mut self, history: &History) {
        self.drawn = Instant::now();
        // A training goes on without its picture.
        if let Ok(figure) = self.figure(history) {
            self.curve.show(&figure);
        }
    }

    fn figure(&self, history: &History) -> Result<Figure> {
        let panel = |y_label: &str,
                     percent: bool,
                     train: fn(&Epoch) -> f64,
                     test: fn(&Epoch) -> f64,
                     running: fn(&(f64, f64, f64)) -> f64| {
            let epochs = || history.epochs.iter().map(|epoch| epoch.epoch as f64);
            let points = |value: fn(&Epoch) -> f64| epochs().zip(history.epochs.iter().map(value));
            let running = self.running.iter().map(|point| (point.0, running(point)));
            Panel {
                x_label: "epoch".into(),
                y_label: y_label.into(),
                series: vec![
                    Series {
                        name: "training".into(),
                        points: points(train).chain(running).collect(),
                        dashed: true,
                        ..Series::default()
                    },
                    Series { name: "test".into(), points: points(test).collect(), ..Series::default() },
                ],
                percent,
                ..Panel::default()
            }
        };
        if history.epochs.is_empty() && self.running.is_empty() {
            return Err(Error::argument("nothing was trained yet"));
        }
        let panels = [
            panel("cross-entropy (nats)", false, |e| e.train_loss, |e| e.test_loss, |p| p.1),
            panel("accuracy", true, |e| e.train_accuracy, |e| e.test_accuracy, |p| p.2),
        ];
        curves(&history.origin.title("Training so far"), &panels)
    }
}

struct Bar {
    /// From 0 to 1.
    share: f64,
    text: String,
}

impl Show for Bar {
    fn contents(&self) -> Vec<(&'static str, String)> {
        let html =
            format!("<progress value=\"{:.4}\" max=\"1\" style=\"width: 16em\"></progress> {}", self.share, self.text);
        let plain = format!("{:3.0} % · {}", self.share * 100.0, self.text);
        vec![("text/html", html), ("text/plain", plain)]
    }
}

/// "48 s", "3 min 20 s", "1 h 5 min".
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        assert_eq!(time(Duration::from_millis(47_600)), "48 s");
        assert_eq!(time(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(time(Duration::from_secs(3900)), "1 h 5 min");
    }
}
