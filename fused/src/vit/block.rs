//! One encoder block, forward and backward, for a group of images whose activations stay in the caches.
//!
//! The tokens of G images are one matrix of G · S rows, image after image. The last block computes only the rows that the
//! heads read: the first `rows` tokens of each image. A prefix `d_` marks the gradient of a variable, `hat` the
//! standardised rows of a norm.

use super::parameters::{BlockWeights, VitParameters};
use super::shape::BlockLayout;
use crate::aligned::Aligned;
use crate::cpu::CpuLevel;
use crate::layers::{
    add, add_column_sums, gelu, gelu_slope, layer_norm_backward, multiply, scale_shift, softmax_columns,
    softmax_columns_backward, standardise, transpose,
};
use crate::layout::LayerOffsets;
use crate::matmul::{Left, Start, matmul, rows, transposed};
use crate::random::Random;

/// Activations that the backward pass of a block reads.
#[derive(Default)]
pub(super) struct Activations {
    /// Norm 1: [G · S, E] and [G · S].
    hat1: Aligned,
    rstd1: Aligned,
    /// [G · queries, E]
    queries: Aligned,
    /// [G · S, 2E]
    keys_values: Aligned,
    /// [G, H, S, padded queries]: the attention, one column per query.
    pub attention: Aligned,
    /// [G · rows, E]: sums of the values weighted by the attention.
    mixed: Aligned,
    /// Norm 2: [G · rows, E] and [G · rows].
    hat2: Aligned,
    rstd2: Aligned,
    /// [G · rows, F]: GELU, and its derivative.
    hidden: Aligned,
    slope: Aligned,
}

/// Memory that a block needs only while it runs.
#[derive(Default)]
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
    fn apply_dropout(&self, x: &mut [f32], layer: u64, rate: f64) {
        if let Some(seed) = self.dropout {
            Random::new(seed, self.dropout_layer + layer).dropout(x, rate);
        }
    }

    /// Copies the first `queries` tokens of each image: [G · S, width] -> [G · queries, width].
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

/// One run of a network's block at a CPU level.
pub(super) struct Block<'a> {
    pub level: CpuLevel,
    pub network: &'a VitParameters,
    pub weights: &'a BlockWeights,
    pub layout: &'a BlockLayout,
    pub run: BlockRun,
}

impl Block<'_> {
    /// Adds the attention and the MLP to `x`: [G · S, E] -> [G · rows, E].
    #[inline(always)]
    pub fn forward(&self, x: &mut [f32], saved: &mut Activations, scratch: &mut Scratch) {
        self.attention(x, saved, scratch);
        self.mlp(x, saved, scratch);
    }

    /// `d`: gradient of the block's output [G · rows, E] -> of its input [G · S, E]. Adds the gradients of the parameters
    /// to `gradient`.
    #[inline(always)]
    pub fn backward(&self, d: &mut [f32], saved: &Activations, scratch: &mut Scratch, gradient: &mut [f32]) {
        self.mlp_backward(d, saved, scratch, gradient);
        self.attention_backward(d, saved, scratch, gradient);
    }

    /// Norm 1, attention and output projection, added to `x`: [G · S, E] -> [G · rows, E].
    #[inline(always)]
    fn attention(&self, x: &mut [f32], saved: &mut Activations, scratch: &mut Scratch) {
        let (run, layout, weights) = (self.run, self.layout, self.weights);
        let (e, tokens) = (self.network.shape.embed, self.network.shape.tokens());
        let (all, some, asking) = (run.group * tokens, run.group * run.rows, run.group * run.queries);
        let normed = scratch.normed.room(all * e);
        self.norm(&x[..all * e], layout.norm1, &mut saved.hat1, &mut saved.rstd1, normed);
        let keys_values = saved.keys_values.room(all * 2 * e);
        let bias = Start::Bias(&weights.keys_values_bias);
        self.linear(normed, &weights.keys_values, bias, (all, e, 2 * e), keys_values);
        let with_query = if run.queries < tokens {
            let some_normed = scratch.some_normed.room(asking * e);
            run.gather(normed, some_normed, e, tokens);
            some_normed
        } else {
            normed
        };
        let queries = saved.queries.room(asking * e);
        self.linear(with_query, &weights.queries, self.bias(layout.queries, e), (asking, e, e), queries);
        self.attention_heads(saved, scratch);
        let out = scratch.out.room(some * e);
        self.linear(&saved.mixed, &weights.out, self.bias(layout.out, e), (some, e, e), out);
        run.apply_dropout(out, 0, self.network.shape.dropout);
        run.keep_rows(x, e, tokens);
        add(&mut x[..some * e], out);
    }

    /// `d`: gradient of the output [G · rows, E] -> of the input [G · S, E].
    #[inline(always)]
    fn attention_backward(&self, d: &mut [f32], saved: &Activations, scratch: &mut Scratch, gradient: &mut [f32]) {
        let (run, layout, flat) = (self.run, self.layout, &self.network.flat);
        let (e, tokens) = (self.network.shape.embed, self.network.shape.tokens());
        let (all, some) = (run.group * tokens, run.group * run.rows);
        let out = scratch.out.room(some * e);
        out.copy_from_slice(&d[..some * e]);
        run.apply_dropout(out, 0, self.network.shape.dropout);
        self.linear_gradient(out, &saved.mixed, (some, e, e), layout.out, gradient);
        self.linear(out, &flat[layout.out.weight..], Start::Zero, (some, e, e), scratch.d_mixed.room(some * e));
        self.attention_heads_backward(saved, scratch);

        let normed = scratch.normed.room(all * e);
        self.shift(&saved.hat1, layout.norm1, normed);
        let some_normed = scratch.some_normed.room(some * e);
        run.gather(normed, some_normed, e, tokens);
        let d_queries = &scratch.d_queries[..some * e];
        self.linear_gradient(d_queries, some_normed, (some, e, e), layout.queries, gradient);
        let d_keys_values = &scratch.d_keys_values[..all * 2 * e];
        for (i, layer) in [layout.keys, layout.values].into_iter().enumerate() {
            let d = &d_keys_values[i * e..];
            self.weight_gradient(transposed(d, 2 * e), normed, (all, e, e), layer, gradient);
            add_column_sums(d, 2 * e, &mut gradient[layer.bias..layer.bias + e]);
        }

        // Keys and values give a gradient for all tokens, queries for the first tokens of each image.
        let d_normed = scratch.out.room(all * e);
        self.linear(d_keys_values, &self.weights.keys_values_back, Start::Zero, (all, 2 * e, e), d_normed);
        self.linear(d_queries, &flat[layout.queries.weight..], Start::Zero, (some, e, e), some_normed);
        for (d_normed, back) in d_normed.chunks_exact_mut(tokens * e).zip(some_normed.chunks_exact(run.rows * e)) {
            add(d_normed, back);
        }
        run.spread_rows(d, e, tokens);
        let hat = (&saved.hat1[..all * e], &saved.rstd1[..all]);
        self.norm_backward(d_normed, hat, layout.norm1, gradient, &mut d[..all * e]);
    }

    /// Norm 2 and MLP, added to `x` [G · rows, E].
    #[inline(always)]
    fn mlp(&self, x: &mut [f32], saved: &mut Activations, scratch: &mut Scratch) {
        let (shape, layout, weights) = (&self.network.shape, self.layout, self.weights);
        let (e, f, some) = (shape.embed, shape.hidden, self.run.group * self.run.rows);
        let x = &mut x[..some * e];
        let normed = scratch.normed.room(some * e);
        self.norm(x, layout.norm2, &mut saved.hat2, &mut saved.rstd2, normed);
        let hidden = saved.hidden.room(some * f);
        self.linear(normed, &weights.fc1, self.bias(layout.fc1, f), (some, e, f), hidden);
        match self.run.dropout {
            Some(_) => gelu_slope(hidden, saved.slope.room(some * f)),
            None => gelu(hidden),
        }
        let out = scratch.out.room(some * e);
        self.linear(hidden, &weights.fc2, self.bias(layout.fc2, e), (some, f, e), out);
        self.run.apply_dropout(out, 1, shape.dropout);
        add(x, out);
    }

    /// `d`: gradient of the output -> of the input, both [G · rows, E].
    #[inline(always)]
    fn mlp_backward(&self, d: &mut [f32], saved: &Activations, scratch: &mut Scratch, gradient: &mut [f32]) {
        let (shape, layout, flat) = (&self.network.shape, self.layout, &self.network.flat);
        let (e, f, some) = (shape.embed, shape.hidden, self.run.group * self.run.rows);
        let (d, out) = (&mut d[..some * e], scratch.out.room(some * e));
        out.copy_from_slice(d);
        self.run.apply_dropout(out, 1, shape.dropout);
        self.linear_gradient(out, &saved.hidden[..some * f], (some, f, e), layout.fc2, gradient);
        let d_hidden = scratch.d_hidden.room(some * f);
        self.linear(out, &flat[layout.fc2.weight..], Start::Zero, (some, e, f), d_hidden);
        multiply(d_hidden, &saved.slope[..some * f]);
        let normed = scratch.normed.room(some * e);
        self.shift(&saved.hat2, layout.norm2, normed);
        self.linear_gradient(d_hidden, normed, (some, e, f), layout.fc1, gradient);
        self.linear(d_hidden, &flat[layout.fc1.weight..], Start::Zero, (some, f, e), out);
        let hat = (&saved.hat2[..some * e], &saved.rstd2[..some]);
        self.norm_backward(out, hat, layout.norm2, gradient, d);
    }

    /// Queries, keys and values -> attention and mixed values, head by head
    #[inline(always)]
    fn attention_heads(&self, saved: &mut Activations, scratch: &mut Scratch) {
        let (shape, run, level) = (&self.network.shape, self.run, self.level);
        let (e, tokens, d) = (shape.embed, shape.tokens(), shape.embed / shape.heads);
        let columns = run.queries.next_multiple_of(16);
        let by_head = scratch.transposed.room(d * columns);
        let all_mixed = saved.mixed.room(run.group * run.rows * e);
        let maps = saved.attention.room(run.group * shape.heads * tokens * columns);
        for (i, map) in maps.chunks_exact_mut(tokens * columns).enumerate() {
            let (image, head) = (i / shape.heads, i % shape.heads);
            let keys = &saved.keys_values[image * tokens * 2 * e + head * d..];
            let mixed = &mut all_mixed[image * run.rows * e + head * d..];
            transpose(&saved.queries[image * run.queries * e + head * d..], (run.queries, e), d, by_head, columns);
            let size = (tokens, columns, d);
            matmul(level, size, rows(keys, 2 * e), (by_head, columns), (map, columns), Start::Zero);
            softmax_columns(map, columns, 1.0 / (d as f32).sqrt());
            let size = (run.rows, d, tokens);
            matmul(level, size, transposed(map, columns), (&keys[e..], 2 * e), (mixed, e), Start::Zero);
        }
    }

    /// `d_mixed` -> `d_queries` and `d_keys_values`
    #[inline(always)]
    fn attention_heads_backward(&self, saved: &Activations, scratch: &mut Scratch) {
        let (shape, run, level) = (&self.network.shape, self.run, self.level);
        let (e, tokens, d) = (shape.embed, shape.tokens(), shape.embed / shape.heads);
        let columns = run.rows.next_multiple_of(16);
        let by_head = scratch.transposed.room(d * columns);
        let d_map = scratch.d_attention.room(tokens * columns);
        let d_all_queries = scratch.d_queries.room(run.group * run.rows * e);
        let d_all_keys = scratch.d_keys_values.room(run.group * tokens * 2 * e);
        let maps = saved.attention.chunks_exact(tokens * columns);
        for (i, map) in maps.take(run.group * shape.heads).enumerate() {
            let (image, head) = (i / shape.heads, i % shape.heads);
            let query = image * run.rows * e + head * d;
            let key = image * tokens * 2 * e + head * d;
            let (queries, d_mixed) = (&saved.queries[query..], &scratch.d_mixed[query..]);
            let (keys, d_keys) = (&saved.keys_values[key..], &mut d_all_keys[key..]);
            transpose(d_mixed, (run.rows, e), d, by_head, columns);
            let size = (tokens, columns, d);
            matmul(level, size, rows(&keys[e..], 2 * e), (by_head, columns), (d_map, columns), Start::Zero);
            softmax_columns_backward(d_map, map, columns, 1.0 / (d as f32).sqrt());
            let size = (tokens, d, run.rows);
            matmul(level, size, rows(map, columns), (d_mixed, e), (&mut d_keys[e..], 2 * e), Start::Zero);
            matmul(level, size, rows(d_map, columns), (queries, e), (d_keys, 2 * e), Start::Zero);
            let (size, d_queries) = ((run.rows, d, tokens), &mut d_all_queries[query..]);
            matmul(level, size, transposed(d_map, columns), (keys, 2 * e), (d_queries, e), Start::Zero);
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
        matmul(self.level, (m, outputs, inputs), rows(x, inputs), (weight, outputs), (out, outputs), start);
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
        self.weight_gradient(transposed(d, outputs), x, (m, inputs, outputs), layer, gradient);
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
        let out = &mut gradient[layer.weight..];
        matmul(self.level, (outputs, inputs, m), d, (x, inputs), (out, inputs), Start::Present);
    }

    #[inline(always)]
    fn norm(&self, x: &[f32], layer: LayerOffsets, hat: &mut Aligned, rstd: &mut Aligned, out: &mut [f32]) {
        let (e, hat) = (self.network.shape.embed, hat.room(x.len()));
        standardise(x, e, hat, rstd.room(x.len() / e));
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
