//! A training's state between two epochs, in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Tensor, no_grad};

use super::{History, Trainer};
use crate::checkpoint::{self, StateDict};
use crate::data::Origin;
use crate::model::Model;
use crate::{Error, Result};

const MODEL: &str = "model.";
const EXP_AVG: &str = "optimizer.exp_avg";
const EXP_AVG_SQ: &str = "optimizer.exp_avg_sq";

pub(super) fn write(trainer: &Trainer, model: &impl Model, path: &Path) -> Result<()> {
    let model = checkpoint::state_dict(model.variables()).0;
    let mut tensors: Vec<_> = model.into_iter().map(|(name, tensor)| (format!("{MODEL}{name}"), tensor)).collect();
    tensors.push((EXP_AVG.to_string(), trainer.optimizer.exp_avg.shallow_clone()));
    tensors.push((EXP_AVG_SQ.to_string(), trainer.optimizer.exp_avg_sq.shallow_clone()));
    let history = serde_json::to_string(&trainer.history).expect("a History is always representable in JSON");
    let metadata = BTreeMap::from([
        ("format".to_string(), "vitlab checkpoint".to_string()),
        ("steps".to_string(), trainer.optimizer.steps.to_string()),
        ("recipe".to_string(), trainer.recipe.clone()),
        ("history".to_string(), history),
    ]);
    checkpoint::write_safetensors(path, &StateDict(tensors), &metadata)
}

pub(super) fn read(trainer: &mut Trainer, model: &impl Model, path: &Path, origin: &Origin) -> Result<()> {
    let broken =
        |what: &str| Error::file(path, format!("is not a checkpoint of a training ({what}); delete it to start anew"));
    let (tensors, metadata) = checkpoint::read_safetensors(path)?;
    let entry = |name: &str| metadata.get(name).ok_or_else(|| broken(&format!("it has no {name}")));
    let steps = entry("steps")?.parse::<i64>().map_err(|_| broken("its number of steps is not a number"))?;
    let history: History = serde_json::from_str(entry("history")?).map_err(|e| broken(&e.to_string()))?;

    let recipe = metadata.get("recipe").map_or("", String::as_str);
    if recipe != trainer.recipe {
        let problem = format!(
            "is a checkpoint of another training ({recipe}; this one is {}); choose another folder",
            trainer.recipe
        );
        return Err(Error::file(path, problem));
    }
    let differences = trainer.history.config.differences(&history.config);
    if !differences.is_empty() {
        let list = differences.join("; ");
        return Err(Error::file(
            path,
            format!("is a checkpoint of another configuration ({list}); delete it or use its values"),
        ));
    }
    if history.origin != *origin {
        return Err(Error::file(path, "is a checkpoint of a training on other data; delete it to start anew"));
    }
    let moments = [EXP_AVG, EXP_AVG_SQ].map(|name| tensors.get(name));
    let [Some(exp_avg), Some(exp_avg_sq)] = moments else {
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
        let copy = |to: &mut Tensor, from: &Tensor| to.copy_(from);
        copy(&mut trainer.optimizer.exp_avg, exp_avg);
        copy(&mut trainer.optimizer.exp_avg_sq, exp_avg_sq);
    });
    trainer.optimizer.steps = steps;
    trainer.history = history;
    Ok(())
}
