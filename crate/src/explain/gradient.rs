//! Class-specific explanations: attention weighted by the gradient of a class's score.

use tch::{Kind, Tensor, with_grad};

use super::batched;
use crate::error::{Error, Result, ensure};

/// The class whose score is explained, for each image of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The class with the highest score of each image.
    #[default]
    Predicted,
    /// The same class for all images.
    Class(i64),
    /// One class per image.
    PerImage(Vec<i64>),
    /// For a model without a class head, whose logits are the features of each image: the dot product of the features
    /// with their own direction. The direction is held constant, so that the score's gradient is that of the features'
    /// length. (The gradient of the cosine similarity of an image with itself is zero.)
    Features,
}

impl Target {
    /// The explained score of each image, part of the graph: `[B, classes]` -> `[B]`.
    ///
    /// # Errors
    /// Another shape, or a class that doesn't exist.
    ///
    /// ```
    /// use vitlab::{explain::Target, tch::Tensor};
    /// let logits = Tensor::from_slice2(&[[3.0, 4.0]]).set_requires_grad(true);
    /// assert_eq!(Vec::<f64>::try_from(Target::Predicted.scores(&logits)?)?, [4.0]);
    /// assert_eq!(Vec::<f64>::try_from(Target::Class(0).scores(&logits)?)?, [3.0]);
    /// // The features' length is 5, and its gradient (3, 4) / 5.
    /// let score = Target::Features.scores(&logits)?;
    /// assert!((score.double_value(&[0]) - 5.0).abs() < 1e-12);
    /// let gradient = Tensor::run_backward(&[score], &[logits], false, false).remove(0);
    /// assert!((gradient - Tensor::from_slice2(&[[0.6, 0.8]])).abs().max().double_value(&[]) < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scores(&self, logits: &Tensor) -> Result<Tensor> {
        if *self == Target::Features {
            check_logits(logits)?;
            let constant = logits.detach();
            let length = constant.norm_scalaropt_dim(2, [1i64].as_slice(), true); // [B, E] -> [B, 1]
            let direction = constant / length.clamp_min(f64::from(f32::MIN_POSITIVE));
            return Ok((logits * direction).sum_dim_intlist([1i64].as_slice(), false, None)); // [B, E] -> [B]
        }
        Ok(logits.gather(1, &self.index(logits)?, false).squeeze_dim(1)) // [B, classes] -> [B, 1] -> [B]
    }

    /// Class indices for scores: `[B, classes]` -> `[B, 1]`.
    pub(super) fn index(&self, logits: &Tensor) -> Result<Tensor> {
        let (images, classes) = check_logits(logits)?;
        let last = classes - 1;
        let given = match self {
            Target::Predicted => return Ok(logits.argmax(1, true)), // [B, classes] -> [B, 1]
            Target::Class(class) => vec![*class; images as usize],
            Target::PerImage(classes) => classes.clone(),
            Target::Features => return Err(Error::argument("target: features have no class; name a class")),
        };
        let count = given.len();
        ensure!(count as i64 == images, "target: {count} classes for {images} images; give one per image");
        for class in &given {
            ensure!(
                (0..classes).contains(class),
                "target class {class}: this model has {classes} classes, 0 to {last}"
            );
        }
        Ok(Tensor::from_slice(&given).to_device(logits.device()).unsqueeze(1)) // [B] -> [B, 1]
    }
}

/// Number of images and of classes of logits `[B, classes]`.
pub(super) fn check_logits(logits: &Tensor) -> Result<(i64, i64)> {
    let size = logits.size();
    ensure!(size.len() == 2 && !size.contains(&0), "logits {size:?}: give [B, classes]");
    Ok((size[0], size[1]))
}

/// Gradients of each image's score with respect to tensors of its forward pass, [B, …], undefined where the score doesn't
/// depend on one. The logits have a graph, which is retained.
pub(super) fn gradients(logits: &Tensor, inputs: &[Tensor], target: &Target) -> Result<Vec<Tensor>> {
    // The sum over images has the same gradients: an image's tensors reach only its own score. libtorch crashes on a score
    // without a graph, which it would be where the caller has turned gradients off.
    let score = with_grad(|| Ok::<_, Error>(target.scores(logits)?.sum(logits.kind())))?; // [B, classes] -> [B] -> []
    // Fallible: only libtorch knows whether an earlier backward pass has freed the graph.
    Ok(Tensor::f_run_backward(&[score], inputs, true, false)?)
}

/// max(0, ∂score/∂A ⊙ A) for each layer's attention A: `[B, L, H, S, S]`, without a graph.
///
/// `logits` `[B, classes]` and `attentions` (one `[B, H, S, S]` per layer) come from one forward pass with gradients
/// on and dropout off. The graph is retained for other classes, and the parameters' gradients don't change.
///
/// `rollout(&weighted, &options)` of the result is the gradient rollout, [`relevance`] is Chefer's; both can share it.
/// Neither sees the values, the MLPs and the norms but through the gradient, and negative contributions are dropped.
///
/// # Errors
/// Logits or attention without a graph, with a freed graph, or from different passes; a class that doesn't exist.
///
/// ```
/// use vitlab::{explain::{Target, gradient_attention}, tch::Tensor};
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
    let images = check_logits(logits)?.0;
    let fits = |a: &Tensor| matches!(a.size().as_slice(), [b, _, s, t] if *b == images && s == t);
    let complete = !attentions.is_empty() && attentions.iter().all(fits);
    ensure!(complete, "attentions: give one tensor [{images}, H, S, S] per layer");
    ensure!(
        logits.requires_grad() && attentions.iter().all(Tensor::requires_grad),
        "logits and attentions carry no graph; run the forward pass outside of no_grad, with parameters that require gradients"
    );
    let gradients = gradients(logits, attentions, target)?;
    ensure!(
        gradients.iter().all(Tensor::defined),
        "attentions: the logits don't depend on them; give those of the forward pass that gave the logits"
    );
    let weighted = attentions.iter().zip(&gradients).map(|(a, g)| (a.detach() * g).clamp_min(0.0));
    Ok(Tensor::stack(&weighted.collect::<Vec<_>>(), 1)) // L × [B, H, S, S] -> [B, L, H, S, S]
}

/// Relevance of each input token for each token of the last layer (arXiv 2103.15679, equations 5 and 6):
/// `[B, S, S]`, float64, from weighted attention `[B, L, H, S, S]` (or `[L, H, S, S]`). R starts as the identity;
/// each layer, from the input on, adds its mean over heads times R.
///
/// # Errors
/// Another shape.
///
/// ```
/// use vitlab::{explain::relevance, tch::Tensor};
/// // Two layers, one head, two tokens: A₁ = [[0, 1], [0, 0]], A₂ = [[0, 0], [2, 0]].
/// let weighted = Tensor::from_slice(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0]).reshape([2, 1, 2, 2]);
/// // R₁ = I + A₁ = [[1, 1], [0, 1]]; R₂ = R₁ + A₂R₁ = R₁ + [[0, 0], [2, 2]].
/// assert_eq!(Vec::<f64>::try_from(relevance(&weighted)?.flatten(0, -1))?, [1.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn relevance(weighted: &Tensor) -> Result<Tensor> {
    let mean = batched(weighted)?.mean_dim([2i64].as_slice(), false, Kind::Double); // [B, L, H, S, S] -> [B, L, S, S]
    let identity = Tensor::eye(mean.size()[3], (Kind::Double, mean.device())).repeat([mean.size()[0], 1, 1]);
    let layers = mean.unbind(1); // [B, L, S, S] -> L × [B, S, S]
    Ok(layers.iter().fold(identity, |relevance, layer| &relevance + layer.bmm(&relevance)))
}
