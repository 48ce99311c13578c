//! The parts that a ViT and a DeiT share, for methods that compute the forward pass in their own way.

use tch::Tensor;
use tch::nn::{LayerNorm, Linear, Module};

use super::{
    Classifier, DistilledEmbedLayer, EmbedLayer, Encoder, Head, MyDeiT, ViTConfig, VisionTransformer, check_images,
};
use crate::Result;

/// A ViT or DeiT, seen as embedding, blocks, last norm and heads.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub(crate) config: &'a ViTConfig,
    embedding: Embedding<'a>,
    pub blocks: &'a [Encoder],
    pub norm: &'a LayerNorm,
    pub classifier: &'a Classifier,
    /// The head on a DeiT's distillation token.
    pub fc_dist: Option<&'a Linear>,
}

#[derive(Clone, Copy, Debug)]
enum Embedding<'a> {
    Vit(&'a EmbedLayer),
    Deit(&'a DistilledEmbedLayer),
}

impl<'a> From<&'a VisionTransformer> for Parts<'a> {
    fn from(model: &'a VisionTransformer) -> Self {
        Parts {
            config: &model.config,
            embedding: Embedding::Vit(&model.embedding),
            blocks: &model.encoder,
            norm: &model.norm,
            classifier: &model.classifier,
            fc_dist: None,
        }
    }
}

impl<'a> From<&'a MyDeiT> for Parts<'a> {
    fn from(model: &'a MyDeiT) -> Self {
        Parts {
            config: &model.config,
            embedding: Embedding::Deit(&model.embedding),
            blocks: &model.encoder,
            norm: &model.norm,
            classifier: &model.classifier.class,
            fc_dist: Some(&model.classifier.fc_dist),
        }
    }
}

impl Parts<'_> {
    /// Number of tokens before the patches.
    pub fn prefix_tokens(&self) -> i64 {
        match self.embedding {
            Embedding::Vit(_) => self.config.structure.prefix_tokens,
            Embedding::Deit(_) => 2,
        }
    }

    /// Whether the model has logits of classes. Without a class head, its features stand in their place.
    pub fn has_class_head(&self) -> bool {
        self.config.structure.head != Head::None
    }

    /// The tokens that enter the first block, without dropout: [B, C, I, I] -> [B, S, E].
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    pub fn tokens(&self, images: &Tensor) -> Result<Tensor> {
        check_images(images, self.config.n_channels, self.config.image_size)?;
        Ok(match self.embedding {
            Embedding::Vit(embedding) => embedding.forward(images, false),
            Embedding::Deit(embedding) => embedding.forward(images, false),
        })
    }

    /// Logits from the last block's tokens, the mean of a DeiT's two heads: [B, S, E] -> [B, classes].
    pub fn logits(&self, tokens: Tensor) -> Tensor {
        let pooled = self.classifier.pool.before_norm(tokens, self.prefix_tokens()); // [B, S, E], or [B, 1, E]
        let normed = self.norm.forward(&pooled);
        let class = self.classifier.forward(&normed); // [B, S, E] -> [B, classes]
        match self.fc_dist {
            Some(fc_dist) => (class + fc_dist.forward(&normed.select(1, 1))) / 2.0,
            None => class,
        }
    }
}
