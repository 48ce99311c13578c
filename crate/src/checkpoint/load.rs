//! Between a state dict and a model's variables: names, shapes and types must agree.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::StateDict;
use crate::{Error, Result};

/// PyTorch counts a batch norm's batches beside its mean and variance; tch doesn't.
const BATCH_COUNT: &str = "num_batches_tracked";
const BATCH_MEAN: &str = "running_mean";

/// Copies a state dict into the variables of a model. float64, float16 and bfloat16 become the model's float32.
///
/// `path` is the file that the state dict comes from, for the message.
///
/// ```
/// use tch::{Device, Tensor, nn};
/// use vitlab::checkpoint::{StateDict, assign};
/// let store = nn::VarStore::new(Device::Cpu);
/// let head = nn::linear(store.root() / "head", 2, 1, Default::default());
/// let dict = StateDict(vec![
///     ("head.weight".to_string(), Tensor::from_slice(&[3.0, 4.0]).view([1, 2])),
///     ("head.bias".to_string(), Tensor::from_slice(&[0.5])),
/// ]);
/// assign(&store, &dict, "model.pt".as_ref())?;
/// assert_eq!(f64::try_from(head.ws.sum(tch::Kind::Float)).unwrap(), 7.0);
///
/// let wrong = StateDict(vec![("head.weight".to_string(), Tensor::from_slice(&[3.0, 4.0]))]);
/// assert_eq!(
///     assign(&store, &wrong, "model.pt".as_ref()).unwrap_err().to_string(),
///     "model.pt: head.weight is [2], this model needs [1, 2]; head.bias is missing"
/// );
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Every name, shape and type that differs and every tensor with a value that isn't a finite number, in one
/// message. The model is unchanged then.
pub fn assign(store: &VarStore, dict: &StateDict, path: &Path) -> Result<()> {
    let mut variables = store.variables();
    let batch_counts: Vec<String> =
        variables.keys().filter_map(|name| Some(format!("{}{BATCH_COUNT}", name.strip_suffix(BATCH_MEAN)?))).collect();
    let mut problems = Vec::new();
    let mut copies = Vec::new();
    for (name, tensor) in &dict.0 {
        if batch_counts.contains(name) {
            continue;
        }
        match variables.remove(name) {
            None => problems.push(format!("{name} is not part of this model")),
            Some(variable) => match convert(tensor, &variable)? {
                Ok(tensor) => copies.push((variable, tensor)),
                Err(problem) => problems.push(format!("{name} {problem}")),
            },
        }
    }
    let mut missing: Vec<String> = variables.into_keys().collect();
    missing.sort_by_cached_key(|name| natural(name));
    problems.extend(missing.iter().map(|name| format!("{name} is missing")));
    if !problems.is_empty() {
        return Err(Error::file(path, problems.join("; ")));
    }
    tch::no_grad(|| copies.iter_mut().try_for_each(|(variable, tensor)| variable.f_copy_(tensor)))?;
    Ok(())
}

/// The tensor in the variable's type, or in what they differ.
fn convert(tensor: &Tensor, variable: &Tensor) -> Result<Result<Tensor, String>> {
    let (size, needed) = (tensor.size(), variable.size());
    if size != needed {
        return Ok(Err(format!("is {size:?}, this model needs {needed:?}")));
    }
    let (kind, needed) = (tensor.f_kind()?, variable.f_kind()?);
    if kind != needed && !(is_float(kind) && is_float(needed)) {
        return Ok(Err(format!("is of type {kind:?}, this model needs {needed:?}")));
    }
    let tensor = tensor.f_to_kind(needed)?;
    if is_float(needed) && tensor.numel() > 0 {
        // Both are NaN if any value is.
        let (least, greatest) = tensor.f_aminmax(None, false)?;
        if ![least, greatest].iter().all(|value| value.double_value(&[]).is_finite()) {
            return Ok(Err("has values that are not finite numbers".to_string()));
        }
    }
    Ok(Ok(tensor))
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

/// A copy of a model's variables on the CPU, sorted by name with numbers in their order (`encoder.2` before
/// `encoder.10`), with the batch counters that PyTorch expects of a batch norm (0: they only matter to a batch norm
/// without momentum).
///
/// ```
/// use tch::{Device, nn};
/// use vitlab::checkpoint::state_dict;
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
            let count = Tensor::zeros([], (Kind::Int64, Device::Cpu));
            tensors.push((format!("{norm}{BATCH_COUNT}"), count));
        }
        let value = tch::no_grad(|| variable.detach().to_device(Device::Cpu).copy());
        tensors.push((name, value));
    }
    tensors.sort_by_cached_key(|(name, _)| natural(name));
    StateDict(tensors)
}

/// Sorts a path's numbers by value and before its words.
fn natural(name: &str) -> Vec<(u64, String)> {
    name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use tch::nn;

    use super::*;

    fn batch_norm_net() -> VarStore {
        let store = VarStore::new(Device::Cpu);
        let root = store.root();
        let no_bias = nn::ConvConfig { bias: false, ..Default::default() };
        nn::conv2d(&root / "conv", 1, 4, 3, no_bias);
        nn::batch_norm2d(&root / "norm", 4, Default::default());
        nn::linear(&root / "head", 4, 10, Default::default());
        store
    }

    #[test]
    fn all_differences_are_listed_and_nothing_is_changed() {
        let store = batch_norm_net();
        let before = state_dict(&store);
        let mut file = state_dict(&store);
        file.0.retain(|(name, _)| name != "conv.weight");
        for (name, tensor) in &mut file.0 {
            match name.as_str() {
                "head.weight" => *tensor = Tensor::zeros([100, 4], (Kind::Float, Device::Cpu)),
                "head.bias" => *tensor = Tensor::zeros([10], (Kind::Int64, Device::Cpu)),
                "norm.bias" => *tensor = Tensor::from_slice(&[0.0_f32, f32::NAN, 1.0, 2.0]),
                "norm.weight" => *tensor = Tensor::from_slice(&[0.0, 1e300, 1.0, 2.0]),
                "norm.running_mean" => *name = "norm.mean".to_string(),
                _ => {}
            }
        }
        let message = assign(&store, &file, "a/cnn.pt".as_ref()).unwrap_err().to_string();
        assert_eq!(
            message,
            "a/cnn.pt: head.bias is of type Int64, this model needs Float; \
         head.weight is [100, 4], this model needs [10, 4]; \
         norm.bias has values that are not finite numbers; \
         norm.mean is not part of this model; \
         norm.weight has values that are not finite numbers; \
         conv.weight is missing; \
         norm.running_mean is missing"
        );
        for ((name, after), (_, before)) in state_dict(&store).0.iter().zip(&before.0) {
            assert_eq!(after, before, "{name}");
        }
    }

    #[test]
    fn other_floating_point_types_become_float32() {
        for kind in [Kind::Double, Kind::Half, Kind::BFloat16] {
            let store = batch_norm_net();
            let mut file = state_dict(&batch_norm_net());
            for (_, tensor) in &mut file.0 {
                if tensor.kind() == Kind::Float {
                    *tensor = tensor.to_kind(kind);
                }
            }
            assign(&store, &file, "cnn.pt".as_ref()).unwrap();
            for (name, variable) in store.variables() {
                let expected = file.get(&name).unwrap().to_kind(Kind::Float);
                assert_eq!(variable, expected, "{name} from {kind:?}");
            }
        }
    }

    #[test]
    fn names_are_sorted_by_number() {
        let store = nn::VarStore::new(Device::Cpu);
        for block in [10, 2, 1] {
            let _ = store.root().sub("encoder").sub(block).zeros("fc1", &[1]);
        }
        let names: Vec<String> = state_dict(&store).0.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["encoder.1.fc1", "encoder.2.fc1", "encoder.10.fc1"]);
    }
}
