//! The tokens of images, as features of each patch: for a principal component analysis, a comparison of patches, outliers.

use tch::nn::Module;
use tch::{Tensor, no_grad};

use super::Learner;
use crate::error::Result;
use crate::model::{Parts, Pool};

/// The tokens before the first block, and what each block makes of them: (L + 1) × [B, S, E].
fn layers(parts: &Parts, images: &Tensor) -> Result<Vec<Tensor>> {
    let mut layers = vec![parts.tokens(images)?];
    for block in parts.blocks {
        layers.push(block.forward(&layers[layers.len() - 1], false, false).0);
    }
    Ok(layers)
}

impl Learner {
    /// The tokens of the last block after the last norm, [B, S, E], prefix tokens first: `last_hidden_state` in
    /// transformers. The images are the model's input [B, C, I, I]; libtorch computes, in float32, without gradients.
    ///
    /// A model that normalises only the mean of its patches ([`Pool::PatchesBeforeNorm`]) gives them without norm.
    ///
    /// ```
    /// use vitlab::{Config, Learner, learner::ModelKind, tch::{Device, Kind, Tensor}};
    /// let vit = Learner::create(ModelKind::Vit, &Config::default(), Device::Cpu)?;
    /// let tokens = vit.tokens(&Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu)))?;
    /// assert_eq!(tokens.size(), [2, 50, 64]);
    /// // A new layer norm gives each token the mean 0 and the variance 1.
    /// assert!((tokens.square().mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.01);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// A CNN, or images that don't have the model's shape.
    pub fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        let parts = self.network.parts()?;
        no_grad(|| {
            let tokens = layers(&parts, images)?.pop().expect("at least the embedding");
            let normalised = parts.config.structure.pool != Pool::PatchesBeforeNorm;
            Ok(if normalised { parts.norm.forward(&tokens) } else { tokens })
        })
    }

    /// The tokens before the first block and after each block, without the last norm: [B, L + 1, S, E], `hidden_states`
    /// in transformers. Otherwise as [`Learner::tokens`].
    ///
    /// # Errors
    /// A CNN, or images that don't have the model's shape.
    pub fn layer_tokens(&self, images: &Tensor) -> Result<Tensor> {
        let parts = self.network.parts()?;
        no_grad(|| Ok(Tensor::stack(&layers(&parts, images)?, 1))) // (L + 1) × [B, S, E] -> [B, L + 1, S, E]
    }
}
