//! A whole network, forward and backward, for a group of images: embedding, blocks, last norm, heads.

use super::aligned::Aligned;
use super::bfloat;
use super::block::{Block, Kept, Scratch, Site};
use super::matmul::{Left, Out, Right, Start, matmul};
use super::network::Network;
use super::random::Random;
use super::rollout::{Chosen, Matrices};
use super::rows::{add_column_sums, dot, layer_norm_backward, scale_shift, standardise, tanh};
use super::vector::Instructions;
use crate::explain::Fusion;

/// Images whose activations are worked on together: few enough for the caches, many enough to read the weights seldom.
pub(super) const GROUP: usize = 4;

/// Place of the dropout after the embedding; each block has two more.
const EMBEDDING: u64 = 0;

/// What a head's scores should be, and how much it counts: a term w τ² CE(t, softmax(z/τ)) of each image's loss.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// [B, classes] the probabilities t
    pub probabilities: Vec<f32>,
    pub weight: f32,
    pub temperature: f32,
}

/// What a whole batch is trained for.
pub(super) struct Training<'a> {
    /// One for each head.
    pub targets: &'a [Target],
    pub seed: u64,
    /// Number of images.
    pub batch: usize,
}

/// Activations and memory of one thread.
pub(super) struct Work {
    /// [G · N, C · P · P padded]
    patches: Aligned,
    /// [G · S, E]: the tokens, and later the gradient
    x: Aligned,
    /// At inference the first serves all.
    blocks: Vec<Kept>,
    scratch: Scratch,
    pairs: bfloat::Scratch,
    matrices: Matrices,
    /// [G · prefix, E]
    hat: Aligned,
    rstd: Aligned,
    features: Aligned,
    d_features: Aligned,
    /// [G, E]: after tanh
    hidden: Aligned,
    d_hidden: Aligned,
    /// [E, C · P · P padded]
    d_conv: Aligned,
    /// Heads × [G, classes]
    logits: Vec<Vec<f32>>,
}

impl Work {
    pub fn new(network: &Network) -> Self {
        let sizes = &network.sizes;
        let e = sizes.embed;
        Work {
            patches: Aligned::zeros(GROUP * sizes.patches * sizes.patch_width()),
            x: Aligned::zeros(GROUP * sizes.tokens * e),
            blocks: (network.blocks.iter()).map(|_| Kept::new(sizes, GROUP)).collect(),
            scratch: Scratch::new(sizes, GROUP),
            pairs: bfloat::Scratch::new(sizes, GROUP),
            matrices: Matrices::new(sizes, network.blocks.len(), GROUP),
            hat: Aligned::zeros(GROUP * sizes.prefix * e),
            rstd: Aligned::zeros(GROUP * sizes.prefix),
            features: Aligned::zeros(GROUP * sizes.prefix * e),
            d_features: Aligned::zeros(GROUP * sizes.prefix * e),
            hidden: Aligned::zeros(GROUP * e),
            d_hidden: Aligned::zeros(GROUP * e),
            d_conv: Aligned::zeros(e * sizes.patch_width()),
            logits: vec![vec![0.0; GROUP * sizes.classes]; sizes.prefix],
        }
    }
}

/// A network on one level of the processor.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub instructions: Instructions,
    pub network: &'a Network,
}

impl Pass<'_> {
    /// Images [B, C, I, I] -> logits, heads × [B, classes].
    #[inline(always)]
    pub fn predict(&self, work: &mut Work, images: &[f32], logits: &mut [&mut [f32]]) {
        let numbers = self.numbers();
        for (i, images) in images.chunks(GROUP * numbers).enumerate() {
            let group = images.len() / numbers;
            self.forward(work, images, group, None);
            self.hand_over(work, i, group, logits);
        }
    }

    /// As [`Pass::predict`] for the images from `first` of a batch, with dropout; adds the gradient of the
    /// batch's mean loss to `gradient` and returns these images' share of the loss.
    #[inline(always)]
    pub fn train(
        &self,
        work: &mut Work,
        images: &[f32],
        first: usize,
        training: &Training,
        logits: &mut [&mut [f32]],
        gradient: &mut [f32],
    ) -> f64 {
        let (numbers, classes) = (self.numbers(), self.network.sizes.classes);
        let mut loss = 0.0;
        for (i, images) in images.chunks(GROUP * numbers).enumerate() {
            let group = images.len() / numbers;
            let image = first + i * GROUP;
            let seed = training.seed.wrapping_add(image as u64);
            self.forward(work, images, group, Some(seed));
            let from = i * GROUP * classes;
            for (head, target) in training.targets.iter().enumerate() {
                let scores = &mut work.logits[head][..group * classes];
                logits[head][from..from + scores.len()].copy_from_slice(scores);
                let wanted = &target.probabilities[image * classes..][..scores.len()];
                for (z, t) in scores.chunks_exact_mut(classes).zip(wanted.chunks_exact(classes)) {
                    loss += loss_gradient(z, t, target, training.batch);
                }
            }
            self.backward(work, group, seed, gradient);
        }
        loss
    }

    fn numbers(&self) -> usize {
        self.network.sizes.numbers()
    }

    fn site(&self, block: usize, group: usize, dropout: Option<u64>) -> Site {
        let (sizes, last) = (&self.network.sizes, self.network.blocks.len() - 1);
        let rows = if block == last { sizes.prefix } else { sizes.tokens };
        Site { group, queries: rows, rows, dropout, place: EMBEDDING + 1 + 2 * block as u64 }
    }

    fn block(&self, i: usize) -> Block<'_> {
        Block {
            instructions: self.instructions,
            network: self.network,
            weights: &self.network.blocks[i],
            places: &self.network.places.blocks[i],
        }
    }

    /// A block at inference; with `fuse`, which goes with every token as a query, its attention joins the matrices.
    #[inline(always)]
    fn infer(&self, i: usize, work: &mut Work, site: Site, fuse: Option<(usize, Fusion)>) {
        let x = &mut work.x;
        if let Some(weights) = self.network.pairs.get(i) {
            let fused = fuse.map(|(layer, fusion)| (fusion, work.matrices.of_layer(layer)));
            let block =
                bfloat::Block { network: self.network, weights, places: &self.network.places.blocks[i], index: i };
            return block.forward(x, fused, &mut work.pairs, site);
        }
        let kept = &mut work.blocks[0];
        self.block(i).forward(x, kept, &mut work.scratch, site);
        if let Some((layer, fusion)) = fuse {
            let (attention, heads) = (kept.attention(), self.network.sizes.heads);
            work.matrices.fuse(attention, heads, layer, fusion);
        }
    }

    #[inline(always)]
    fn forward(&self, work: &mut Work, images: &[f32], group: usize, dropout: Option<u64>) {
        self.embed(work, images, group, dropout);
        for i in 0..self.network.blocks.len() {
            let site = self.site(i, group, dropout);
            if dropout.is_none() {
                self.infer(i, work, site, None);
                continue;
            }
            let (x, kept) = (&mut work.x, &mut work.blocks[i]);
            self.block(i).forward(x, kept, &mut work.scratch, site);
        }
        self.heads(work, group, dropout.is_some());
    }

    /// As [`Pass::predict`], and with it the query's row of each image's rollout, [B, S].
    #[inline(always)]
    pub fn explain(
        &self,
        work: &mut Work,
        images: &[f32],
        chosen: &Chosen,
        logits: &mut [&mut [f32]],
        rows: &mut [f32],
    ) {
        let (sizes, numbers) = (&self.network.sizes, self.numbers());
        let options = chosen.options;
        let groups = images.chunks(GROUP * numbers);
        for (i, (images, rows)) in groups.zip(rows.chunks_mut(GROUP * sizes.tokens)).enumerate() {
            let group = images.len() / numbers;
            self.embed(work, images, group, None);
            for layer in 0..self.network.blocks.len() {
                // Discarding looks at every query's attention, in the last block, too.
                let site = Site { queries: sizes.tokens, ..self.site(layer, group, None) };
                let step = chosen.layers.binary_search(&layer).ok();
                self.infer(layer, work, site, step.map(|step| (step, options.fusion)));
                if let Some(step) = step {
                    work.matrices.complete(group, sizes.heads, step, options);
                }
            }
            for (image, row) in rows.chunks_exact_mut(sizes.tokens).enumerate() {
                work.matrices.row(self.instructions, image, chosen, row);
            }
            self.heads(work, group, false);
            self.hand_over(work, i, group, logits);
        }
    }

    /// The logits of the i-th group.
    fn hand_over(&self, work: &Work, i: usize, group: usize, logits: &mut [&mut [f32]]) {
        let classes = self.network.sizes.classes;
        for (all, logits) in logits.iter_mut().zip(&work.logits) {
            let from = i * GROUP * classes;
            all[from..from + group * classes].copy_from_slice(&logits[..group * classes]);
        }
    }

    /// Prefix tokens [group · prefix, E] in `x` -> `logits`
    #[inline(always)]
    fn heads(&self, work: &mut Work, group: usize, training: bool) {
        let (network, sizes) = (self.network, &self.network.sizes);
        let (e, places) = (sizes.embed, &network.places);
        let some = group * sizes.prefix;
        standardise(&work.x[..some * e], e, &mut work.hat, &mut work.rstd);
        let [weight, bias] = [places.norm.weight, places.norm.bias].map(|p| network.at(p, e));
        scale_shift(&work.hat, weight, bias, &mut work.features);
        let bias = Start::Bias(network.at(places.fc1.bias, e));
        matmul(
            self.instructions,
            (group, e, e),
            Left::rows(&work.features, sizes.prefix * e),
            Right::rows(&network.fc1, e),
            Out::rows(&mut work.hidden, e),
            bias,
        );
        let hidden = &mut work.hidden[..group * e];
        if training || network.pairs.is_empty() {
            for x in hidden {
                *x = x.tanh();
            }
        } else {
            tanh(hidden); // the last digit isn't wanted in bfloat16
        }
        for head in 0..sizes.prefix {
            let (input, row) = if head == 0 { (&work.hidden[..], e) } else { (&work.features[e..], sizes.prefix * e) };
            let place = self.head(head);
            let logits = work.logits[head].chunks_exact_mut(sizes.classes);
            for (logits, x) in logits.zip(input.chunks(row)).take(group) {
                for (class, z) in logits.iter_mut().enumerate() {
                    let weight = network.at(place.weight + class * e, e);
                    *z = network.flat[place.bias + class] + dot(weight, &x[..e]);
                }
            }
        }
    }

    /// The linear layer of a head: of the class token's classifier, or the distillation token's.
    fn head(&self, head: usize) -> super::network::Place {
        let places = &self.network.places;
        match places.fc_dist {
            Some(place) if head == 1 => place,
            _ => places.fc2,
        }
    }

    /// [group, C, I, I] -> tokens [group · S, E] in `x`
    #[inline(always)]
    fn embed(&self, work: &mut Work, images: &[f32], group: usize, dropout: Option<u64>) {
        let (network, sizes) = (self.network, &self.network.sizes);
        let (e, side, patch, places) = (sizes.embed, sizes.side, sizes.patch, &network.places);
        let (width, across) = (sizes.patch_width(), side / patch);
        for (row, to) in work.patches.chunks_exact_mut(width).take(group * sizes.patches).enumerate() {
            let (image, at) = (row / sizes.patches, row % sizes.patches);
            for (i, to) in to.chunks_exact_mut(patch).take(sizes.channels * patch).enumerate() {
                let (channel, y) = (i / patch, at / across * patch + i % patch);
                let from = ((image * sizes.channels + channel) * side + y) * side + at % across * patch;
                // Not by a call for each few numbers.
                for (to, from) in to.iter_mut().zip(&images[from..from + patch]) {
                    *to = *from;
                }
            }
        }
        // Every token begins with its position; tokens without a row of the position embedding with zero.
        let position = network.at(places.position, places.position_rows * e);
        let bias = network.at(places.conv.bias, e);
        let skipped = sizes.tokens - places.position_rows;
        for (image, x) in work.x.chunks_exact_mut(sizes.tokens * e).take(group).enumerate() {
            x[..skipped * e].fill(0.0);
            x[skipped * e..].copy_from_slice(position);
            for (x, token) in x.chunks_exact_mut(e).zip(&places.tokens) {
                super::rows::add(x, network.at(*token, e));
            }
            let x = &mut x[sizes.prefix * e..];
            for x in x.chunks_exact_mut(e) {
                super::rows::add(x, bias);
            }
            let patches = &work.patches[image * sizes.patches * width..];
            let numbers = sizes.channels * patch * patch;
            matmul(
                self.instructions,
                (sizes.patches, e, numbers),
                Left::rows(patches, width),
                Right::rows(&network.conv, e),
                Out::rows(x, e),
                Start::Out,
            );
        }
        if let Some(seed) = dropout {
            let x = &mut work.x[..group * sizes.tokens * e];
            Random::new(seed, EMBEDDING).dropout(x, sizes.dropout);
        }
    }

    /// From the gradients of the logits, which stand in their place, to those of all parameters.
    #[inline(always)]
    fn backward(&self, work: &mut Work, group: usize, seed: u64, gradient: &mut [f32]) {
        let (network, sizes, places) = (self.network, &self.network.sizes, &self.network.places);
        let (e, prefix, some) = (sizes.embed, sizes.prefix, group * sizes.prefix);
        work.d_features.fill(0.0);
        work.d_hidden.fill(0.0);
        for head in 0..prefix {
            let place = self.head(head);
            for image in 0..group {
                let token = (image * prefix + head) * e;
                let (x, d_x) = if head == 0 {
                    let range = image * e..(image + 1) * e;
                    (&work.hidden[range.clone()], &mut work.d_hidden[range])
                } else {
                    (&work.features[token..token + e], &mut work.d_features[token..token + e])
                };
                let d = &work.logits[head][image * sizes.classes..][..sizes.classes];
                for (class, d) in d.iter().enumerate() {
                    let weight = place.weight + class * e;
                    gradient[place.bias + class] += d;
                    let numbers = gradient[weight..weight + e].iter_mut();
                    for ((g, w), (x, d_x)) in numbers.zip(network.at(weight, e)).zip(x.iter().zip(d_x.iter_mut())) {
                        *g += d * x;
                        *d_x += d * w;
                    }
                }
            }
        }
        for (d, x) in work.d_hidden.iter_mut().zip(work.hidden.iter()) {
            *d *= 1.0 - x * x;
        }
        matmul(
            self.instructions,
            (e, e, group),
            Left::transposed(&work.d_hidden, e),
            Right::rows(&work.features, prefix * e),
            Out::rows(&mut gradient[places.fc1.weight..], e),
            Start::Out,
        );
        let sums = &mut gradient[places.fc1.bias..places.fc1.bias + e];
        add_column_sums(&work.d_hidden[..group * e], e, sums);
        matmul(
            self.instructions,
            (group, e, e),
            Left::rows(&work.d_hidden, e),
            Right::rows(network.at(places.fc1.weight, e * e), e),
            Out::rows(&mut work.d_features, prefix * e),
            Start::Out,
        );

        let x = &mut work.x[..some * e];
        x.fill(0.0);
        let of = [places.norm.weight, places.norm.bias].map(|p| p..p + e);
        let [d_weight, d_bias] = gradient.get_disjoint_mut(of).expect("parameters don't overlap");
        layer_norm_backward(
            &mut work.d_features[..some * e],
            (&work.hat, &work.rstd),
            network.at(places.norm.weight, e),
            (d_weight, d_bias),
            x,
        );
        for (i, kept) in work.blocks.iter().enumerate().rev() {
            let site = self.site(i, group, Some(seed));
            self.block(i).backward(&mut work.x, kept, &mut work.scratch, site, gradient);
        }
        self.embed_backward(work, group, seed, gradient);
    }

    #[inline(always)]
    fn embed_backward(&self, work: &mut Work, group: usize, seed: u64, gradient: &mut [f32]) {
        let (sizes, places) = (&self.network.sizes, &self.network.places);
        let (e, width) = (sizes.embed, sizes.patch_width());
        let d = &mut work.x[..group * sizes.tokens * e];
        Random::new(seed, EMBEDDING).dropout(d, sizes.dropout);
        work.d_conv.fill(0.0);
        let skipped = sizes.tokens - places.position_rows;
        for (image, d) in d.chunks_exact(sizes.tokens * e).enumerate() {
            let position = places.position..places.position + places.position_rows * e;
            super::rows::add(&mut gradient[position], &d[skipped * e..]);
            for (d, token) in d.chunks_exact(e).zip(&places.tokens) {
                super::rows::add(&mut gradient[*token..token + e], d);
            }
            let d = &d[sizes.prefix * e..];
            add_column_sums(d, e, &mut gradient[places.conv.bias..places.conv.bias + e]);
            matmul(
                self.instructions,
                (e, width, sizes.patches),
                Left::transposed(d, e),
                Right::rows(&work.patches[image * sizes.patches * width..], width),
                Out::rows(&mut work.d_conv, width),
                Start::Out,
            );
        }
        let numbers = sizes.channels * sizes.patch * sizes.patch;
        let rows = gradient[places.conv.weight..].chunks_exact_mut(numbers).take(e);
        for (row, d) in rows.zip(work.d_conv.chunks_exact(width)) {
            super::rows::add(row, d);
        }
    }
}

/// Scores z of an image -> their gradient of the batch's mean loss, in place; returns the image's share of that loss.
#[inline(always)]
pub(super) fn loss_gradient(z: &mut [f32], t: &[f32], target: &Target, batch: usize) -> f64 {
    let tau = target.temperature;
    let highest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = z.iter().map(|z| ((z - highest) / tau).exp()).sum();
    let mut loss = 0.0;
    for (z, t) in z.iter_mut().zip(t) {
        let log_p = (*z - highest) / tau - sum.ln();
        loss -= f64::from(t * log_p);
        *z = target.weight * tau * (log_p.exp() - t) / batch as f32;
    }
    loss * f64::from(target.weight * tau * tau) / batch as f64
}
