//! The Vision Transformer of the homework, which can return its attention.

use tch::nn::{self, Module, VarStore};
use tch::{Device, Tensor, no_grad};

use super::{Classifier, EmbedLayer, Encoder, Model, check_images, encoder, initialise::initialise, layer_norm};
use crate::{Config, Result};

/// The sizes of a Vision Transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ViTConfig {
    pub image_size: i64,
    pub patch_size: i64,
    pub n_channels: i64,
    pub embed_dim: i64,
    pub n_layers: i64,
    pub n_attention_heads: i64,
    pub forward_mul: i64,
    pub n_classes: i64,
    pub dropout: f64,
    /// Rows of the position embedding: one per token in new models, one per patch in some files.
    pub position_rows: i64,
}

impl From<&Config> for ViTConfig {
    fn from(config: &Config) -> Self {
        ViTConfig {
            image_size: config.image_size,
            patch_size: config.patch_size,
            n_channels: config.n_channels,
            embed_dim: config.embed_dim,
            n_layers: config.n_layers,
            n_attention_heads: config.n_attention_heads,
            forward_mul: config.forward_mul,
            n_classes: config.n_classes,
            dropout: config.dropout,
            position_rows: config.n_patches() + 1,
        }
    }
}

/// Patches to tokens, L encoder blocks, a last norm, a classifier on the class token (arXiv 2010.11929, section 3.1).
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use vitlab::{Config, model::{Model, VisionTransformer}};
/// let model = VisionTransformer::new(&Config::default(), Device::Cpu).unwrap();
/// assert_eq!(model.parameters(), 210_122);
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let (logits, attention) = model.forward(&images, false, true).unwrap();
/// assert_eq!(logits.size(), [2, 10]);
/// assert_eq!(attention.unwrap().size(), [2, 6, 4, 50, 50]);
/// assert!(model.forward(&images.squeeze_dim(1), false, false).is_err());
/// ```
#[derive(Debug)]
pub struct VisionTransformer {
    pub config: ViTConfig,
    pub embedding: EmbedLayer,
    pub encoder: Vec<Encoder>,
    pub norm: nn::LayerNorm,
    pub classifier: Classifier,
    variables: VarStore,
}

impl VisionTransformer {
    /// A model with fresh weights, drawn from libtorch's generator (see [`crate::data::seed_everything`]).
    ///
    /// # Errors
    /// A configuration that can't work.
    pub fn new(config: &Config, device: Device) -> Result<Self> {
        config.check()?;
        let model = VisionTransformer::with_sizes(ViTConfig::from(config), device);
        initialise(model.variables(), config.initialisation);
        Ok(model)
    }

    /// As [`VisionTransformer::new`], for sizes read from a weight file; they must fit each other as
    /// [`Config::check`] demands.
    pub fn with_sizes(config: ViTConfig, device: Device) -> Self {
        let variables = VarStore::new(device);
        let root = variables.root();
        VisionTransformer {
            embedding: EmbedLayer::new(&root / "embedding", &config),
            encoder: (0..config.n_layers).map(|i| Encoder::new(&root / "encoder" / i, &config)).collect(),
            norm: layer_norm(&root / "norm", config.embed_dim),
            classifier: Classifier::new(&root / "classifier", config.embed_dim, config.n_classes),
            variables,
            config,
        }
    }

    /// [B, C, I, I] -> logits [B, classes] and, if asked for, the attention of all layers and heads
    /// [B, L, H, S, S]. The logits are the same either way.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn forward(&self, images: &Tensor, train: bool, return_attention: bool) -> Result<(Tensor, Option<Tensor>)> {
        let (logits, attention) = self.forward_layers(images, train)?;
        Ok((logits, return_attention.then(|| Tensor::stack(&attention, 1)))) // L × [B, H, S, S] -> [B, L, H, S, S]
    }

    /// As [`VisionTransformer::forward`], the attention as one [B, H, S, S] per layer: the very tensors of the
    /// graph, so that gradients with respect to them can be taken.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn forward_layers(&self, images: &Tensor, train: bool) -> Result<(Tensor, Vec<Tensor>)> {
        check_images(images, self.config.n_channels, self.config.image_size)?;
        let tokens = self.embedding.forward(images, train); // [B, C, I, I] -> [B, S, E]
        let (tokens, attention) = encoder::run(&self.encoder, tokens, train);
        Ok((self.classifier.forward(&self.norm.forward(&tokens)), attention)) // [B, S, E] -> [B, classes]
    }
}

impl Model for VisionTransformer {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        no_grad(|| Ok(self.forward(images, false, false)?.0))
    }
}
