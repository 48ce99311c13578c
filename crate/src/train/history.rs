//! The history of a training: its configuration, its data and the scores of each epoch, in JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::plain;
use crate::data::Origin;
use crate::{Config, Error, Result, file};

/// One epoch. Losses are mean cross-entropies in nats, accuracies fractions from 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Mean over the epoch's batches while the weights were changing, with augmentation and dropout.
    pub train_loss: f64,
    pub train_accuracy: f64,
    /// After the epoch, on the whole test set or on the images that [`Config::validation_images`] holds out instead.
    pub test_loss: f64,
    pub test_accuracy: f64,
    /// Wall-clock time of training and testing.
    pub seconds: f64,
    /// Number of batches trained before the user interrupted the epoch; `None` for a complete epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_after: Option<i64>,
}

/// Configuration, data and epochs of a training. `models/*.json` and the JSON files of `vitlab train` hold one each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub config: Config,
    pub origin: Origin,
    /// Versions and device of the training, by component; for published weights, also the commit.
    #[serde(default)]
    pub made_with: BTreeMap<String, String>,
    /// Further scores of the final weights on the test set, fractions from 0 to 1 by name. For a student, `vitlab train`
    /// writes the accuracy of each head, and how often each head and their mean agree with the teacher.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    pub epochs: Vec<Epoch>,
}

impl History {
    /// Reads a history from a JSON file.
    ///
    /// # Errors
    /// Fails if the file can't be read or doesn't hold a history.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file(path, format!("can't be read ({e}); `vitlab train` writes such files")))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::file(path, format!("is not a training's history ({})", plain(e))))
    }

    /// Writes the history to a JSON file.
    ///
    /// # Errors
    /// Fails if the file can't be written; an existing file then stays unchanged.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(file::replace(path, |out| writeln!(out, "{}", serde_json::to_string_pretty(self)?))?)
    }

    /// The last epoch and the number of its batches that were trained, if it was interrupted.
    pub(super) fn interrupted(&self) -> Option<(&Epoch, i64)> {
        let last = self.epochs.last()?;
        Some((last, last.stopped_after?))
    }

    /// Number of complete epochs.
    pub(crate) fn whole_epochs(&self) -> usize {
        self.epochs.len() - usize::from(self.interrupted().is_some())
    }

    /// The last epoch's test accuracy, 0 to 1; `None` before the first epoch.
    pub fn accuracy(&self) -> Option<f64> {
        self.epochs.last().map(|e| e.test_accuracy)
    }

    /// Duration of all epochs in seconds.
    pub fn seconds(&self) -> f64 {
        self.epochs.iter().map(|e| e.seconds).sum()
    }
}
