//! One encoder block, forward and backward, for a group of images whose activations stay in the caches.
//!
//! The tokens of G images are one matrix of G · S rows, image after image. The last block computes only the rows that the
//! heads read: the first `rows` tokens of each image. A prefix `d_` marks the gradient of a variable, `hat` the
//! standardised rows of a norm.

use super::network::{BlockWeights, Network};
use super::shape::{BlockLayout, Shape};
use crate::aligned::Aligned;
use crate::cpu::CpuLevel;
use crate::layout::LayerOffsets;
use crate::matmul::{Left, Out, Right, Start, matmul};
use crate::random::Random;
use crate::rows::{
    add, add_column_sums, gelu, gelu_slope, layer_norm_backward, multiply, scale_shift, softmax_columns,
    softmax_columns_backward, standardise, transpose,
};

/// Activations that the backward pass of a block reads, with room for all tokens as queries and rows.
pub(super) struct SavedActivations {
    /// Norm 1: [G · S, E] and [G · S].
    hat1: Aligned,
    rstd1: Aligned,
    /// [G · queries, E]
    queries: Aligned,
    /// [G · S, 2E]
    keys_values: Aligned,
    /// [G, H, S, padded queries]: the attention, one column per query.
    attention: Aligned,
    /// [G · rows, E]: sums of the values weighted by the attention.
    mixed: Aligned,
    /// Norm 2: [G · rows, E] and [G · rows].
    hat2: Aligned,
    rstd2: Aligned,
    /// [G · rows, F]: GELU, and its derivative.
    hidden: Aligned,
    slope: Aligned,
}

impl SavedActivations {
    pub fn new(shape: &Shape, group: usize) -> Self {
        let (e, tokens, all) = (shape.embed, shape.tokens(), group * shape.tokens());
        SavedActivations {
            hat1: Aligned::zeros(all * e),
            rstd1: Aligned::zeros(all),
            queries: Aligned::zeros(all * e),
            keys_values: Aligned::zeros(all * 2 * e),
            attention: Aligned::zeros(group * shape.heads * tokens * shape.padded_tokens()),
            mixed: Aligned::zeros(all * e),
            hat2: Aligned::zeros(all * e),
            rstd2: Aligned::zeros(all),
            hidden: Aligned::zeros(all * shape.hidden),
            slope: Aligned::zeros(all * shape.hidden),
        }
    }

    /// [G, H, S, padded S], if all tokens were queries.
    pub fn attention(&self) -> &[f32] {
        &self.attention
    }
}

/// Memory that a block needs only while it runs.
pub(super) struct Scratch {
    /// [G · S, E]: a norm's output, of all tokens and of those with a query.
    normed: Aligned,
    some_normed: Aligned,
    out: Aligned,
    /// [G · S, F]
    d_hidden: Aligned,
    d_mixed: Aligned,
    d_queries: Aligned,
    /// [G · S, 2E]
    d_keys_values: Aligned,
    /// [E/H, padded S]: the queries or `d_mixed` of an image and head, transposed.
    transposed: Aligned,
    /// [S, padded S]
    d_attention: Aligned,
}

impl Scratch {
    pub fn new(shape: &Shape, group: usize) -> Self {
        let (e, tokens, all) = (shape.embed, shape.tokens(), group * shape.tokens());
        Scratch {
            normed: Aligned::zeros(all * e),
            some_normed: Aligned::zeros(all * e),
            out: Aligned::zeros(all * e),
            d_hidden: Aligned::zeros(all * shape.hidden),
            d_mixed: Aligned::zeros(all * e),
            d_queries: Aligned::zeros(all * e),
            d_keys_values: Aligned::zeros(all * 2 * e),
            transposed: Aligned::zeros(e / shape.heads * shape.padded_tokens()),
            d_attention: Aligned::zeros(tokens * shape.padded_tokens()),
        }
    }
}

/// Sizes and dropout of one run of a block.
#[derive(Clone, Copy)]
pub(super) struct BlockRun {
    /// Images in the group.
    pub group: usize,
    /// Number of tokens, from the first on, whose attention is computed.
    pub queries: usize,
    /// Number of tokens in the block's output; less than `queries` only without dropout.
    pub rows: usize,
    /// Seed of the group's dropout; none in predictions.
    pub dropout: Option<u64>,
    /// Number of the block's first dropout layer.
    pub dropout_layer: u64,
}

impl BlockRun {
    /// Applies dropout layer 0 (after the attention) or 1 (after the MLP) of the block.
    #[inline(always)]
    fn drop(&self, x: &mut [f32], layer: u64, rate: f64) {
        if let Some(seed) = self.dropout {
            Random::new(seed, self.dropout_layer + layer).dropout(x, rate);
        }
    }

    /// Copies the tokens with a query: [G · S, width] -> [G · queries, width].
    #[inline(always)]
    pub fn gather<T: Copy>(&self, x: &[T], some: &mut [T], width: usize, tokens: usize) {
        let to = some.chunks_exact_mut(self.queries * width);
        for (from, to) in x.chunks_exact(tokens * width).zip(to).take(self.group) {
            to.copy_from_slice(&from[..to.len()]);
        }
    }

    /// [G · S, E] -> [G · rows, E], in place
    #[inline(always)]
    pub fn keep_rows(&self, x: &mut [f32], e: usize, tokens: usize) {
        if self.rows < tokens {
            for image in 0..self.group {
                let from = image * tokens * e;
                x.copy_within(from..from + self.rows * e, image * self.rows * e);
            }
        }
    }

    /// [G · rows, E] -> [G · S, E] with zeros in the other rows, in place
    #[inline(always)]
    fn spread_rows(&self, x: &mut [f32], e: usize, tokens: usize) {
        if self.rows < tokens {
            for image in (0..self.group).rev() {
                let (from, to) = (image * self.rows * e, image * tokens * e);
                x.copy_within(from..from + self.rows * e, to);
                x[to + self.rows * e..to + tokens * e].fill(0.0);
            }
        }
    }
}

/// A network's block at one CPU level.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub level: CpuLevel,
    pub network: &'a Network,
    pub weights: &'a BlockWeights,
    pub layout: &'a BlockLayout,
}

impl Block<'_> {
    /// Adds the attention and the MLP to `x`: [G · S, E] -> [G · rows, E].
    #[inline(always)]
    pub fn forward(&self, x: &mut [f32], saved: &mut SavedActivations, scratch: &mut Scratch, run: BlockRun) {
        self.attention_sublayer(x, saved, scratch, run);
        self.mlp_sublayer(x, saved, scratch, run);
    }

    /// `d`: gradient of the block's output [G · rows, E] -> of its input [G · S, E]. Adds the gradients of the parameters
    /// to `gradient`.
    #[inline(always)]
    pub fn backward(
        &self,
        d: &mut [f32],
        saved: &SavedActivations,
        scratch: &mut Scratch,
        run: BlockRun,
        gradient: &mut [f32],
    ) {
        self.mlp_sublayer_backward(d, saved, scratch, run, gradient);
        self.attention_sublayer_backward(d, saved, scratch, run, gradient);
    }

    /// Norm 1, attention and output projection, added to `x`: [G · S, E] -> [G · rows, E].
    #[inline(always)]
    fn attention_sublayer(&self, x: &mut [f32], saved: &mut SavedActivations, scratch: &mut Scratch, run: BlockRun) {
        let shape = &self.network.shape;
        let (e, tokens) = (shape.embed, shape.tokens());
        let (all, some) = (run.group * tokens, run.group * run.rows);
        let normed = &mut scratch.normed[..all * e];
        self.norm(&x[..all * e], self.layout.norm1, &mut saved.hat1, &mut saved.rstd1, normed);
        let bias = Start::Bias(&self.weights.keys_values_bias);
        self.linear(normed, &self.weights.keys_values, bias, (all, e, 2 * e), &mut saved.keys_values);
        let asking = if run.queries < tokens {
            run.gather(normed, &mut scratch.some_normed, e, tokens);
            &scratch.some_normed
        } else {
            &*normed
        };
        let bias = self.bias(self.layout.queries, e);
        self.linear(asking, &self.weights.queries, bias, (run.group * run.queries, e, e), &mut saved.queries);
        self.attention(saved, &mut scratch.transposed, run);
        let out = &mut scratch.out[..some * e];
        self.linear(&saved.mixed, &self.weights.out, self.bias(self.layout.out, e), (some, e, e), out);
        run.drop(out, 0, shape.dropout);
        run.keep_rows(x, e, tokens);
        add(&mut x[..some * e], out);
    }

    /// `d`: gradient of the output [G · rows, E] -> of the input [G · S, E].
    #[inline(always)]
    fn attention_sublayer_backward(
        &self,
        d: &mut [f32],
        saved: &SavedActivations,
        scratch: &mut Scratch,
        run: BlockRun,
        gradient: &mut [f32],
    ) {
        let (shape, flat) = (&self.network.shape, &self.network.flat);
        let (e, tokens) = (shape.embed, shape.tokens());
        let (all, some) = (run.group * tokens, run.group * run.rows);
        let out = &mut scratch.out[..some * e];
        out.copy_from_slice(&d[..some * e]);
        run.drop(out, 0, shape.dropout);
        self.linear_gradient(out, &saved.mixed, (some, e, e), self.layout.out, gradient);
        let d_mixed = &mut scratch.d_mixed[..some * e];
        self.linear(out, &flat[self.layout.out.weight..], Start::Zero, (some, e, e), d_mixed);
        self.attention_backward(saved, scratch, run);

        let normed = &mut scratch.normed[..all * e];
        self.shift(&saved.hat1, self.layout.norm1, normed);
        run.gather(normed, &mut scratch.some_normed, e, tokens);
        let d_queries = &scratch.d_queries[..some * e];
        self.linear_gradient(d_queries, &scratch.some_normed, (some, e, e), self.layout.queries, gradient);
        let d_keys_values = &scratch.d_keys_values[..all * 2 * e];
        for (i, layer) in [self.layout.keys, self.layout.values].into_iter().enumerate() {
            let left = Left::transposed(&d_keys_values[i * e..], 2 * e);
            self.weight_gradient(left, normed, (all, e, e), layer, gradient);
            add_column_sums(&d_keys_values[i * e..], 2 * e, &mut gradient[layer.bias..layer.bias + e]);
        }

        // Keys and values give a gradient for all tokens, queries for the first tokens of each image.
        let d_normed = &mut scratch.out[..all * e];
        self.linear(d_keys_values, &self.weights.keys_values_back, Start::Zero, (all, 2 * e, e), d_normed);
        let back = &mut scratch.some_normed[..some * e];
        self.linear(d_queries, &flat[self.layout.queries.weight..], Start::Zero, (some, e, e), back);
        for (d_normed, back) in d_normed.chunks_exact_mut(tokens * e).zip(back.chunks_exact(run.rows * e)) {
            add(d_normed, back);
        }
        run.spread_rows(d, e, tokens);
        let hat = (&saved.hat1[..all * e], &saved.rstd1[..all]);
        self.norm_backward(d_normed, hat, self.layout.norm1, gradient, &mut d[..all * e]);
    }

    /// Norm 2 and MLP, added to `x` [G · rows, E].
    #[inline(always)]
    fn mlp_sublayer(&self, x: &mut [f32], saved: &mut SavedActivations, scratch: &mut Scratch, run: BlockRun) {
        let shape = &self.network.shape;
        let (e, f, some) = (shape.embed, shape.hidden, run.group * run.rows);
        let x = &mut x[..some * e];
        let normed = &mut scratch.normed[..some * e];
        self.norm(x, self.layout.norm2, &mut saved.hat2, &mut saved.rstd2, normed);
        let hidden = &mut saved.hidden[..some * f];
        self.linear(normed, &self.weights.fc1, self.bias(self.layout.fc1, f), (some, e, f), hidden);
        match run.dropout {
            Some(_) => gelu_slope(hidden, &mut saved.slope),
            None => gelu(hidden),
        }
        let out = &mut scratch.out[..some * e];
        self.linear(hidden, &self.weights.fc2, self.bias(self.layout.fc2, e), (some, f, e), out);
        run.drop(out, 1, shape.dropout);
        add(x, out);
    }

    /// `d`: gradient of the output -> of the input, both [G · rows, E].
    #[inline(always)]
    fn mlp_sublayer_backward(
        &self,
        d: &mut [f32],
        saved: &SavedActivations,
        scratch: &mut Scratch,
        run: BlockRun,
        gradient: &mut [f32],
    ) {
        let (shape, flat) = (&self.network.shape, &self.network.flat);
        let (e, f, some) = (shape.embed, shape.hidden, run.group * run.rows);
        let d = &mut d[..some * e];
        let out = &mut scratch.out[..some * e];
        out.copy_from_slice(d);
        run.drop(out, 1, shape.dropout);
        self.linear_gradient(out, &saved.hidden[..some * f], (some, f, e), self.layout.fc2, gradient);
        let d_hidden = &mut scratch.d_hidden[..some * f];
        self.linear(out, &flat[self.layout.fc2.weight..], Start::Zero, (some, e, f), d_hidden);
        multiply(d_hidden, &saved.slope[..some * f]);
        let normed = &mut scratch.normed[..some * e];
        self.shift(&saved.hat2, self.layout.norm2, normed);
        self.linear_gradient(d_hidden, normed, (some, e, f), self.layout.fc1, gradient);
        self.linear(d_hidden, &flat[self.layout.fc1.weight..], Start::Zero, (some, f, e), out);
        let hat = (&saved.hat2[..some * e], &saved.rstd2[..some]);
        self.norm_backward(out, hat, self.layout.norm2, gradient, d);
    }

    /// Queries, keys and values -> attention and mixed values, head by head
    #[inline(always)]
    fn attention(&self, saved: &mut SavedActivations, transposed: &mut [f32], run: BlockRun) {
        let shape = &self.network.shape;
        let (e, tokens, d) = (shape.embed, shape.tokens(), shape.embed / shape.heads);
        let columns = run.queries.next_multiple_of(16);
        let maps = saved.attention.chunks_exact_mut(tokens * columns);
        for (i, map) in maps.take(run.group * shape.heads).enumerate() {
            let (image, head) = (i / shape.heads, i % shape.heads);
            let queries = image * run.queries * e + head * d;
            let mixed = image * run.rows * e + head * d;
            let keys = image * tokens * 2 * e + head * d;
            let transposed = &mut transposed[..d * columns];
            transpose(&saved.queries[queries..], (run.queries, e), d, transposed, columns);
            matmul(
                self.level,
                (tokens, columns, d),
                Left::rows(&saved.keys_values[keys..], 2 * e),
                Right::rows(transposed, columns),
                Out::rows(map, columns),
                Start::Zero,
            );
            softmax_columns(map, columns, 1.0 / (d as f32).sqrt());
            matmul(
                self.level,
                (run.rows, d, tokens),
                Left::transposed(map, columns),
                Right::rows(&saved.keys_values[keys + e..], 2 * e),
                Out::rows(&mut saved.mixed[mixed..], e),
                Start::Zero,
            );
        }
    }

    /// `d_mixed` -> `d_queries` and `d_keys_values`
    #[inline(always)]
    fn attention_backward(&self, saved: &SavedActivations, scratch: &mut Scratch, run: BlockRun) {
        let shape = &self.network.shape;
        let (e, tokens, d) = (shape.embed, shape.tokens(), shape.embed / shape.heads);
        let columns = run.rows.next_multiple_of(16);
        let maps = saved.attention.chunks_exact(tokens * columns);
        for (i, map) in maps.take(run.group * shape.heads).enumerate() {
            let (image, head) = (i / shape.heads, i % shape.heads);
            let queries = image * run.rows * e + head * d;
            let keys = image * tokens * 2 * e + head * d;
            let transposed = &mut scratch.transposed[..d * columns];
            transpose(&scratch.d_mixed[queries..], (run.rows, e), d, transposed, columns);

            let d_map = &mut scratch.d_attention[..tokens * columns];
            matmul(
                self.level,
                (tokens, columns, d),
                Left::rows(&saved.keys_values[keys + e..], 2 * e),
                Right::rows(transposed, columns),
                Out::rows(d_map, columns),
                Start::Zero,
            );
            softmax_columns_backward(d_map, map, columns, 1.0 / (d as f32).sqrt());

            matmul(
                self.level,
                (tokens, d, run.rows),
                Left::rows(map, columns),
                Right::rows(&scratch.d_mixed[queries..], e),
                Out::rows(&mut scratch.d_keys_values[keys + e..], 2 * e),
                Start::Zero,
            );
            matmul(
                self.level,
                (tokens, d, run.rows),
                Left::rows(d_map, columns),
                Right::rows(&saved.queries[queries..], e),
                Out::rows(&mut scratch.d_keys_values[keys..], 2 * e),
                Start::Zero,
            );
            matmul(
                self.level,
                (run.rows, d, tokens),
                Left::transposed(d_map, columns),
                Right::rows(&saved.keys_values[keys..], 2 * e),
                Out::rows(&mut scratch.d_queries[queries..], e),
                Start::Zero,
            );
        }
    }

    fn bias(&self, layer: LayerOffsets, length: usize) -> Start<'_> {
        Start::Bias(self.network.at(layer.bias, length))
    }

    /// [m, inputs] · [inputs, outputs] -> [m, outputs]
    fn linear(
        &self,
        x: &[f32],
        weight: &[f32],
        start: Start,
        (m, inputs, outputs): (usize, usize, usize),
        out: &mut [f32],
    ) {
        matmul(
            self.level,
            (m, outputs, inputs),
            Left::rows(x, inputs),
            Right::rows(weight, outputs),
            Out::rows(out, outputs),
            start,
        );
    }

    /// Adds the gradients of a linear layer's weight [outputs, inputs] and bias. `d` is the gradient of its output, `x` its
    /// input.
    #[inline(always)]
    fn linear_gradient(
        &self,
        d: &[f32],
        x: &[f32],
        (m, inputs, outputs): (usize, usize, usize),
        layer: LayerOffsets,
        gradient: &mut [f32],
    ) {
        let left = Left::transposed(d, outputs);
        self.weight_gradient(left, x, (m, inputs, outputs), layer, gradient);
        add_column_sums(&d[..m * outputs], outputs, &mut gradient[layer.bias..layer.bias + outputs]);
    }

    fn weight_gradient(
        &self,
        d: Left<f32>,
        x: &[f32],
        (m, inputs, outputs): (usize, usize, usize),
        layer: LayerOffsets,
        gradient: &mut [f32],
    ) {
        let right = Right::rows(x, inputs);
        let out = Out::rows(&mut gradient[layer.weight..], inputs);
        matmul(self.level, (outputs, inputs, m), d, right, out, Start::Out);
    }

    #[inline(always)]
    fn norm(&self, x: &[f32], layer: LayerOffsets, hat: &mut [f32], rstd: &mut [f32], out: &mut [f32]) {
        let hat = &mut hat[..x.len()];
        standardise(x, self.network.shape.embed, hat, rstd);
        self.shift(hat, layer, out);
    }

    /// Applies a norm's weight and bias to its standardised rows.
    #[inline(always)]
    fn shift(&self, hat: &[f32], layer: LayerOffsets, out: &mut [f32]) {
        let e = self.network.shape.embed;
        scale_shift(hat, self.network.at(layer.weight, e), self.network.at(layer.bias, e), out);
    }

    #[inline(always)]
    fn norm_backward(
        &self,
        d: &mut [f32],
        hat: (&[f32], &[f32]),
        layer: LayerOffsets,
        gradient: &mut [f32],
        into: &mut [f32],
    ) {
        let e = self.network.shape.embed;
        let ranges = [layer.weight..layer.weight + e, layer.bias..layer.bias + e];
        let [d_weight, d_bias] = gradient.get_disjoint_mut(ranges).expect("parameters don't overlap");
        layer_norm_backward(d, hat, self.network.at(layer.weight, e), (d_weight, d_bias), into);
    }
}
