//! Tensors by name in files, gradients by name, and comparisons of tensors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use tch::Tensor;
use tch::nn::VarStore;
use vitlab::Result;
use vitlab::checkpoint::{self, StateDict};

/// Largest absolute difference, relative to the largest absolute expected value.
pub fn difference(ours: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(ours.size(), expected.size());
    let scale = expected.abs().max().double_value(&[]).max(1e-12);
    (ours - expected).abs().max().double_value(&[]) / scale
}

pub fn write(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let named = tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.contiguous()));
    checkpoint::write(path, &StateDict(named.collect()))
}

pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    Ok(checkpoint::read(path)?.0.into_iter().collect())
}

/// Adds normal noise with this standard deviation to all parameters, so that attention and logits are uneven.
pub fn spread(store: &VarStore, deviation: f64) {
    tch::no_grad(|| {
        for mut variable in store.trainable_variables() {
            let _ = variable.g_add_(&(variable.randn_like() * deviation));
        }
    });
}

/// Gradient of `loss` with respect to each trainable variable, by name.
pub fn gradients(loss: &Tensor, store: &VarStore) -> BTreeMap<String, Tensor> {
    let variables: Vec<(String, Tensor)> =
        store.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
    let inputs: Vec<&Tensor> = variables.iter().map(|(_, tensor)| tensor).collect();
    let gradients = Tensor::run_backward(&[loss], &inputs, true, false);
    let names = variables.into_iter().map(|(name, _)| name);
    names.zip(gradients).collect()
}

/// Looks up the tensor `PREFIX.NAME` of a file by NAME.
pub fn named<'a>(tensors: &'a BTreeMap<String, Tensor>, prefix: &'a str) -> impl Fn(&str) -> Tensor + 'a {
    move |name| tensors[&format!("{prefix}.{name}")].shallow_clone()
}

/// Asserts that gradients equal the expected ones within 1e-5.
///
/// The gradient of a key's bias is only rounding noise, because softmax ignores a shift of all scores. The difference of
/// a bias is therefore relative to the largest gradient of its weight.
pub fn assert_gradients(ours: &BTreeMap<String, Tensor>, expected: impl Fn(&str) -> Tensor, label: &str) {
    for (name, gradient) in ours {
        let scale = expected(&name.replace(".bias", ".weight")).abs().max();
        let error = (gradient - expected(name)).abs().max() / scale.clamp_min(1e-12);
        let error = error.double_value(&[]);
        assert!(error < 1e-5, "{label}: {name}: {error}");
    }
}

/// Lock for tests that draw from libtorch's random generator, of which there is one per process.
pub fn generator_lock() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
