//! The checkpoint of a training: the model's tensors and the state of the optimizer in one file.

use super::StateDict;

/// Prefix of the model's tensors.
pub(crate) const MODEL: &str = "model.";
/// Names of the optimizer's tensors.
pub(crate) const OPTIMIZER: [&str; 2] = ["optimizer.exp_avg", "optimizer.exp_avg_sq"];

/// The tensors of the model under its own names, if `tensors` are those of a training's checkpoint.
pub(super) fn model_only(tensors: StateDict) -> StateDict {
    if OPTIMIZER.iter().any(|name| tensors.get(name).is_none()) {
        return tensors;
    }
    let model =
        tensors.0.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(MODEL)?.to_string(), tensor)));
    StateDict(model.collect())
}
