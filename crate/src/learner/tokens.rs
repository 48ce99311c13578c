//! The tokens of images, as features of each patch: for a principal component analysis, a comparison of patches, outliers.

use tch::nn::{LayerNorm, Module};
use tch::{Tensor, no_grad};

use super::{Learner, Network, no_attention};
use crate::error::Result;
use crate::model::{Encoder, Pool, ViTConfig, check_images};

/// A ViT or DeiT without its head.
struct Backbone<'a> {
    config: &'a ViTConfig,
    /// [B, C, I, I] -> [B, S, E]
    embed: Box<dyn Fn(&Tensor) -> Tensor + 'a>,
    blocks: &'a [Encoder],
    norm: &'a LayerNorm,
}

impl<'a> Backbone<'a> {
    fn of(network: &'a Network) -> Result<Self> {
        Ok(match network {
            Network::Vit(model) => Backbone {
                config: &model.config,
                embed: Box::new(|images| model.embedding.forward(images, false)),
                blocks: &model.encoder,
                norm: &model.norm,
            },
            Network::Deit(model) => Backbone {
                config: &model.config,
                embed: Box::new(|images| model.embedding.forward(images, false)),
                blocks: &model.encoder,
                norm: &model.norm,
            },
            Network::Cnn(_) => return Err(no_attention()),
        })
    }

    /// The tokens before the first block, and what each block makes of them: (L + 1) × [B, S, E].
    fn layers(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        check_images(images, self.config.n_channels, self.config.image_size)?;
        let mut layers = vec![(self.embed)(images)];
        for block in self.blocks {
            layers.push(block.forward(&layers[layers.len() - 1], false).0);
        }
        Ok(layers)
    }
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
        let backbone = Backbone::of(&self.network)?;
        no_grad(|| {
            let tokens = backbone.layers(images)?.pop().expect("at least the embedding");
            let normalised = backbone.config.structure.pool != Pool::PatchesBeforeNorm;
            Ok(if normalised { backbone.norm.forward(&tokens) } else { tokens })
        })
    }

    /// The tokens before the first block and after each block, without the last norm: [B, L + 1, S, E], `hidden_states`
    /// in transformers. Otherwise as [`Learner::tokens`].
    ///
    /// # Errors
    /// A CNN, or images that don't have the model's shape.
    pub fn layer_tokens(&self, images: &Tensor) -> Result<Tensor> {
        let backbone = Backbone::of(&self.network)?;
        no_grad(|| Ok(Tensor::stack(&backbone.layers(images)?, 1))) // (L + 1) × [B, S, E] -> [B, L + 1, S, E]
    }
}
