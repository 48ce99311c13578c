//! The parts that a ViT and a DeiT share, for methods that compute the forward pass in their own way.

use std::ops::Range;

use tch::Tensor;
use tch::nn::{LayerNorm, Linear, Module};

use super::{
    Classifier, DistilledEmbedLayer, EmbedLayer, Encoder, Head, MyDeiT, Pool, ViTConfig, VisionTransformer,
    check_images,
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

    /// The tokens behind some of the blocks, without dropout: [B, S, E] -> [B, S, E].
    pub fn through(&self, tokens: Tensor, blocks: Range<usize>) -> Tensor {
        self.blocks[blocks].iter().fold(tokens, |x, block| block.forward(&x, false, false).0)
    }

    /// Number of tokens of an image.
    pub fn token_count(&self) -> i64 {
        (self.config.image_size / self.config.patch_size).pow(2) + self.prefix_tokens()
    }

    /// Number of tokens of the last block, counted from the first, that [`Parts::heads`] needs: class and distillation
    /// token, or all of a model that averages the patches.
    pub(crate) fn classified_tokens(&self) -> i64 {
        match (self.classifier.pool, self.fc_dist) {
            (Pool::Class, None) => 1,
            (Pool::Class, Some(_)) => 2,
            _ => self.token_count(),
        }
    }

    /// The logits of each head from the last block's tokens, the class token's first: [B, S, E] -> [B, classes].
    pub fn heads(&self, tokens: Tensor) -> Vec<Tensor> {
        let pooled = self.classifier.pool.before_norm(tokens, self.prefix_tokens()); // [B, S, E], or [B, 1, E]
        let normed = self.norm.forward(&pooled);
        let class = self.classifier.forward(&normed); // [B, S, E] -> [B, classes]
        let dist = self.fc_dist.map(|fc_dist| fc_dist.forward(&normed.select(1, 1)));
        [class].into_iter().chain(dist).collect()
    }

    /// The mean logits of the heads: [B, S, E] -> [B, classes].
    pub fn logits(&self, tokens: Tensor) -> Tensor {
        match &self.heads(tokens)[..] {
            [class, dist] => (class + dist) / 2.0,
            heads => heads[0].shallow_clone(),
        }
    }
}
