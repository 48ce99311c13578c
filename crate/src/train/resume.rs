//! The checkpoint of a training between two epochs: model, optimizer and history in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::no_grad;

use super::{History, Trainer};
use crate::checkpoint::{self, StateDict};
use crate::data::Origin;
use crate::model::Model;
use crate::{Error, Result};

/// Prefix of the model's tensors.
const MODEL: &str = "model.";
const EXP_AVG: &str = "optimizer.exp_avg";
const EXP_AVG_SQ: &str = "optimizer.exp_avg_sq";

pub(super) fn write(trainer: &Trainer, model: &impl Model, path: &Path) -> Result<()> {
    let model = checkpoint::state_dict(model.variables()).0;
    let mut tensors: Vec<_> = model.into_iter().map(|(name, tensor)| (format!("{MODEL}{name}"), tensor)).collect();
    tensors.push((EXP_AVG.to_string(), trainer.optimizer.exp_avg.shallow_clone()));
    tensors.push((EXP_AVG_SQ.to_string(), trainer.optimizer.exp_avg_sq.shallow_clone()));
    let metadata = BTreeMap::from([
        ("format".to_string(), "vitlab checkpoint".to_string()),
        ("steps".to_string(), trainer.optimizer.steps.to_string()),
        ("recipe".to_string(), trainer.recipe.clone()),
        ("history".to_string(), serde_json::to_string(&trainer.history).expect("a History has a JSON form")),
    ]);
    checkpoint::write_safetensors(path, &StateDict(tensors), &metadata)
}

/// Sets the model's weights and the trainer's state.
///
/// # Errors
/// Fails if the file is broken or belongs to another recipe, configuration, data or model. Nothing is changed then.
pub(super) fn read(trainer: &mut Trainer, model: &impl Model, path: &Path, origin: &Origin) -> Result<()> {
    let broken = |cause: &str| {
        Error::file(path, format!("is not a checkpoint of a training ({cause}); delete it to start anew"))
    };
    let other = |problem: String| Err(Error::file(path, format!("is a checkpoint of {problem}")));
    let (tensors, metadata) = checkpoint::read_safetensors(path)?;
    let entry = |name: &str| metadata.get(name).ok_or_else(|| broken(&format!("it has no {name}")));
    let steps = entry("steps")?.parse::<i64>().map_err(|_| broken("its number of steps is not a number"))?;
    let history: History = serde_json::from_str(entry("history")?).map_err(|e| broken(&e.to_string()))?;

    let recipe = metadata.get("recipe").map_or("", String::as_str);
    if recipe != trainer.recipe {
        return other(format!("another training ({recipe}; this one is {}); choose another folder", trainer.recipe));
    }
    let differences = trainer.history.config.differences(&history.config).join("; ");
    if !differences.is_empty() {
        return other(format!("another configuration ({differences}); delete it or use its values"));
    }
    if history.origin != *origin {
        return other("a training on other data; delete it to start anew".to_string());
    }
    let [Some(exp_avg), Some(exp_avg_sq)] = [EXP_AVG, EXP_AVG_SQ].map(|name| tensors.get(name)) else {
        return Err(broken("the optimizer's state is missing"));
    };
    if [exp_avg, exp_avg_sq].iter().any(|t| t.size() != trainer.optimizer.exp_avg.size()) {
        return Err(broken("the optimizer's state has another size"));
    }
    let state = tensors
        .0
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(MODEL)?.to_string(), tensor.shallow_clone())));
    checkpoint::assign(model.variables(), &StateDict(state.collect()), path)?;
    no_grad(|| {
        trainer.optimizer.exp_avg.copy_(exp_avg);
        trainer.optimizer.exp_avg_sq.copy_(exp_avg_sq);
    });
    trainer.optimizer.steps = steps;
    trainer.history = history;
    Ok(())
}
