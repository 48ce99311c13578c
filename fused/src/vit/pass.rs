//! Forward and backward pass of the whole network for a group of images: embedding, blocks, last norm, heads.

use super::bfloat;
use super::block::{Activations, Block, BlockRun, Scratch};
use super::parameters::VitParameters;
use super::rollout::{Matrices, ResolvedRollout};
use super::shape::Shape;
use crate::aligned::Aligned;
use crate::cpu::{CpuLevel, dispatch};
use crate::layers::{add, add_column_sums, dot, layer_norm_backward, scale_shift, standardise, tanh};
use crate::loss::{Training, loss_gradient};
use crate::matmul::{Start, matmul, rows, transposed};
use crate::random::Random;

/// Images whose activations are computed together: few enough for the caches, enough to read the weights rarely.
pub(super) const GROUP: usize = 4;

/// Number of the dropout layer after the embedding; each block has two more.
const EMBEDDING: u64 = 0;

/// Number of a block's first dropout layer.
pub(super) fn dropout_layer(block: usize) -> u64 {
    EMBEDDING + 1 + 2 * block as u64
}

/// Activations and memory of one thread.
#[derive(Default)]
pub(super) struct Workspace {
    /// [G · N, padded C · P · P]
    patches: Aligned,
    /// [G · S, E]: tokens, and their gradient in the backward pass.
    x: Aligned,
    /// One per block; predictions use the first for all blocks.
    blocks: Vec<Activations>,
    scratch: Scratch,
    bfloat: bfloat::Scratch,
    matrices: Matrices,
    /// The last norm: [G · prefix, E], [G · prefix], [G · prefix, E].
    hat: Aligned,
    rstd: Aligned,
    features: Aligned,
    d_features: Aligned,
    /// [G, E]: the class head after tanh.
    hidden: Aligned,
    d_hidden: Aligned,
    /// [E, padded C · P · P]
    d_conv: Aligned,
    /// Heads × [G, classes]
    logits: Vec<Aligned>,
}

impl Workspace {
    pub fn new(shape: &Shape) -> Self {
        Workspace {
            blocks: (0..shape.layers).map(|_| Activations::default()).collect(),
            logits: (0..shape.prefix()).map(|_| Aligned::default()).collect(),
            matrices: Matrices::new(shape, GROUP),
            ..Workspace::default()
        }
    }
}

/// Logits of each head, [B, classes].
type Heads<'a> = [&'a mut [f32]];

/// A network at one CPU level.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub level: CpuLevel,
    pub network: &'a VitParameters,
}

impl Pass<'_> {
    dispatch!(
        Pass,
        run_predict,
        predict,
        (workspace: &mut Workspace, images: &[f32], logits: &mut Heads, rollout: Option<&ResolvedRollout>, rows: &mut [f32])
    );
    dispatch!(
        Pass,
        run_train,
        train,
        (workspace: &mut Workspace, images: &[f32], logits: &mut Heads, training: &Training, first: usize, gradient: &mut [f32])
            -> f64
    );

    /// Images [B, C, I, I] -> logits, and with a rollout the query's row of each image, [B, S]
    #[inline(always)]
    fn predict(
        &self,
        workspace: &mut Workspace,
        images: &[f32],
        logits: &mut Heads,
        rollout: Option<&ResolvedRollout>,
        rows: &mut [f32],
    ) {
        let (image_len, tokens) = (self.network.shape.image_len(), self.network.shape.tokens());
        for (i, images) in images.chunks(GROUP * image_len).enumerate() {
            let group = images.len() / image_len;
            self.embed(workspace, images, group, None);
            for block in 0..self.network.shape.layers {
                self.infer(block, workspace, group, rollout);
            }
            if let Some(rollout) = rollout {
                let rows = rows[i * GROUP * tokens..].chunks_exact_mut(tokens).take(group);
                for (image, row) in rows.enumerate() {
                    workspace.matrices.row(self.level, image, rollout, row);
                }
            }
            self.heads(workspace, group, false);
            self.copy_logits(workspace, i, group, logits);
        }
    }

    /// Training step with dropout for the images of a batch from image `first` on. Adds their part of the gradient of
    /// the batch's mean loss to `gradient`, and returns their part of that loss.
    #[inline(always)]
    fn train(
        &self,
        workspace: &mut Workspace,
        images: &[f32],
        logits: &mut Heads,
        training: &Training,
        first: usize,
        gradient: &mut [f32],
    ) -> f64 {
        let (image_len, classes) = (self.network.shape.image_len(), self.network.shape.classes);
        let mut loss = 0.0;
        for (i, images) in images.chunks(GROUP * image_len).enumerate() {
            let group = images.len() / image_len;
            let image = first + i * GROUP;
            let seed = training.seed.wrapping_add(image as u64);
            self.embed(workspace, images, group, Some(seed));
            for (block, saved) in workspace.blocks.iter_mut().enumerate() {
                let block = self.block(block, self.block_run(block, group, Some(seed)));
                block.forward(&mut workspace.x, saved, &mut workspace.scratch);
            }
            self.heads(workspace, group, true);
            self.copy_logits(workspace, i, group, logits);
            for (logits, target) in workspace.logits.iter_mut().zip(training.targets) {
                let logits = &mut logits[..group * classes];
                let probabilities = &target.probabilities[image * classes..][..logits.len()];
                for (z, t) in logits.chunks_exact_mut(classes).zip(probabilities.chunks_exact(classes)) {
                    loss += loss_gradient(z, t, target, training.batch);
                }
            }
            self.backward(workspace, group, seed, gradient);
        }
        loss
    }

    fn block_run(&self, block: usize, group: usize, dropout: Option<u64>) -> BlockRun {
        let shape = &self.network.shape;
        let rows = if block + 1 == shape.layers { shape.prefix() } else { shape.tokens() };
        BlockRun { group, queries: rows, rows, dropout, dropout_layer: dropout_layer(block) }
    }

    fn block(&self, i: usize, run: BlockRun) -> Block<'_> {
        let (weights, layout) = (&self.network.blocks[i], &self.network.layout.blocks[i]);
        Block { level: self.level, network: self.network, weights, layout, run }
    }

    /// A block without dropout. With a rollout, also the block's matrices.
    #[inline(always)]
    fn infer(&self, i: usize, workspace: &mut Workspace, group: usize, rollout: Option<&ResolvedRollout>) {
        let (shape, x, matrices) = (&self.network.shape, &mut workspace.x, &mut workspace.matrices);
        let mut run = self.block_run(i, group, None);
        if rollout.is_some() {
            // Discarding compares the attention of all queries, also in the last block.
            run.queries = shape.tokens();
        }
        let step = rollout.and_then(|rollout| Some((rollout.layers.binary_search(&i).ok()?, rollout)));
        if let Some(weights) = self.network.bfloat.get(i) {
            let fused = step.map(|(step, rollout)| (rollout.fusion, matrices.of_step(step)));
            weights.forward(self.network, i, x, fused, &mut workspace.bfloat, run);
        } else {
            let saved = &mut workspace.blocks[0];
            self.block(i, run).forward(x, saved, &mut workspace.scratch);
            if let Some((step, rollout)) = step {
                matrices.fuse(&saved.attention, shape.heads, step, rollout.fusion);
            }
        }
        if let Some((step, rollout)) = step {
            matrices.complete(group, shape.heads, step, rollout);
        }
    }

    /// Copies the logits of group `i` to those of all images.
    fn copy_logits(&self, workspace: &Workspace, i: usize, group: usize, logits: &mut Heads) {
        let classes = self.network.shape.classes;
        for (all, logits) in logits.iter_mut().zip(&workspace.logits) {
            all[i * GROUP * classes..][..group * classes].copy_from_slice(&logits[..group * classes]);
        }
    }

    /// Images [G, C, I, I] -> tokens [G · S, E] in `x`
    #[inline(always)]
    fn embed(&self, workspace: &mut Workspace, images: &[f32], group: usize, dropout: Option<u64>) {
        let (network, shape, layout) = (self.network, &self.network.shape, &self.network.layout);
        let (e, width, patches, tokens) = (shape.embed, shape.patch_width(), shape.patches(), shape.tokens());
        let (side, patch, across) = (shape.image_side, shape.patch_side, shape.image_side / shape.patch_side);
        let rows_of_patches = workspace.patches.room(group * patches * width);
        for (row, to) in rows_of_patches.chunks_exact_mut(width).enumerate() {
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
        let position = network.at(layout.position, shape.position_rows * e);
        let bias = network.at(layout.conv.bias, e);
        let skipped = tokens - shape.position_rows;
        let all = workspace.x.room(group * tokens * e);
        for (image, x) in all.chunks_exact_mut(tokens * e).enumerate() {
            x[..skipped * e].fill(0.0);
            x[skipped * e..].copy_from_slice(position);
            for (x, token) in x.chunks_exact_mut(e).zip(&layout.tokens) {
                add(x, network.at(*token, e));
            }
            let x = &mut x[shape.prefix() * e..];
            for x in x.chunks_exact_mut(e) {
                add(x, bias);
            }
            let (size, patches) = ((patches, e, shape.patch_len()), &rows_of_patches[image * patches * width..]);
            matmul(self.level, size, rows(patches, width), (&network.conv, e), (x, e), Start::Present);
        }
        if let Some(seed) = dropout {
            Random::new(seed, EMBEDDING).dropout(all, shape.dropout);
        }
    }

    /// Gradient of the tokens in `x` -> gradients of the patch projection, the position embedding and the prefix tokens
    #[inline(always)]
    fn embed_backward(&self, workspace: &mut Workspace, group: usize, seed: u64, gradient: &mut [f32]) {
        let (shape, layout) = (&self.network.shape, &self.network.layout);
        let (e, width, patches, tokens) = (shape.embed, shape.patch_width(), shape.patches(), shape.tokens());
        let d = &mut workspace.x[..group * tokens * e];
        Random::new(seed, EMBEDDING).dropout(d, shape.dropout);
        let d_conv = workspace.d_conv.room(e * width);
        d_conv.fill(0.0);
        let skipped = tokens - shape.position_rows;
        for (image, d) in d.chunks_exact(tokens * e).enumerate() {
            let position = layout.position..layout.position + shape.position_rows * e;
            add(&mut gradient[position], &d[skipped * e..]);
            for (d, token) in d.chunks_exact(e).zip(&layout.tokens) {
                add(&mut gradient[*token..token + e], d);
            }
            let d = &d[shape.prefix() * e..];
            add_column_sums(d, e, &mut gradient[layout.conv.bias..layout.conv.bias + e]);
            let (size, patches) = ((e, width, patches), &workspace.patches[image * patches * width..]);
            matmul(self.level, size, transposed(d, e), (patches, width), (d_conv, width), Start::Present);
        }
        let rows = gradient[layout.conv.weight..].chunks_exact_mut(shape.patch_len()).take(e);
        for (row, d) in rows.zip(d_conv.chunks_exact(width)) {
            add(row, d);
        }
    }

    /// Prefix tokens [G · prefix, E] in `x` -> `logits`
    #[inline(always)]
    fn heads(&self, workspace: &mut Workspace, group: usize, training: bool) {
        let (network, shape, layout) = (self.network, &self.network.shape, &self.network.layout);
        let (e, prefix) = (shape.embed, shape.prefix());
        let (hat, features) = (workspace.hat.room(group * prefix * e), workspace.features.room(group * prefix * e));
        standardise(&workspace.x[..group * prefix * e], e, hat, workspace.rstd.room(group * prefix));
        let [weight, bias] = [layout.norm.weight, layout.norm.bias].map(|p| network.at(p, e));
        scale_shift(hat, weight, bias, features);
        let (hidden, bias) = (workspace.hidden.room(group * e), Start::Bias(network.at(layout.fc1.bias, e)));
        let class_tokens = rows(features, prefix * e);
        matmul(self.level, (group, e, e), class_tokens, (&network.fc1, e), (hidden, e), bias);
        if training || network.bfloat.is_empty() {
            for x in hidden.iter_mut() {
                *x = x.tanh();
            }
        } else {
            tanh(hidden); // the last digit of float32 is below the precision of bfloat16
        }
        for (head, (layer, logits)) in layout.logits.iter().zip(&mut workspace.logits).enumerate() {
            let (input, row) = if head == 0 { (&*hidden, e) } else { (&features[e..], prefix * e) };
            let logits = logits.room(group * shape.classes).chunks_exact_mut(shape.classes);
            for (logits, x) in logits.zip(input.chunks(row)) {
                for (class, z) in logits.iter_mut().enumerate() {
                    let weight = network.at(layer.weight + class * e, e);
                    *z = network.flat[layer.bias + class] + dot(weight, &x[..e]);
                }
            }
        }
    }

    /// Gradients in `logits` -> gradients of the heads' parameters, and of the last norm's output in `d_features`
    #[inline(always)]
    fn heads_backward(&self, workspace: &mut Workspace, group: usize, gradient: &mut [f32]) {
        let (network, shape, layout) = (self.network, &self.network.shape, &self.network.layout);
        let (e, prefix, classes) = (shape.embed, shape.prefix(), shape.classes);
        let (hidden, features) = (&workspace.hidden, &workspace.features);
        let (d_hidden, d_features) =
            (workspace.d_hidden.room(group * e), workspace.d_features.room(group * prefix * e));
        d_features.fill(0.0);
        d_hidden.fill(0.0);
        for (head, (layer, logits)) in layout.logits.iter().zip(&workspace.logits).enumerate() {
            for (image, d) in logits.chunks_exact(classes).take(group).enumerate() {
                let (x, d_x) = if head == 0 {
                    (&hidden[image * e..][..e], &mut d_hidden[image * e..][..e])
                } else {
                    let token = (image * prefix + head) * e;
                    (&features[token..][..e], &mut d_features[token..][..e])
                };
                for (class, d) in d.iter().enumerate() {
                    let weight = layer.weight + class * e;
                    gradient[layer.bias + class] += d;
                    let row = gradient[weight..weight + e].iter_mut();
                    for ((g, w), (x, d_x)) in row.zip(network.at(weight, e)).zip(x.iter().zip(d_x.iter_mut())) {
                        *g += d * x;
                        *d_x += d * w;
                    }
                }
            }
        }
        for (d, x) in d_hidden.iter_mut().zip(hidden.iter()) {
            *d *= 1.0 - x * x;
        }
        let weights = (&mut gradient[layout.fc1.weight..], e);
        matmul(self.level, (e, e, group), transposed(d_hidden, e), (features, prefix * e), weights, Start::Present);
        add_column_sums(d_hidden, e, &mut gradient[layout.fc1.bias..layout.fc1.bias + e]);
        let (weights, d_class) = ((network.at(layout.fc1.weight, e * e), e), (d_features, prefix * e));
        matmul(self.level, (group, e, e), rows(d_hidden, e), weights, d_class, Start::Present);
    }

    /// Gradients in `logits` -> gradients of all parameters, added to `gradient`
    #[inline(always)]
    fn backward(&self, workspace: &mut Workspace, group: usize, seed: u64, gradient: &mut [f32]) {
        self.heads_backward(workspace, group, gradient);
        let (network, layout, e) = (self.network, &self.network.layout, self.network.shape.embed);
        let x = &mut workspace.x[..group * network.shape.prefix() * e];
        x.fill(0.0);
        let ranges = [layout.norm.weight, layout.norm.bias].map(|p| p..p + e);
        let [d_weight, d_bias] = gradient.get_disjoint_mut(ranges).expect("parameters don't overlap");
        let (d, hat) = (&mut workspace.d_features[..x.len()], (&workspace.hat[..], &workspace.rstd[..]));
        layer_norm_backward(d, hat, network.at(layout.norm.weight, e), (d_weight, d_bias), x);
        for (i, saved) in workspace.blocks.iter().enumerate().rev() {
            let block = self.block(i, self.block_run(i, group, Some(seed)));
            block.backward(&mut workspace.x, saved, &mut workspace.scratch, gradient);
        }
        self.embed_backward(workspace, group, seed, gradient);
    }
}
