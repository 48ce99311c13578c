//! Grad-CAM on the tokens of the last block.

use tch::{Kind, Tensor};

use super::Target;
use super::gradient::{check_logits, gradients};
use crate::error::{Result, ensure};

/// Grad-CAM (arXiv 1610.02391, equations 1 and 2) of each image: `[B, S]`, without a graph.
///
/// A feature's weight is the mean over the patches of the score's gradient with respect to it. A patch's value is the
/// weighted sum of its features, or zero where the sum is negative. Prefix tokens take no part: their columns are zero.
///
/// `activations` `[B, S, E]` and the logits `[B, classes]` come from one forward pass with gradients on. pytorch-grad-cam
/// (`usage_examples/vit_example.py`) takes the output of the last block's first norm, as
/// [`Learner::explain`](crate::Learner::explain) does. Behind that block, a classifier on the class token reads nothing
/// from the patches, and the gradient there is zero.
///
/// Doesn't see the blocks before the last one: a patch's features may describe other places of the image, with which
/// earlier attention has mixed them.
///
/// # Errors
/// Logits or activations without a graph, or from different passes; a class that doesn't exist; no patches.
///
/// ```
/// use vitlab::{explain::{Target, grad_cam}, tch::Tensor};
/// // A class token (0, 0) and two patches (1, 2), (3, -1) with two features each.
/// let tokens = Tensor::from_slice(&[0.0, 0.0, 1.0, 2.0, 3.0, -1.0]).reshape([1, 3, 2]).set_requires_grad(true);
/// // The score's gradient is (4, 0) and (0, 2) at the patches: the features' weights are 2 and 1.
/// let gradient = Tensor::from_slice(&[9.0, 9.0, 4.0, 0.0, 0.0, 2.0]).reshape([1, 6]);
/// let logits = (tokens.reshape([1, 6]) * gradient).sum_dim_intlist([1i64].as_slice(), true, None);
/// // 2 · 1 + 1 · 2 = 4 and 2 · 3 - 1 · 1 = 5
/// let map = grad_cam(&logits, &tokens, &Target::Predicted, 1)?;
/// assert_eq!(Vec::<f64>::try_from(map.get(0))?, [0.0, 4.0, 5.0]);
/// // The sums for the opposite score are -4 and -5.
/// let map = grad_cam(&-logits, &tokens, &Target::Predicted, 1)?;
/// assert_eq!(Vec::<f64>::try_from(map.get(0))?, [0.0, 0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn grad_cam(logits: &Tensor, activations: &Tensor, target: &Target, prefix_tokens: i64) -> Result<Tensor> {
    let (size, images) = (activations.size(), check_logits(logits)?.0);
    let fits = matches!(size[..], [b, s, e] if b == images && e > 0 && (0..s).contains(&prefix_tokens));
    ensure!(fits, "activations {size:?}: give [{images}, S, E] with patches behind the {prefix_tokens} prefix tokens");
    ensure!(
        logits.requires_grad() && activations.requires_grad(),
        "logits and activations carry no graph; run the forward pass outside of no_grad, with activations that require gradients"
    );
    let gradient = gradients(logits, &[activations.shallow_clone()], target)?.remove(0);
    ensure!(
        gradient.defined(),
        "activations: the logits don't depend on them; give those of the forward pass that gave the logits"
    );
    let patches = |tokens: &Tensor| tokens.narrow(1, prefix_tokens, size[1] - prefix_tokens).to_kind(Kind::Double);
    let weights = patches(&gradient).mean_dim([1i64].as_slice(), true, None); // [B, S, E] -> [B, N, E] -> [B, 1, E]
    let sums = (patches(&activations.detach()) * weights).sum_dim_intlist([2i64].as_slice(), false, None); // -> [B, N]
    Ok(sums.relu().constant_pad_nd([prefix_tokens, 0])) // [B, N] -> [B, S]
}
