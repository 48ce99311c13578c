//! Forward and backward pass of a network for a group of images, whose activations stay in the caches.
//!
//! The tokens of G images are one matrix of G · S rows, image after image. The last block computes only the rows that the
//! heads read: the first `rows` tokens of each image.

use super::rollout::{Matrices, ResolvedRollout};
use super::shape::{Block, Network, Shape};
use crate::cpu::{Operation, Simd};
use crate::layers::Room;
use crate::loss::Training;
use crate::mat::{Buffer, buffers};
use crate::random::Random;

/// Images whose activations are computed together: few enough for the caches, enough to read the weights rarely.
pub(super) const GROUP: usize = 4;

/// Number of the dropout layer after the embedding; each block has two more.
pub(super) const EMBEDDING: u64 = 0;

/// Number of a block's first dropout layer.
pub(super) fn dropout_layer(block: usize) -> u64 {
    EMBEDDING + 1 + 2 * block as u64
}

buffers! {
    /// Activations that the backward pass of a block reads, for G images.
    Saved(shape: &Shape) where all = GROUP * shape.tokens(), e = shape.embed, f = shape.hidden;
    /// Norm 1.
    hat1: all * e,
    rstd1: all,
    queries: all * e,
    keys: all * e,
    values: all * e,
    /// [G, H, S, padded queries]: the attention, one column per query.
    attention: all * shape.heads * shape.padded_tokens(),
    /// Sums of the values weighted by the attention.
    mixed: all * e,
    /// Norm 2.
    hat2: all * e,
    rstd2: all,
    /// GELU, and its derivative.
    hidden: all * f,
    slope: all * f,
}

buffers! {
    /// Memory of the layers between the blocks, and memory that a block needs only while it runs, for G images.
    Scratch(shape: &Shape) where all = GROUP * shape.tokens(), e = shape.embed, prefix = GROUP * shape.prefix();
    /// [G · N, padded C · P · P]
    patches: GROUP * shape.patches() * shape.patch_width(),
    /// Tokens, and their gradient in the backward pass.
    x: all * e,
    /// A norm's output.
    normed: all * e,
    /// Output of a block's half, and its gradient.
    out: all * e,
    d_mixed: all * e,
    d_queries: all * e,
    d_keys: all * e,
    d_values: all * e,
    d_hidden: all * shape.hidden,
    /// The last norm, and its output.
    hat: prefix * e,
    rstd: prefix,
    features: prefix * e,
    d_features: prefix * e,
    /// Input of each head's last layer: the class token's is the output of tanh.
    tokens: prefix * e,
    d_tokens: prefix * e,
    /// [E, padded C · P · P]
    d_conv: e * shape.patch_width(),
    /// Heads × [G, classes]
    logits: prefix * shape.classes,
    ; room: Room
}

/// Activations and memory of one thread.
pub(super) struct Workspace {
    /// One per block in training; predictions use the first for all blocks.
    blocks: Vec<Saved>,
    matrices: Matrices,
    scratch: Scratch,
}

impl Workspace {
    /// Memory of predictions; the first training step adds the activations of the other blocks.
    pub fn new(shape: &Shape) -> Self {
        Workspace { blocks: vec![Saved::new(shape)], matrices: Matrices::new(shape), scratch: Scratch::new(shape) }
    }
}

/// Results for some images, in their order.
#[derive(Clone, Default)]
pub(super) struct Output {
    /// Logits of each head, [B, classes].
    pub heads: Vec<Vec<f32>>,
    /// The query's row of each image's rollout, [B, S].
    pub rows: Vec<f32>,
    /// The images' part of the batch's mean loss.
    pub loss: f64,
}

/// Images [B, C, I, I] -> their output.
pub(super) struct Job<'a> {
    pub network: &'a Network,
    pub workspace: &'a mut Workspace,
    pub images: &'a [f32],
    pub output: &'a mut Output,
    pub rollout: Option<&'a ResolvedRollout>,
    /// A training step has dropout, a loss, and the images' part of the batch's gradient.
    pub training: Option<(Training<'a>, &'a mut Vec<f32>)>,
}

impl<S: Simd> Operation<S> for Job<'_> {
    #[inline(always)]
    fn call(self, simd: S) {
        let Job {
            network, workspace: Workspace { blocks, matrices, scratch: w }, output, rollout, mut training, ..
        } = self;
        let (shape, classes) = (&network.shape, network.shape.classes);
        if let Some((_, gradient)) = &mut training {
            blocks.resize_with(shape.layers, || Saved::new(shape));
            gradient.clear();
            gradient.resize(network.flat.len(), 0.0);
        }
        for (i, images) in self.images.chunks(GROUP * shape.image_len()).enumerate() {
            let group = images.len() / shape.image_len();
            let seed = training.as_ref().map(|(training, _)| training.seed(i * GROUP));
            // Discarding compares the attention of all queries, also in the last block.
            let pass = Pass { simd, network, group, seed, all_queries: rollout.is_some() };
            pass.embed(w, images);
            for block in 0..shape.layers {
                let saved = &mut blocks[if seed.is_some() { block } else { 0 }];
                pass.attention(block, w, saved);
                pass.mlp(block, w, saved);
                if let Some(rollout) = rollout
                    && let Ok(step) = rollout.layers.binary_search(&block)
                {
                    matrices.fuse(&saved.attention, (group, shape.heads), step, rollout);
                }
            }
            pass.heads(w);
            for (head, logits) in output.heads.iter_mut().zip(w.logits.chunks_exact(GROUP * classes)) {
                head.extend(&logits[..group * classes]);
            }
            if let Some(rollout) = rollout {
                for image in 0..group {
                    output.rows.extend(matrices.row(simd, image, rollout));
                }
            }
            if let Some((training, gradient)) = &mut training {
                for (head, logits) in w.logits.chunks_exact_mut(GROUP * classes).enumerate() {
                    let images = logits.chunks_exact_mut(classes).take(group);
                    training.gradient(head, i * GROUP, images, &mut output.loss);
                }
                pass.heads_backward(w, gradient);
                for (block, saved) in blocks.iter().enumerate().rev() {
                    pass.mlp_backward(block, w, saved, gradient);
                    pass.attention_backward(block, w, saved, gradient);
                }
                pass.embed_backward(w, gradient);
            }
        }
    }
}

/// A group of images in a network, at one CPU level.
pub(super) struct Pass<'a, S> {
    pub simd: S,
    pub network: &'a Network,
    /// Images in the group.
    pub group: usize,
    /// Seed of the group's dropout; none in predictions.
    pub seed: Option<u64>,
    /// Whether the last block computes the attention of all tokens.
    pub all_queries: bool,
}

impl<S> Pass<'_, S> {
    /// A block, its number of tokens whose attention is computed, and that of tokens in its output: from the first on.
    pub fn block(&self, i: usize) -> (&Block, usize, usize) {
        let (shape, last) = (&self.network.shape, i + 1 == self.network.shape.layers);
        let rows = if last { shape.prefix() } else { shape.tokens() };
        (&self.network.blocks[i], if self.all_queries { shape.tokens() } else { rows }, rows)
    }

    /// Applies a dropout layer in training.
    #[inline(always)]
    pub fn dropout(&self, layer: u64, x: &mut [f32]) {
        if let Some(seed) = self.seed {
            Random::new(seed, layer).dropout(x, self.network.shape.dropout);
        }
    }
}
