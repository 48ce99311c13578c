//! Explanations for one class: attention weighted by what it changes in that class's score.

use super::rollout::batched;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// The class whose score is explained, in each image of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The one with the highest score, image by image.
    #[default]
    Predicted,
    /// The same in all images.
    Class(i64),
    /// One per image.
    PerImage(Vec<i64>),
}

impl Target {
    /// Class numbers `[B, 1]` for scores `[B, classes]`.
    pub(super) fn index(&self, logits: &Tensor) -> Result<Tensor> {
        let (images, classes) = logits.size2()?;
        let given = match self {
            Target::Predicted => return Ok(logits.f_argmax(1, true)?),
            Target::Class(class) => vec![*class; images as usize],
            Target::PerImage(each) => each.clone(),
        };
        if given.len() as i64 != images {
            return Err(Error::argument(format!(
                "target: {} classes for {images} images; give one per image",
                given.len()
            )));
        }
        if let Some(class) = given.iter().find(|class| !(0..classes).contains(*class)) {
            return Err(Error::argument(format!(
                "target class {class}: this model has {classes} classes, 0 to {}",
                classes - 1
            )));
        }
        let index = Tensor::f_from_slice(&given)?.f_to_device(logits.device())?;
        Ok(index.f_unsqueeze(1)?) // [B] -> [B, 1]
    }
}

/// max(0, ∂score/∂A ⊙ A) for each layer's attention A: `[B, L, H, S, S]`, without a graph.
///
/// `logits` `[B, classes]` and `attentions` (one `[B, H, S, S]` per layer) come from one forward pass with gradients
/// on and dropout off. The graph stays, so another class can be asked for; the parameters' gradients stay as they are.
///
/// What to do with it: `rollout(&weighted, &options)` is the gradient rollout, [`relevance`] is Chefer's. Both on the
/// same weighted attention take one backward pass.
///
/// Errors: logits or attention without a graph, or that don't belong together; a class that doesn't exist.
///
/// ```
/// use tch::Tensor;
/// use vitlab::explain::{Target, gradient_attention};
/// // Scores 2a + 3d and -a of the attention [[a, b], [c, d]] = [[¼, ¾], [½, ½]].
/// let attention = Tensor::from_slice(&[0.25, 0.75, 0.5, 0.5]).reshape([1, 1, 2, 2]).set_requires_grad(true);
/// let weights = Tensor::from_slice(&[2.0, 0.0, 0.0, 3.0, -1.0, 0.0, 0.0, 0.0]).reshape([2, 4]);
/// let logits = attention.reshape([1, 4]).matmul(&weights.tr());
/// let weighted = |target| -> Result<Vec<f64>, Box<dyn std::error::Error>> {
///     let weighted = gradient_attention(&logits, std::slice::from_ref(&attention), &target)?;
///     assert_eq!(weighted.size(), [1, 1, 1, 2, 2]);
///     Ok(Vec::try_from(weighted.flatten(0, -1))?)
/// };
/// assert_eq!(weighted(Target::Predicted)?, [0.5, 0.0, 0.0, 1.5]);
/// assert_eq!(weighted(Target::Class(1))?, [0.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gradient_attention(logits: &Tensor, attentions: &[Tensor], target: &Target) -> Result<Tensor> {
    let size = logits.size();
    if size.len() != 2 || size.contains(&0) {
        return Err(Error::argument(format!("logits {size:?}: give [B, classes]")));
    }
    let fits = |a: &Tensor| matches!(a.size().as_slice(), [b, _, s, t] if *b == size[0] && s == t);
    if attentions.is_empty() || !attentions.iter().all(fits) {
        return Err(Error::argument(format!("attentions: give one tensor [{}, H, S, S] per layer", size[0])));
    }
    if !logits.requires_grad() || !attentions.iter().all(Tensor::requires_grad) {
        return Err(Error::argument(
            "logits and attentions carry no graph; run the forward pass outside of no_grad, with parameters that require gradients",
        ));
    }
    let score = logits.f_gather(1, &target.index(logits)?, false)?; // [B, classes] -> [B, 1]
    let score = score.f_sum(logits.kind())?; // an image's attention only reaches its own score
    let gradients = Tensor::f_run_backward(&[score], attentions, true, false)?;
    if !gradients.iter().all(Tensor::defined) {
        return Err(Error::argument(
            "attentions: the logits don't depend on them; give those of the forward pass that gave the logits",
        ));
    }
    let weighted = attentions.iter().zip(&gradients).map(|(a, g)| Ok(a.f_detach()?.f_mul(g)?.f_clamp_min(0.0)?));
    Ok(Tensor::f_stack(&weighted.collect::<Result<Vec<_>>>()?, 1)?) // L × [B, H, S, S] -> [B, L, H, S, S]
}

/// Relevance of each input token for each token of the last layer (arXiv 2103.15679, equations 5 and 6):
/// `[B, S, S]`, float64, from weighted attention `[B, L, H, S, S]` (or `[L, H, S, S]`). R starts as the identity;
/// each layer, from the input on, adds its mean over heads times R.
///
/// ```
/// use tch::Tensor;
/// use vitlab::explain::relevance;
/// // Two layers, one head, two tokens: A₁ = [[0, 1], [0, 0]], A₂ = [[0, 0], [2, 0]].
/// let weighted = Tensor::from_slice(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0]).reshape([2, 1, 2, 2]);
/// // I + A₁ = [[1, 1], [0, 1]]; A₂ times that, [[0, 0], [2, 2]], joins it.
/// assert_eq!(Vec::<f64>::try_from(relevance(&weighted)?.flatten(0, -1))?, [1.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn relevance(weighted: &Tensor) -> Result<Tensor> {
    let weighted = batched(weighted)?;
    let mean = weighted.f_mean_dim([2i64].as_slice(), false, Kind::Double)?; // [B, L, H, S, S] -> [B, L, S, S]
    let (images, layers, tokens, _) = mean.size4()?;
    let identity = Tensor::f_eye(tokens, (Kind::Double, mean.device()))?;
    let mut relevance = identity.f_repeat([images, 1, 1])?; // [S, S] -> [B, S, S]
    for layer in 0..layers {
        relevance = relevance.f_add(&mean.f_select(1, layer)?.f_bmm(&relevance)?)?;
    }
    Ok(relevance)
}
