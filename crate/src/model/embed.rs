//! From an image to tokens (arXiv 2010.11929, equation 1).

use tch::Tensor;
use tch::nn::{self, Module};

use super::{NORMAL, ViTConfig};

/// Cuts the image into patches, projects each to E numbers, puts the class token in front and adds the position
/// embedding.
///
/// The material notebook's files exist in two layouts, and both load: a position row per patch, added before the
/// class token joins ([1, 49, 64]), or a row per token, added afterwards ([1, 50, 64]; new models).
#[derive(Debug)]
pub struct EmbedLayer {
    pub conv1: nn::Conv2D,
    /// [1, N, E] or [1, N + 1, E] for N patches
    pub pos_embedding: Tensor,
    /// [1, 1, E]
    pub cls_token: Tensor,
    dropout: f64,
}

impl EmbedLayer {
    pub(super) fn new(path: nn::Path, config: &ViTConfig) -> Self {
        let embed = config.embed_dim;
        EmbedLayer {
            conv1: patch_projection(&path / "conv1", config),
            pos_embedding: path.var("pos_embedding", &[1, config.position_rows, embed], NORMAL),
            cls_token: path.var("cls_token", &[1, 1, embed], NORMAL),
            dropout: config.dropout,
        }
    }

    /// [B, C, I, I] -> [B, S, E], the class token first
    pub fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let batch = images.size()[0];
        let patches = self.conv1.forward(images).flatten(2, 3).transpose(1, 2); // [B, C, I, I] -> [B, E, N] -> [B, N, E]
        let cls = self.cls_token.expand([batch, -1, -1], false); // [1, 1, E] -> [B, 1, E]
        let tokens = if self.pos_embedding.size()[1] == patches.size()[1] {
            Tensor::cat(&[cls, patches + &self.pos_embedding], 1) // [B, N, E] -> [B, S, E]
        } else {
            Tensor::cat(&[cls, patches], 1) + &self.pos_embedding
        };
        tokens.dropout(self.dropout, train)
    }
}

/// A linear map of each P × P patch to E numbers, as a convolution whose stride is its size.
pub(super) fn patch_projection(path: nn::Path, config: &ViTConfig) -> nn::Conv2D {
    let patch = config.patch_size;
    let conv = nn::ConvConfig { stride: patch, ws_init: NORMAL, bs_init: nn::Init::Const(0.0), ..Default::default() };
    nn::conv2d(path, config.n_channels, config.embed_dim, patch, conv)
}
