//! Rollout of the models that libtorch computes. It drops each layer's attention as soon as the heads are fused, and
//! leaves out the tokens that neither the query's row nor the logits depend on.
//!
//! The blocks are those of [`crate::model`], for inference only. Sums are in another order than in the models' forward
//! pass, so that attention and logits differ by float32's rounding.

use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor, no_grad};

use super::Network;
use crate::error::{Result, ensure};
use crate::explain::{Query, Rollout};
use crate::model::{Encoder, Parts, SelfAttention, scaled};

/// Tokens in a pass on the CPU: 8 images of ViT-B/16 at 224. One image at a time takes up to 15% longer, because the
/// products with the weights are less efficient. 16 images are no faster and take more memory.
const TOKENS: i64 = 1600;

/// Entries of the attention matrices that are computed at a time on the CPU, 1 MiB: one image of ViT-B/16 at 224, which
/// needs no copies of queries, keys and values, or 26 images of the homework's ViT.
const ENTRIES: i64 = 1 << 18;

/// The query's row of each image's rollout, float64 [B, S], and the logits [B, classes].
///
/// # Errors
/// A CNN, options or a query that the model doesn't have, images of another shape, attention that isn't finite.
pub(super) fn rollout(network: &Network, images: &Tensor, options: &Rollout, query: Query) -> Result<(Tensor, Tensor)> {
    network.check_query(query)?;
    network.check_images(images)?;
    let parts = network.parts()?;
    let (blocks, tokens) = (parts.blocks, parts.token_count());
    let mut pass = Pass {
        parts,
        options,
        layers: options.layer_indices(blocks.len())?,
        query: query.index(tokens, parts.prefix_tokens())?,
        group: i64::MAX,
    };
    let (batch, mut most) = (images.size()[0], network.images_per_pass());
    ensure!(batch > 0, "there are no images; give at least one");
    if images.device() == Device::Cpu {
        most = (TOKENS / tokens).clamp(1, most);
        pass.group = (ENTRIES / (blocks[0].attention.heads * tokens * tokens)).max(1);
    }
    let passes = (batch + most - 1) / most;
    let images = images.f_split((batch + passes - 1) / passes, 0)?; // of equal size, as far as possible
    let results = no_grad(|| images.iter().map(|images| pass.run(images)).collect::<Result<Vec<_>>>())?;
    let (rows, logits): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    Ok((Tensor::f_cat(&rows, 0)?, Tensor::f_cat(&logits, 0)?))
}

/// One forward pass with the layers and the row that it keeps.
struct Pass<'a> {
    parts: Parts<'a>,
    options: &'a Rollout,
    /// Indices of the selected layers.
    layers: Vec<usize>,
    /// Index of the token.
    query: i64,
    /// Images whose attention is computed at a time.
    group: i64,
}

impl Pass<'_> {
    /// [B, C, I, I] -> rows [B, S] and logits [B, classes]
    fn run(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let mut x = self.parts.tokens(images)?; // [B, C, I, I] -> [B, S, E]
        let tokens = x.size()[1];
        let blocks = self.parts.blocks;
        // The factors of each group of images, one [G, S, S] per selected layer. The last is [G, 1, S], the query's row.
        let mut factors: Vec<Vec<Tensor>> = Vec::new();
        for (layer, block) in blocks.iter().enumerate() {
            let selected = self.layers.contains(&layer);
            let (mut kept, mut queries) = (tokens, tokens);
            if layer + 1 == blocks.len() {
                kept = self.parts.classified_tokens();
                let row_suffices = self.options.rows_are_independent() && self.query < kept;
                queries = if !selected || row_suffices { kept } else { tokens };
            }
            let mixed =
                attend(&block.attention, &block.norm1.forward(&x), queries, kept, self.group, |group, heads| {
                    if !selected {
                        return Ok(());
                    }
                    if factors.len() <= group {
                        factors.push(Vec::with_capacity(self.layers.len()));
                    }
                    factors[group].push(match self.layers.last() == Some(&layer) {
                        true => self.options.factor_row(heads, self.query)?, // [G, H, S, S] -> [G, 1, S]
                        false => self.options.factor(heads)?,                // [G, H, S, S] -> [G, S, S]
                    });
                    Ok(())
                })?;
            x = finish(block, x.narrow(1, 0, kept).contiguous(), &mixed); // [B, S, E] -> [B, K, E]
        }
        // The product from the last layer down: [G, 1, S] times [G, S, S].
        let products = factors.into_iter().map(|layers| {
            let row = layers.into_iter().rev().reduce(|row, factor| row.bmm(&factor));
            row.expect("a layer is selected").squeeze_dim(1) // [G, 1, S] -> [G, S]
        });
        let rows = Tensor::cat(&products.collect::<Vec<_>>(), 0); // -> [B, S]
        Ok((rows, self.parts.logits(x)))
    }
}

/// [`SelfAttention::forward`] up to the projection, for the first tokens only: [B, S, E] -> [B, `kept`, E]. The attention
/// of the first `queries` tokens, [G, H, Q, S], goes to `visit` with the number of the group of G images.
fn attend(
    attention: &SelfAttention,
    x: &Tensor,
    queries: i64,
    kept: i64,
    group: i64,
    mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
) -> Result<Tensor> {
    let (batch, _, embed) = x.size3().expect("tokens are [B, S, E]");
    let head_dim = embed / attention.heads;
    let split = |t: Tensor| t.view([batch, -1, attention.heads, head_dim]).transpose(1, 2); // [B, S, E] -> [B, H, S, E/H]
    let mut q = attention.queries.forward(&x.narrow(1, 0, queries)); // [B, S, E] -> [B, Q, E]
    let _ = q.g_div_scalar_((head_dim as f64).sqrt());
    let q = split(q);
    let k = split(attention.keys.forward(x)).transpose(-2, -1); // [B, H, E/H, S]
    let v = split(attention.values.forward(x));
    let group = group.min(batch);
    let groups = q.split(group, 0).into_iter().zip(k.split(group, 0)).zip(v.split(group, 0));
    let mixed = groups.enumerate().map(|(number, ((q, k), v))| {
        let heads = q.matmul(&k).softmax(-1, Kind::Float); // [G, H, Q, S]
        visit(number, &heads)?;
        Ok(heads.narrow(2, 0, kept).matmul(&v).transpose(1, 2)) // [G, H, K, S] -> [G, H, K, E/H] -> [G, K, H, E/H]
    });
    let mixed = mixed.collect::<Result<Vec<_>>>()?;
    Ok(Tensor::cat(&mixed, 0).reshape([batch, kept, embed])) // -> [B, K, H, E/H] -> [B, K, E]
}

/// The rest of [`Encoder::forward`], with the mixed values of the same tokens: [B, K, E] -> [B, K, E].
fn finish(block: &Encoder, x: Tensor, mixed: &Tensor) -> Tensor {
    let x = add_linear(x, mixed, &block.attention.out_projection, &block.scales[0]);
    let hidden = block.fc1.forward(&block.norm2.forward(&x)).gelu_("none"); // [B, K, E] -> [B, K, forward_mul · E]
    add_linear(x, &hidden, &block.fc2, &block.scales[1]) // -> [B, K, E]
}

/// x + γ · (y Wᵀ + b). Without a layer scale γ, the product is added to x in its memory.
fn add_linear(mut x: Tensor, y: &Tensor, linear: &nn::Linear, scale: &Option<Tensor>) -> Tensor {
    match (scale, &linear.bs) {
        (None, Some(bias)) => {
            let _ = x.g_add_(bias);
            let _ = x.flatten(0, 1).addmm_(&y.flatten(0, 1), &linear.ws.tr()); // [B, K, E] as [B · K, E]
            x
        }
        _ => x + scaled(linear.forward(y), scale),
    }
}
