//! Copies between a state dict and the variables of a model. Names, shapes and types must agree.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::StateDict;
use crate::error::{Error, Result, ensure};

/// PyTorch's batch norm counts its batches in a buffer of this name beside [`BATCH_MEAN`]; tch's doesn't.
const BATCH_COUNT: &str = "num_batches_tracked";
const BATCH_MEAN: &str = "running_mean";

/// Copies a state dict into the variables of a model. float64, float16 and bfloat16 become the model's float32.
///
/// `path` is the file that holds the state dict, for the message.
///
/// ```
/// use vitlab::{checkpoint::{StateDict, assign}, tch::{Device, Tensor, nn}};
/// let store = nn::VarStore::new(Device::Cpu);
/// let head = nn::linear(store.root() / "head", 2, 1, Default::default());
/// let dict = StateDict(vec![
///     ("head.weight".to_string(), Tensor::from_slice(&[3.0, 4.0]).view([1, 2])),
///     ("head.bias".to_string(), Tensor::from_slice(&[0.5])),
/// ]);
/// assign(&store, &dict, "model.pt".as_ref())?;
/// assert_eq!(f64::try_from(head.ws.sum(tch::Kind::Float)).unwrap(), 7.0);
///
/// let other = StateDict(vec![("head.weight".to_string(), Tensor::from_slice(&[3.0, 4.0]))]);
/// assert_eq!(
///     assign(&store, &other, "model.pt".as_ref()).unwrap_err().to_string(),
///     "model.pt: head.weight is [2], this model needs [1, 2]; head.bias is missing"
/// );
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Fails if a name, shape or type differs, or a value isn't finite. The message lists all; the model stays unchanged.
pub fn assign(store: &VarStore, dict: &StateDict, path: &Path) -> Result<()> {
    let mut variables = store.variables();
    let batch_counts: Vec<String> =
        variables.keys().filter_map(|name| Some(format!("{}{BATCH_COUNT}", name.strip_suffix(BATCH_MEAN)?))).collect();
    let mut problems = Vec::new();
    let mut copies = Vec::new();
    for (name, tensor) in dict.0.iter().filter(|(name, _)| !batch_counts.contains(name)) {
        match variables.remove(name) {
            None => problems.push(format!("{name} is not part of this model")),
            Some(variable) => match convert(tensor, &variable) {
                Ok(tensor) => copies.push((variable, tensor)),
                Err(problem) => problems.push(format!("{name} {problem}")),
            },
        }
    }
    let mut missing: Vec<String> = variables.into_keys().collect();
    missing.sort_by_cached_key(|name| natural_order(name));
    problems.extend(missing.iter().map(|name| format!("{name} is missing")));
    if !problems.is_empty() {
        return Err(Error::file(path, problems.join("; ")));
    }
    tch::no_grad(|| copies.iter_mut().try_for_each(|(variable, tensor)| variable.f_copy_(tensor)))?;
    Ok(())
}

/// The tensor in the variable's type. An error says how the tensor doesn't fit.
fn convert(tensor: &Tensor, variable: &Tensor) -> Result<Tensor> {
    let (size, needed) = (tensor.size(), variable.size());
    ensure!(size == needed, "is {size:?}, this model needs {needed:?}");
    let is_float = |kind| matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    let (kind, needed) = (tensor.f_kind()?, variable.kind());
    let fits = kind == needed || (is_float(kind) && is_float(needed));
    ensure!(fits, "is of type {kind:?}, this model needs {needed:?}");
    let tensor = tensor.to_kind(needed);
    if is_float(needed) && tensor.numel() > 0 {
        // Both are NaN if any value is.
        let (least, greatest) = tensor.aminmax(None, false);
        let finite = [least, greatest].iter().all(|value| value.double_value(&[]).is_finite());
        ensure!(finite, "has values that are not finite numbers");
    }
    Ok(tensor)
}

/// A copy of a model's variables on the CPU, sorted by name with numbers by value (`encoder.2` before `encoder.10`).
///
/// Each batch norm gets PyTorch's counter of batches. It is 0, since it matters only to a batch norm without momentum.
///
/// ```
/// use vitlab::{checkpoint::state_dict, tch::{Device, nn}};
/// let store = nn::VarStore::new(Device::Cpu);
/// let _norm = nn::batch_norm2d(store.root() / "norm", 8, Default::default());
/// let dict = state_dict(&store);
/// let names: Vec<&str> = dict.0.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(
///     names,
///     ["norm.bias", "norm.num_batches_tracked", "norm.running_mean", "norm.running_var", "norm.weight"]
/// );
/// ```
pub fn state_dict(store: &VarStore) -> StateDict {
    let mut tensors = Vec::new();
    for (name, variable) in store.variables() {
        if let Some(norm) = name.strip_suffix(BATCH_MEAN) {
            tensors.push((format!("{norm}{BATCH_COUNT}"), Tensor::zeros([], (Kind::Int64, Device::Cpu))));
        }
        let value = tch::no_grad(|| variable.detach().to_device(Device::Cpu).copy());
        tensors.push((name, value));
    }
    tensors.sort_by_cached_key(|(name, _)| natural_order(name));
    StateDict(tensors)
}

/// A sort key: the numbers in a dotted name compare by value and come before words.
fn natural_order(name: &str) -> Vec<(u64, String)> {
    name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_string())).collect()
}
