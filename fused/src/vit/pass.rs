//! Forward and backward pass of a network for a group of images, whose activations stay in the caches.
//!
//! The tokens of G images are one matrix of G · S rows, image after image. The last block computes only the rows that the
//! heads read: the first `rows` tokens of each image.

use super::rollout::{Matrices, ResolvedRollout};
use super::shape::{Block, Network, Shape};
use crate::cpu::{Operation, Simd};
use crate::layers::{add, add_column_sums, attention, attention_backward, dot, gelu, gelu_slope, scale_by};
use crate::loss::{Training, loss_gradient};
use crate::mat::{Buffer, Mat, MatMut, Operand, Room, Start, buffers, multiply};
use crate::random::Random;

/// Images whose activations are computed together: few enough for the caches, enough to read the weights rarely.
pub(super) const GROUP: usize = 4;

/// Number of the dropout layer after the embedding; each block has two more.
const EMBEDDING: u64 = 0;

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
    /// A norm's output, of all tokens and of those with a query.
    normed: all * e,
    some_normed: all * e,
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
    /// The class head after tanh.
    class: GROUP * e,
    d_class: GROUP * e,
    /// [E, padded C · P · P]
    d_conv: e * shape.patch_width(),
    /// Heads × [G, classes]
    logits: prefix * shape.classes,
    ; room
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
        Workspace {
            blocks: vec![Saved::new(shape)],
            matrices: Matrices::new(shape, GROUP),
            scratch: Scratch::new(shape),
        }
    }
}

/// Logits of each head, [B, classes].
pub(super) type Heads<'a> = [&'a mut [f32]];

/// A group of images in a network, at one CPU level.
struct Pass<'a, S> {
    simd: S,
    network: &'a Network,
    /// Images in the group.
    group: usize,
    /// Seed of the group's dropout; none in predictions.
    seed: Option<u64>,
    /// Whether the last block computes the attention of all tokens.
    all_queries: bool,
}

/// Prediction: images [B, C, I, I] -> logits, and with a rollout the query's row of each image, [B, S]
pub(super) struct Predict<'a> {
    pub network: &'a Network,
    pub workspace: &'a mut Workspace,
    pub images: &'a [f32],
    pub logits: &'a mut Heads<'a>,
    pub rollout: Option<&'a ResolvedRollout>,
    pub rows: &'a mut [f32],
}

impl<S: Simd> Operation<S> for Predict<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self, simd: S) {
        let (network, shape, all_queries) = (self.network, &self.network.shape, self.rollout.is_some());
        let Workspace { blocks, matrices, scratch } = self.workspace;
        let (image_len, tokens) = (shape.image_len(), shape.tokens());
        for (i, images) in self.images.chunks(GROUP * image_len).enumerate() {
            let group = images.len() / image_len;
            // Discarding compares the attention of all queries, also in the last block.
            let pass = Pass { simd, network, group, seed: None, all_queries };
            pass.embed(scratch, images);
            for block in 0..shape.layers {
                pass.attention(block, scratch, &mut blocks[0]);
                pass.mlp(block, scratch, &mut blocks[0]);
                if let Some(rollout) = self.rollout
                    && let Ok(step) = rollout.layers.binary_search(&block)
                {
                    matrices.fuse(&blocks[0].attention, (group, shape.heads), step, rollout);
                }
            }
            if let Some(rollout) = self.rollout {
                let rows = self.rows[i * GROUP * tokens..].chunks_exact_mut(tokens).take(group);
                for (image, row) in rows.enumerate() {
                    matrices.row(simd, image, rollout, row);
                }
            }
            pass.heads(scratch);
            pass.copy_logits(scratch, i, self.logits);
        }
    }
}

/// Training step with dropout for the images of a batch from image `first` on. Adds their part of the gradient of the
/// batch's mean loss to `gradient`, and returns their part of that loss.
pub(super) struct Train<'a> {
    pub network: &'a Network,
    pub workspace: &'a mut Workspace,
    pub images: &'a [f32],
    pub logits: &'a mut Heads<'a>,
    pub training: &'a Training<'a>,
    pub first: usize,
    pub gradient: &'a mut [f32],
}

impl<S: Simd> Operation<S> for Train<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self, simd: S) -> f64 {
        let (shape, classes) = (&self.network.shape, self.network.shape.classes);
        let mut loss = 0.0;
        self.workspace.blocks.resize_with(shape.layers, || Saved::new(shape));
        let Workspace { blocks, scratch, .. } = self.workspace;
        for (i, images) in self.images.chunks(GROUP * shape.image_len()).enumerate() {
            let group = images.len() / shape.image_len();
            let image = self.first + i * GROUP;
            let seed = Some(self.training.seed.wrapping_add(image as u64));
            let pass = Pass { simd, network: self.network, group, seed, all_queries: false };
            pass.embed(scratch, images);
            for (block, saved) in blocks.iter_mut().enumerate() {
                pass.attention(block, scratch, saved);
                pass.mlp(block, scratch, saved);
            }
            pass.heads(scratch);
            pass.copy_logits(scratch, i, self.logits);
            for (logits, target) in scratch.logits.chunks_exact_mut(GROUP * classes).zip(self.training.targets) {
                let logits = &mut logits[..group * classes];
                let probabilities = &target.probabilities[image * classes..][..logits.len()];
                for (z, t) in logits.chunks_exact_mut(classes).zip(probabilities.chunks_exact(classes)) {
                    loss += loss_gradient(z, t, target, self.training.batch);
                }
            }
            pass.heads_backward(scratch, self.gradient);
            for (block, saved) in blocks.iter().enumerate().rev() {
                pass.mlp_backward(block, scratch, saved, self.gradient);
                pass.attention_backward(block, scratch, saved, self.gradient);
            }
            pass.embed_backward(scratch, self.gradient);
        }
        loss
    }
}

impl<S: Simd> Pass<'_, S> {
    /// A block, its number of tokens whose attention is computed, and that of tokens in its output: from the first on.
    fn block(&self, i: usize) -> (&Block, usize, usize) {
        let (shape, last) = (&self.network.shape, i + 1 == self.network.shape.layers);
        let rows = if last { shape.prefix() } else { shape.tokens() };
        (&self.network.blocks[i], if self.all_queries { shape.tokens() } else { rows }, rows)
    }

    /// Applies a dropout layer in training.
    #[inline(always)]
    fn dropout(&self, layer: u64, x: &mut [f32]) {
        if let Some(seed) = self.seed {
            Random::new(seed, layer).dropout(x, self.network.shape.dropout);
        }
    }

    /// Copies the logits of group `i` to those of all images.
    fn copy_logits(&self, scratch: &Scratch, i: usize, logits: &mut Heads) {
        let (classes, group) = (self.network.shape.classes, self.group);
        for (all, logits) in logits.iter_mut().zip(scratch.logits.chunks_exact(GROUP * classes)) {
            all[i * GROUP * classes..][..group * classes].copy_from_slice(&logits[..group * classes]);
        }
    }

    /// x = dropout([tokens; patches Wᵀ + b] + position) (arXiv 2010.11929, equation 1): images [G, C, I, I] -> [G · S, E]
    #[inline(always)]
    fn embed(&self, w: &mut Scratch, images: &[f32]) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, width, patches, tokens) = (shape.embed, shape.patch_width(), shape.patches(), shape.tokens());
        let (side, patch, across) = (shape.image_side, shape.patch_side, shape.image_side / shape.patch_side);
        for (row, to) in w.patches[..group * patches * width].chunks_exact_mut(width).enumerate() {
            let (image, at) = (row / patches, row % patches);
            for (i, to) in to.chunks_exact_mut(patch).take(shape.channels * patch).enumerate() {
                let (channel, y) = (i / patch, at / across * patch + i % patch);
                let from = ((image * shape.channels + channel) * side + y) * side + at % across * patch;
                // `copy_from_slice` would call memcpy for a few values.
                for (to, from) in to.iter_mut().zip(&images[from..from + patch]) {
                    *to = *from;
                }
            }
        }
        // Each token starts as its row of the position embedding, or as zero if it has none.
        let position = network.at(network.position, shape.position_rows * e);
        let bias = network.at(network.conv.bias_at, e);
        let skipped = tokens - shape.position_rows;
        let all = &mut w.x[..group * tokens * e];
        for (image, x) in all.chunks_exact_mut(tokens * e).enumerate() {
            x[..skipped * e].fill(0.0);
            x[skipped * e..].copy_from_slice(position);
            for (x, token) in x.chunks_exact_mut(e).zip(&network.tokens) {
                add(x, network.at(*token, e));
            }
            let x = &mut x[shape.prefix() * e..];
            for x in x.chunks_exact_mut(e) {
                add(x, bias);
            }
            let patch_rows = Mat::strided(&w.patches[image * patches * width..], patches, shape.patch_len(), width);
            multiply(
                self.simd,
                patch_rows,
                network.conv.transposed::<S, f32>(),
                Start::Present,
                MatMut::new(x, patches, e),
            );
        }
        self.dropout(EMBEDDING, all);
    }

    /// dW = dᵀ patches, db = Σ d over the patches; d position and d tokens are the tokens' gradients: d in `x` [G · S, E]
    #[inline(always)]
    fn embed_backward(&self, w: &mut Scratch, gradient: &mut [f32]) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, width, patches, tokens) = (shape.embed, shape.patch_width(), shape.patches(), shape.tokens());
        let d = &mut w.x[..group * tokens * e];
        self.dropout(EMBEDDING, d);
        w.d_conv.fill(0.0);
        let skipped = tokens - shape.position_rows;
        for (image, d) in d.chunks_exact(tokens * e).enumerate() {
            add(&mut gradient[network.position..][..shape.position_rows * e], &d[skipped * e..]);
            for (d, token) in d.chunks_exact(e).zip(&network.tokens) {
                add(&mut gradient[*token..token + e], d);
            }
            let d = Mat::new(&d[shape.prefix() * e..], patches, e);
            add_column_sums(d, &mut gradient[network.conv.bias_at..][..e]);
            let patch_rows = Mat::new(&w.patches[image * patches * width..], patches, width);
            multiply(self.simd, d.t(), patch_rows, Start::Present, w.d_conv.mat_mut(e, width)); // [E, N] · [N, C · P · P]
        }
        let rows = gradient[network.conv.weight_at..].chunks_exact_mut(shape.patch_len()).take(e);
        for (row, d) in rows.zip(w.d_conv.chunks_exact(width)) {
            add(row, d);
        }
    }

    /// x += dropout(attention(norm(x)) Wᵀ + b) (arXiv 2010.11929, equation 2): [G · S, E] -> [G · rows, E]
    #[inline(always)]
    fn attention(&self, i: usize, w: &mut Scratch, saved: &mut Saved) {
        let (simd, group, shape, (block, queries, rows)) = (self.simd, self.group, &self.network.shape, self.block(i));
        let (e, tokens) = (shape.embed, shape.tokens());
        let (all, asking, some) = (group * tokens, group * queries, group * rows);
        let normed = &mut w.normed[..all * e];
        block.norm1.forward(&self.network.flat, &w.x[..all * e], &mut saved.hat1, &mut saved.rstd1, normed);
        let [room, some_room, ..] = &mut w.room.pairs;
        let normed = S::Operand::along(simd, w.normed.mat(all, e), room);
        block.keys.forward(simd, normed, saved.keys.mat_mut(all, e));
        block.values.forward(simd, normed, saved.values.mat_mut(all, e));
        let normed = if queries < tokens {
            first_rows(&w.normed, tokens, &mut w.some_normed, queries, (group, e));
            S::Operand::along(simd, w.some_normed.mat(asking, e), some_room)
        } else {
            normed
        };
        block.queries.forward(simd, normed, saved.queries.mat_mut(asking, e));
        let length = shape.heads * tokens * queries.next_multiple_of(16);
        for (image, maps) in saved.attention.chunks_exact_mut(length).take(group).enumerate() {
            let q = rows_of(&saved.queries, image, queries, e);
            let (k, v) = (rows_of(&saved.keys, image, tokens, e), rows_of(&saved.values, image, tokens, e));
            let y = MatMut::new(&mut saved.mixed[image * rows * e..], rows, e);
            attention(simd, shape.heads, (q, k, v), maps, y, &mut w.room);
        }
        let mixed = S::Operand::along(simd, saved.mixed.mat(some, e), &mut w.room.pairs[0]);
        block.out.forward(simd, mixed, w.out.mat_mut(some, e));
        self.dropout(dropout_layer(i), &mut w.out[..some * e]);
        if rows < tokens {
            for image in 0..group {
                let from = image * tokens * e;
                w.x.copy_within(from..from + rows * e, image * rows * e); // [G · S, E] -> [G · rows, E]
            }
        }
        add(&mut w.x[..some * e], &w.out);
    }

    /// d in `x`, the gradient of the output [G · rows, E] -> of the input [G · S, E], layer by layer in reverse
    #[inline(always)]
    fn attention_backward(&self, i: usize, w: &mut Scratch, saved: &Saved, gradient: &mut [f32]) {
        let (simd, group, shape, (block, _, rows)) = (self.simd, self.group, &self.network.shape, self.block(i));
        let (e, tokens, flat) = (shape.embed, shape.tokens(), &self.network.flat);
        let (all, some) = (group * tokens, group * rows);
        w.out[..some * e].copy_from_slice(&w.x[..some * e]);
        self.dropout(dropout_layer(i), &mut w.out[..some * e]);
        let operands = (saved.mixed.mat(some, e), w.out.mat(some, e));
        let d_mixed = (Start::Zero, w.d_mixed.mat_mut(some, e));
        block.out.backward::<S, S::Operand>(simd, operands, (Start::Present, gradient), d_mixed, &mut w.room);
        let length = shape.heads * tokens * rows.next_multiple_of(16);
        for (image, maps) in saved.attention.chunks_exact(length).take(group).enumerate() {
            let [d_q, d_k, d_v] = [(&mut w.d_queries, rows), (&mut w.d_keys, tokens), (&mut w.d_values, tokens)]
                .map(|(x, rows)| MatMut::new(&mut x[image * rows * e..], rows, e));
            let (q, d_y) = (rows_of(&saved.queries, image, rows, e), rows_of(&w.d_mixed, image, rows, e));
            let (k, v) = (rows_of(&saved.keys, image, tokens, e), rows_of(&saved.values, image, tokens, e));
            attention_backward(simd, shape.heads, (q, k, v), maps, d_y, (d_q, d_k, d_v), &mut w.room);
        }

        // Keys and values give a gradient for all tokens, queries for the first tokens of each image.
        block.norm1.scale_shift(flat, &saved.hat1[..all * e], &mut w.normed);
        if rows < tokens {
            first_rows(&w.normed, tokens, &mut w.some_normed, rows, (group, e));
        }
        let some_normed = if rows < tokens { &w.some_normed } else { &w.normed };
        for (layer, d, start) in [(&block.keys, &w.d_keys, Start::Zero), (&block.values, &w.d_values, Start::Present)] {
            let (operands, d_normed) = ((w.normed.mat(all, e), d.mat(all, e)), (start, w.out.mat_mut(all, e)));
            layer.backward::<S, S::Operand>(simd, operands, (Start::Present, gradient), d_normed, &mut w.room);
        }
        let operands = (some_normed.mat(some, e), w.d_queries.mat(some, e));
        let back = (Start::Zero, w.d_mixed.mat_mut(some, e));
        block.queries.backward::<S, S::Operand>(simd, operands, (Start::Present, gradient), back, &mut w.room);
        let d_normed = &mut w.out[..all * e];
        for (d_normed, back) in d_normed.chunks_exact_mut(tokens * e).zip(w.d_mixed.chunks_exact(rows * e)) {
            add(d_normed, back);
        }
        if rows < tokens {
            for image in (0..group).rev() {
                let (from, to) = (image * rows * e, image * tokens * e);
                w.x.copy_within(from..from + rows * e, to); // [G · rows, E] -> [G · S, E], zero elsewhere
                w.x[to + rows * e..to + tokens * e].fill(0.0);
            }
        }
        block.norm1.backward(flat, d_normed, (&saved.hat1, &saved.rstd1), gradient, &mut w.x[..all * e]);
    }

    /// x += dropout(GELU(norm(x) W₁ᵀ + b₁) W₂ᵀ + b₂) (arXiv 2010.11929, equation 3): [G · rows, E] -> [G · rows, E]
    #[inline(always)]
    fn mlp(&self, i: usize, w: &mut Scratch, saved: &mut Saved) {
        let (simd, shape, (block, _, rows)) = (self.simd, &self.network.shape, self.block(i));
        let (e, f, some) = (shape.embed, shape.hidden, self.group * rows);
        let (x, normed) = (&mut w.x[..some * e], &mut w.normed[..some * e]);
        block.norm2.forward(&self.network.flat, x, &mut saved.hat2, &mut saved.rstd2, normed);
        let normed = S::Operand::along(simd, w.normed.mat(some, e), &mut w.room.pairs[0]);
        block.fc1.forward(simd, normed, saved.hidden.mat_mut(some, f));
        let hidden = &mut saved.hidden[..some * f];
        match self.seed {
            Some(_) => gelu_slope(hidden, &mut saved.slope),
            None => gelu(hidden, S::Operand::SHORT),
        }
        let hidden = S::Operand::along(simd, saved.hidden.mat(some, f), &mut w.room.pairs[0]);
        block.fc2.forward(simd, hidden, w.out.mat_mut(some, e));
        self.dropout(dropout_layer(i) + 1, &mut w.out[..some * e]);
        add(x, &w.out);
    }

    /// d in `x`, the gradient of the output -> of the input, both [G · rows, E]
    #[inline(always)]
    fn mlp_backward(&self, i: usize, w: &mut Scratch, saved: &Saved, gradient: &mut [f32]) {
        let (simd, shape, (block, _, rows)) = (self.simd, &self.network.shape, self.block(i));
        let (e, f, some, flat) = (shape.embed, shape.hidden, self.group * rows, &self.network.flat);
        let (d, out) = (&mut w.x[..some * e], &mut w.out[..some * e]);
        out.copy_from_slice(d);
        self.dropout(dropout_layer(i) + 1, out);
        let operands = (saved.hidden.mat(some, f), w.out.mat(some, e));
        let d_hidden = (Start::Zero, w.d_hidden.mat_mut(some, f));
        block.fc2.backward::<S, S::Operand>(simd, operands, (Start::Present, gradient), d_hidden, &mut w.room);
        scale_by(&mut w.d_hidden[..some * f], &saved.slope);
        block.norm2.scale_shift(flat, &saved.hat2[..some * e], &mut w.normed);
        let operands = (w.normed.mat(some, e), w.d_hidden.mat(some, f));
        let d_normed = (Start::Zero, w.out.mat_mut(some, e));
        block.fc1.backward::<S, S::Operand>(simd, operands, (Start::Present, gradient), d_normed, &mut w.room);
        block.norm2.backward(flat, &mut w.out[..some * e], (&saved.hat2, &saved.rstd2), gradient, d);
    }

    /// z = tanh(norm(x) W₁ᵀ + b₁) W₂ᵀ + b₂ of the class token, norm(x) W₂ᵀ + b₂ of the distillation token (arXiv 2012.12877):
    /// prefix tokens [G · prefix, E] in `x` -> `logits`
    #[inline(always)]
    fn heads(&self, w: &mut Scratch) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, prefix) = (shape.embed, shape.prefix());
        let x = &w.x[..group * prefix * e];
        network.norm.forward(&network.flat, x, &mut w.hat, &mut w.rstd, &mut w.features);
        let class_tokens = Mat::strided(&w.features, group, e, prefix * e);
        network.fc1.forward(self.simd, class_tokens, w.class.mat_mut(group, e));
        w.class[..group * e].iter_mut().for_each(|x| *x = x.tanh());
        for (head, (layer, logits)) in
            network.logits.iter().zip(w.logits.chunks_exact_mut(GROUP * shape.classes)).enumerate()
        {
            let (input, row) = if head == 0 { (&w.class[..], e) } else { (&w.features[e..], prefix * e) };
            let logits = logits[..group * shape.classes].chunks_exact_mut(shape.classes);
            for (logits, x) in logits.zip(input.chunks(row)) {
                for (class, z) in logits.iter_mut().enumerate() {
                    let weight = network.at(layer.weight_at + class * e, e);
                    *z = network.flat[layer.bias_at + class] + dot(weight, &x[..e]);
                }
            }
        }
    }

    /// dW₂ = dᵀ x, db₂ = Σ d, dx = d W₂; through tanh: d (1 − tanh²). Gradients in `logits` -> of the prefix tokens in `x`
    #[inline(always)]
    fn heads_backward(&self, w: &mut Scratch, gradient: &mut [f32]) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, prefix, classes) = (shape.embed, shape.prefix(), shape.classes);
        let (d_class, d_features) = (&mut w.d_class[..group * e], &mut w.d_features[..group * prefix * e]);
        d_features.fill(0.0);
        d_class.fill(0.0);
        for (head, (layer, logits)) in network.logits.iter().zip(w.logits.chunks_exact(GROUP * classes)).enumerate() {
            for (image, d) in logits.chunks_exact(classes).take(group).enumerate() {
                let (x, d_x) = if head == 0 {
                    (&w.class[image * e..][..e], &mut d_class[image * e..][..e])
                } else {
                    let token = (image * prefix + head) * e;
                    (&w.features[token..][..e], &mut d_features[token..][..e])
                };
                for (class, d) in d.iter().enumerate() {
                    let weight = layer.weight_at + class * e;
                    gradient[layer.bias_at + class] += d;
                    let row = gradient[weight..weight + e].iter_mut();
                    for ((g, w), (x, d_x)) in row.zip(network.at(weight, e)).zip(x.iter().zip(d_x.iter_mut())) {
                        *g += d * x;
                        *d_x += d * w;
                    }
                }
            }
        }
        for (d, x) in d_class.iter_mut().zip(w.class.iter()) {
            *d *= 1.0 - x * x;
        }
        let operands = (Mat::strided(&w.features, group, e, prefix * e), Mat::new(d_class, group, e));
        let d_x = (Start::Zero, MatMut::strided(d_features, group, e, prefix * e));
        network.fc1.backward::<S, f32>(self.simd, operands, (Start::Present, gradient), d_x, &mut w.room);
        let x = &mut w.x[..group * prefix * e];
        x.fill(0.0);
        network.norm.backward(&network.flat, d_features, (&w.hat, &w.rstd), gradient, x);
    }
}

/// Copies the first `rows` tokens of each image: [G · S, E] -> [G · rows, E]
#[inline(always)]
fn first_rows(x: &[f32], tokens: usize, some: &mut [f32], rows: usize, (group, e): (usize, usize)) {
    for (from, to) in x.chunks_exact(tokens * e).zip(some.chunks_exact_mut(rows * e)).take(group) {
        to.copy_from_slice(&from[..to.len()]);
    }
}

/// The `rows` rows of an image.
#[inline(always)]
fn rows_of(x: &[f32], image: usize, rows: usize, e: usize) -> Mat<'_> {
    Mat::new(&x[image * rows * e..], rows, e)
}
