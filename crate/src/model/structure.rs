//! Parts of published Vision Transformers that the homework's model doesn't have.

use tch::{Kind, Tensor, nn};

use super::ViTConfig;

/// The differences of a Vision Transformer from the homework's, which is the default.
#[derive(Clone, Debug, PartialEq)]
pub struct Structure {
    /// Tokens before the patches: class token, distillation token, registers, as far as the model has them.
    pub prefix_tokens: i64,
    /// Registers among them, which are tokens without a meaning of their own (arXiv 2309.16588).
    pub registers: i64,
    /// Width of the blocks' hidden layers, if it isn't `forward_mul` · E.
    pub hidden_dim: Option<i64>,
    /// Added to the variance in each layer norm.
    pub norm_epsilon: f64,
    /// Layer scale (arXiv 2103.17239, section 2): a block multiplies the output of its attention and of its MLP by a
    /// learned factor per feature.
    pub layer_scale: bool,
    pub pool: Pool,
    pub head: Head,
}

impl Default for Structure {
    fn default() -> Self {
        Structure {
            prefix_tokens: 1,
            registers: 0,
            hidden_dim: None,
            norm_epsilon: 1e-5,
            layer_scale: false,
            pool: Pool::Class,
            head: Head::TwoLayers,
        }
    }
}

/// The layers from the features of an image to its logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Head {
    /// Two linear layers with tanh between them: the homework's, and Google's with a representation layer.
    #[default]
    TwoLayers,
    /// One linear layer.
    Linear,
    /// No layer: the features are the output.
    None,
}

/// The tokens of the last block that become the features of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// The first token.
    #[default]
    Class,
    /// Mean of the patches, without the prefix tokens.
    Patches,
    /// As [`Pool::Patches`], but the last norm is applied to the mean instead of each token (timm's `fc_norm`).
    PatchesBeforeNorm,
    /// The first token, then the mean of the patches: 2E features (DINOv2's classifiers).
    ClassAndPatches,
}

impl Pool {
    /// The tokens that the last norm gets: [B, S, E] -> [B, S, E], or [B, 1, E] for [`Pool::PatchesBeforeNorm`].
    pub(super) fn before_norm(self, tokens: Tensor, prefix: i64) -> Tensor {
        match self {
            Pool::PatchesBeforeNorm => mean_patch(&tokens, prefix).unsqueeze(1), // [B, S, E] -> [B, E] -> [B, 1, E]
            _ => tokens,
        }
    }

    /// Normalised tokens to the features of the image: [B, S, E] -> [B, E], or [B, 2E] for [`Pool::ClassAndPatches`].
    pub(super) fn features(self, tokens: &Tensor, prefix: i64) -> Tensor {
        match self {
            Pool::Class | Pool::PatchesBeforeNorm => tokens.select(1, 0), // [B, S, E] -> [B, E]
            Pool::Patches => mean_patch(tokens, prefix),
            Pool::ClassAndPatches => Tensor::cat(&[tokens.select(1, 0), mean_patch(tokens, prefix)], 1), // -> [B, 2E]
        }
    }
}

/// [B, S, E] -> [B, E]
fn mean_patch(tokens: &Tensor, prefix: i64) -> Tensor {
    let patches = tokens.size()[1] - prefix;
    tokens.narrow(1, prefix, patches).mean_dim([1i64].as_slice(), false, Kind::Float) // [B, S, E] -> [B, N, E] -> [B, E]
}

/// Factors of a layer scale [E] for a block that has it.
pub(super) fn layer_scale(path: &nn::Path, name: &str, config: &ViTConfig) -> Option<Tensor> {
    config.structure.layer_scale.then(|| path.ones(name, &[config.embed_dim]))
}

/// Multiplies the features of each token by a layer scale [E], if the block has one: [B, S, E] -> [B, S, E].
pub(crate) fn scaled(x: Tensor, scale: &Option<Tensor>) -> Tensor {
    match scale {
        Some(scale) => x * scale,
        None => x,
    }
}
