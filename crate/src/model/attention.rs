//! Multi-head self-attention (arXiv 1706.03762, section 3.2; arXiv 2010.11929, appendix A).

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use super::linear;

/// softmax(Q Kᵀ / √d) V in each of H heads of d = E/H numbers, then a projection.
#[derive(Debug)]
pub struct SelfAttention {
    pub queries: nn::Linear,
    pub keys: nn::Linear,
    pub values: nn::Linear,
    pub out_projection: nn::Linear,
    heads: i64,
}

impl SelfAttention {
    pub(super) fn new(path: nn::Path, embed: i64, heads: i64) -> Self {
        SelfAttention {
            queries: linear(&path / "queries", embed, embed),
            keys: linear(&path / "keys", embed, embed),
            values: linear(&path / "values", embed, embed),
            out_projection: linear(&path / "out_projection", embed, embed),
            heads,
        }
    }

    /// [B, S, E] -> the mixed tokens [B, S, E] and the attention matrix [B, H, S, S], whose rows sum to 1: row i
    /// says how much token i takes from each token.
    pub fn forward(&self, x: &Tensor) -> (Tensor, Tensor) {
        let (batch, tokens, embed) = x.size3().expect("tokens are [B, S, E]");
        let head_dim = embed / self.heads;
        let split = |t: Tensor| t.view([batch, tokens, self.heads, head_dim]).transpose(1, 2); // [B, S, E] -> [B, H, S, E/H]
        let q = split(self.queries.forward(x));
        let k = split(self.keys.forward(x));
        let v = split(self.values.forward(x));
        let scores = q.matmul(&k.transpose(-2, -1)) / (head_dim as f64).sqrt(); // [B, H, S, S]
        let x_attention = scores.softmax(-1, Kind::Float);
        let mixed = x_attention.matmul(&v).transpose(1, 2).reshape([batch, tokens, embed]); // [B, H, S, E/H] -> [B, S, E]
        (self.out_projection.forward(&mixed), x_attention)
    }
}
