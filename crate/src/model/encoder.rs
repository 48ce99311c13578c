//! One block of the transformer (arXiv 2010.11929, equations 2 and 3).

use tch::Tensor;
use tch::nn::{self, Module};

use super::{SelfAttention, ViTConfig, layer_norm, linear};

/// x + attention(norm(x)), then x + mlp(norm(x)): pre-norm with two skip connections.
#[derive(Debug)]
pub struct Encoder {
    pub norm1: nn::LayerNorm,
    pub attention: SelfAttention,
    pub norm2: nn::LayerNorm,
    pub fc1: nn::Linear,
    pub fc2: nn::Linear,
    dropout: f64,
}

impl Encoder {
    pub(super) fn new(path: nn::Path, config: &ViTConfig) -> Self {
        let (embed, hidden) = (config.embed_dim, config.embed_dim * config.forward_mul);
        Encoder {
            norm1: layer_norm(&path / "norm1", embed),
            attention: SelfAttention::new(&path / "attention", embed, config.n_attention_heads),
            norm2: layer_norm(&path / "norm2", embed),
            fc1: linear(&path / "fc1", embed, hidden),
            fc2: linear(&path / "fc2", hidden, embed),
            dropout: config.dropout,
        }
    }

    /// [B, S, E] -> [B, S, E] and the attention matrix [B, H, S, S]
    pub fn forward(&self, x: &Tensor, train: bool) -> (Tensor, Tensor) {
        let (mixed, x_attention) = self.attention.forward(&self.norm1.forward(x));
        let x = x + mixed.dropout(self.dropout, train);
        let hidden = self.fc1.forward(&self.norm2.forward(&x)).gelu("none"); // [B, S, E] -> [B, S, forward_mul · E]
        let x = &x + self.fc2.forward(&hidden).dropout(self.dropout, train); // -> [B, S, E]
        (x, x_attention)
    }
}

/// All blocks in turn: [B, S, E] -> [B, S, E] and the attention of each, [B, H, S, S].
pub(super) fn run(blocks: &[Encoder], tokens: Tensor, train: bool) -> (Tensor, Vec<Tensor>) {
    let mut x = tokens;
    let mut attention = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (mixed, x_attention) = block.forward(&x, train);
        x = mixed;
        attention.push(x_attention);
    }
    (x, attention)
}
