//! The checkpoint of a training between two epochs: model, optimizer and history in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::no_grad;

use super::{History, Trainer};
use crate::checkpoint::{self, StateDict};
use crate::data::Dataset;
use crate::model::Model;
use crate::{Error, Result};

/// Prefix of the model's tensors.
const MODEL: &str = "model.";
const EXP_AVG: &str = "optimizer.exp_avg";
const EXP_AVG_SQ: &str = "optimizer.exp_avg_sq";

impl Trainer {
    /// Writes a checkpoint: weights, optimizer, configuration and history in one safetensors file.
    ///
    /// # Errors
    /// When the file can't be written; an existing file then stays as it is.
    pub fn save(&self, model: &impl Model, path: impl AsRef<Path>) -> Result<()> {
        let mut tensors = checkpoint::state_dict(model.variables()).0;
        tensors.iter_mut().for_each(|(name, _)| name.insert_str(0, MODEL));
        tensors.push((EXP_AVG.to_string(), self.optimizer.exp_avg.shallow_clone()));
        tensors.push((EXP_AVG_SQ.to_string(), self.optimizer.exp_avg_sq.shallow_clone()));
        let metadata = BTreeMap::from([
            ("format".to_string(), "vitlab checkpoint".to_string()),
            ("steps".to_string(), self.optimizer.steps.to_string()),
            ("recipe".to_string(), self.recipe.clone()),
            ("history".to_string(), serde_json::to_string(&self.history).expect("a History has a JSON form")),
        ]);
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
        let broken = |cause: &str| {
            Error::file(path, format!("is not a checkpoint of a training ({cause}); delete it to start anew"))
        };
        let other = |problem: String| Err(Error::file(path, format!("is a checkpoint of {problem}")));
        let (tensors, metadata) = checkpoint::read_safetensors(path)?;
        let entry = |name: &str| metadata.get(name).ok_or_else(|| broken(&format!("it has no {name}")));
        let steps = entry("steps")?.parse::<i64>().map_err(|_| broken("its number of steps is not a number"))?;
        let history: History = serde_json::from_str(entry("history")?).map_err(|e| broken(&e.to_string()))?;

        let recipe = metadata.get("recipe").map_or("", String::as_str);
        if recipe != self.recipe {
            return other(format!("another training ({recipe}; this one is {}); choose another folder", self.recipe));
        }
        let differences = self.history.config.differences(&history.config).join("; ");
        if !differences.is_empty() {
            return other(format!("another configuration ({differences}); delete it or use its values"));
        }
        if history.origin != data.origin {
            return other("a training on other data; delete it to start anew".to_string());
        }
        let [Some(exp_avg), Some(exp_avg_sq)] = [EXP_AVG, EXP_AVG_SQ].map(|name| tensors.get(name)) else {
            return Err(broken("the optimizer's state is missing"));
        };
        if [exp_avg, exp_avg_sq].iter().any(|t| t.size() != self.optimizer.exp_avg.size()) {
            return Err(broken("the optimizer's state has another size"));
        }
        let state = tensors.0.iter();
        let state = state.filter_map(|(name, tensor)| Some((name.strip_prefix(MODEL)?.into(), tensor.shallow_clone())));
        checkpoint::assign(model.variables(), &StateDict(state.collect()), path)?;
        no_grad(|| {
            self.optimizer.exp_avg.copy_(exp_avg);
            self.optimizer.exp_avg_sq.copy_(exp_avg_sq);
        });
        self.optimizer.steps = steps;
        self.history = history;
        Ok(self.history.whole_epochs())
    }
}
