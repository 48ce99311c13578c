//! Initial weights other than the homework's.

use tch::nn::VarStore;
use tch::no_grad;

use crate::config::Initialisation;

/// Draws the weights of all linear maps anew if `how` says so, those of the patch projection too, which is a linear map of
/// each patch: [E, C, P, P] is E outputs of C · P² inputs.
pub(super) fn initialise(variables: &VarStore, how: Initialisation) {
    if how == Initialisation::Normal {
        return;
    }
    let mut weights: Vec<_> = variables.variables().into_iter().collect();
    weights.retain(|(name, weight)| name.ends_with(".weight") && weight.dim() > 1);
    // The same seed draws the same numbers whatever order the store lists them in.
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    for (_, mut weight) in weights {
        let outputs = weight.size()[0];
        let inputs = weight.numel() as i64 / outputs;
        let bound = (6.0 / (inputs + outputs) as f64).sqrt();
        let _ = no_grad(|| weight.uniform_(-bound, bound));
    }
}
