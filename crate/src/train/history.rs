//! What a training went through, epoch by epoch.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Origin;
use crate::{Config, Error, Result, file};

/// One epoch. Losses are mean cross-entropies in nats, accuracies shares from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Of the epoch's last step.
    pub lr: f64,
    /// Mean over the epoch's batches while the weights were changing, with augmentation and dropout.
    pub train_loss: f64,
    pub train_accuracy: f64,
    /// On the whole test set after the epoch, or on what [`Config::validation_images`] holds out instead of it.
    pub test_loss: f64,
    pub test_accuracy: f64,
    /// Training and testing of this epoch, wall-clock.
    pub seconds: f64,
    /// Batches that were trained when the user interrupted the epoch; none of a whole epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<i64>,
}

/// A training: its configuration, its data and its epochs. In JSON it is what `models/*.json` and `vitlab train`
/// write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub config: Config,
    pub origin: Origin,
    /// Versions and device of the training, by component; for weights that are handed on, also the commit.
    #[serde(default)]
    pub made_with: BTreeMap<String, String>,
    /// Further scores of the final weights on the test set, shares from 0 to 1 by name. `vitlab train` writes those of a
    /// student: accuracy of each head, and how often each head and their mean agree with the teacher.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    pub epochs: Vec<Epoch>,
}

impl History {
    /// # Errors
    /// A file that is missing or is not a history.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file(path, format!("can't be read ({e}); `vitlab train` writes such files")))?;
        serde_json::from_str(&text).map_err(|e| Error::file(path, format!("is not a training's history ({e})")))
    }

    /// # Errors
    /// When the file can't be written; what was there stays.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a History is always representable in JSON");
        Ok(file::replace(path, |out| writeln!(out, "{text}"))?)
    }

    /// The last epoch and how many of its batches were trained, if it was interrupted.
    pub(super) fn interrupted(&self) -> Option<(&Epoch, i64)> {
        let last = self.epochs.last()?;
        Some((last, last.stopped_after?))
    }

    /// How many epochs were trained to their end.
    pub(super) fn whole_epochs(&self) -> usize {
        self.epochs.len() - usize::from(self.interrupted().is_some())
    }

    /// The last epoch's test accuracy, 0 to 1; `None` before the first.
    pub fn accuracy(&self) -> Option<f64> {
        self.epochs.last().map(|e| e.test_accuracy)
    }

    /// Duration of all epochs in seconds.
    pub fn seconds(&self) -> f64 {
        self.epochs.iter().map(|e| e.seconds).sum()
    }
}
