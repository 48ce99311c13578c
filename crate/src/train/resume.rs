//! The checkpoint of a training between two epochs: model, optimizer and history in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Tensor, no_grad};

use super::folder::description;
use super::{AdamW, History, Trainer};
use crate::checkpoint::{self, StateDict};
use crate::config::plain;
use crate::data::Dataset;
use crate::model::Model;
use crate::{Error, Result};

/// Prefix of the model's tensors.
const MODEL: &str = "model.";

impl Trainer {
    /// Writes a checkpoint: weights, optimizer, configuration and history in one safetensors file.
    ///
    /// # Errors
    /// When the file can't be written; an existing file then stays as it is.
    pub fn save(&self, model: &impl Model, path: impl AsRef<Path>) -> Result<()> {
        let mut tensors = checkpoint::state_dict(model.variables()).0;
        tensors.iter_mut().for_each(|(name, _)| name.insert_str(0, MODEL));
        tensors.extend(self.state().map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())));
        let mut metadata = BTreeMap::from([
            ("format".to_string(), "vitlab checkpoint".to_string()),
            ("steps".to_string(), self.optimizer.steps.to_string()),
            ("recipe".to_string(), self.recipe.clone()),
            ("history".to_string(), serde_json::to_string(&self.history).expect("a History has a JSON form")),
        ]);
        metadata.extend(description(&self.history));
        checkpoint::write_safetensors(path.as_ref(), &StateDict(tensors), &metadata)
    }

    /// Continues from the checkpoint at `path`, if there is one: sets the model's weights and this trainer's state.
    /// Returns the number of epochs done, without an interrupted one.
    ///
    /// # Errors
    /// A broken file, or one of another recipe, model, configuration or data; model and trainer then stay as they are.
    pub fn resume(&mut self, model: &impl Model, path: impl AsRef<Path>, data: &Dataset) -> Result<usize> {
        let path = path.as_ref();
        if !path.exists() {
            return Ok(self.history.whole_epochs());
        }
        let broken = |cause: &str| broken(path, cause);
        let (tensors, metadata) = checkpoint::read_safetensors(path)?;
        let steps = entry(&metadata, "steps", path)?;
        let steps = steps.parse::<i64>().map_err(|_| broken("its number of steps is not a number"))?;
        let history = history(&metadata, path)?;
        let recipe = metadata.get("recipe").map_or("", String::as_str);
        if let Some(other) = self.mismatch(&history, recipe, data) {
            let remedy = "choose another folder, use the same values, or delete it to start anew";
            return Err(Error::file(path, format!("is a checkpoint of {other}; {remedy}")));
        }
        let mut saved = Vec::new();
        for (name, tensor) in self.state() {
            let found = tensors.get(name).ok_or_else(|| broken("the optimizer's state is missing"))?;
            if found.size() != tensor.size() {
                return Err(broken("the optimizer's state has another size"));
            }
            saved.push(found.shallow_clone());
        }
        let state = tensors.0.iter();
        let state = state.filter_map(|(name, tensor)| Some((name.strip_prefix(MODEL)?.into(), tensor.shallow_clone())));
        checkpoint::assign(model.variables(), &StateDict(state.collect()), path)?;
        no_grad(|| self.state().zip(&saved).for_each(|((_, tensor), saved)| tensor.shallow_clone().copy_(saved)));
        self.optimizer.steps = steps;
        if let Some(average) = &mut self.average {
            average.steps = steps;
        }
        self.history = history;
        Ok(self.history.whole_epochs())
    }

    /// The optimizer's tensors `[n]` by their names in a checkpoint.
    fn state(&self) -> impl Iterator<Item = (&'static str, &Tensor)> {
        let AdamW { exp_avg, exp_avg_sq, muon, .. } = &self.optimizer;
        let momentum = muon.as_ref().map(|muon| ("optimizer.momentum", &muon.momentum));
        let average = self.average.as_ref().map(|average| ("optimizer.average", &average.weights));
        let moments = [("optimizer.exp_avg", exp_avg), ("optimizer.exp_avg_sq", exp_avg_sq)];
        moments.into_iter().chain(momentum).chain(average)
    }

    /// The difference between this training on `data` and the one that `history` and `recipe` describe, in words.
    pub(super) fn mismatch(&self, history: &History, recipe: &str, data: &Dataset) -> Option<String> {
        if recipe != self.recipe {
            return Some(format!("another training ({recipe}; this one is {})", self.recipe));
        }
        let differences = self.history.config.differences(&history.config).join("; ");
        if !differences.is_empty() {
            return Some(format!("another configuration ({differences})"));
        }
        // The subsets are part of the configuration; the names of the data sets are left.
        let [theirs, ours] = [&history.origin, &data.origin];
        (theirs != ours).then(|| format!("a training on other data ({theirs}; this one is on {ours})"))
    }
}

impl History {
    /// Reads the history in a training's checkpoint.
    ///
    /// # Errors
    /// A file that can't be read or is not such a checkpoint.
    pub(super) fn of_checkpoint(path: &Path) -> Result<Self> {
        history(&checkpoint::read_safetensors(path)?.1, path)
    }
}

fn history(metadata: &BTreeMap<String, String>, path: &Path) -> Result<History> {
    serde_json::from_str(entry(metadata, "history", path)?).map_err(|error| broken(path, &plain(error)))
}

fn entry<'a>(metadata: &'a BTreeMap<String, String>, name: &str, path: &Path) -> Result<&'a str> {
    metadata.get(name).map(String::as_str).ok_or_else(|| broken(path, &format!("it has no {name}")))
}

fn broken(path: &Path, cause: &str) -> Error {
    Error::file(path, format!("is not a checkpoint of a training ({cause}); delete it to start anew"))
}
