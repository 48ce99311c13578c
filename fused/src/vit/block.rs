//! One encoder block, forward and backward, for a group of images whose activations stay in the caches.
//!
//! The same mathematics as [`crate::model::Encoder`]. G images of S tokens are one matrix of G · S rows, image after
//! image; the last block computes only the rows that the classifier reads, `rows` of each image.

use super::aligned::Aligned;
use super::matmul::{Left, Out, Right, Start, matmul};
use super::network::{BlockPlaces, BlockWeights, Network, Place, Sizes};
use super::random::Random;
use super::rows::{
    add, add_column_sums, gelu, gelu_slope, layer_norm_backward, multiply, scale_shift, softmax_columns,
    softmax_columns_backward, standardise, transpose,
};
use super::vector::Instructions;

/// What the backward pass of a block needs again; sized for all tokens to be queries and rows.
pub(super) struct Kept {
    /// [G · S, E] and [G · S]: norm1 before its weight and bias
    hat1: Aligned,
    rstd1: Aligned,
    /// [G · rows, E]
    queries: Aligned,
    /// [G · S, 2E]
    keys_values: Aligned,
    /// [G, H, S, padded rows]: the attention, a column for each query
    attention: Aligned,
    /// [G · rows, E]: the values mixed by the attention
    mixed: Aligned,
    hat2: Aligned,
    rstd2: Aligned,
    /// [G · rows, F]: after GELU, and its slope
    hidden: Aligned,
    slope: Aligned,
}

impl Kept {
    pub fn new(sizes: &Sizes, group: usize) -> Self {
        let (e, all) = (sizes.embed, group * sizes.tokens);
        let columns = sizes.tokens.next_multiple_of(16);
        Kept {
            hat1: Aligned::zeros(all * e),
            rstd1: Aligned::zeros(all),
            queries: Aligned::zeros(all * e),
            keys_values: Aligned::zeros(all * 2 * e),
            attention: Aligned::zeros(group * sizes.heads * sizes.tokens * columns),
            mixed: Aligned::zeros(all * e),
            hat2: Aligned::zeros(all * e),
            rstd2: Aligned::zeros(all),
            hidden: Aligned::zeros(all * sizes.hidden),
            slope: Aligned::zeros(all * sizes.hidden),
        }
    }

    /// [G, H, S, padded S] when every token was a query
    pub fn attention(&self) -> &[f32] {
        &self.attention
    }
}

/// Memory for what is needed only within a block.
pub(super) struct Scratch {
    /// [G · S, E]
    normed: Aligned,
    some_normed: Aligned,
    out: Aligned,
    /// [G · S, F]
    d_hidden: Aligned,
    d_mixed: Aligned,
    d_queries: Aligned,
    /// [G · S, 2E]
    d_keys_values: Aligned,
    /// [E/H, padded S]
    turned: Aligned,
    /// [S, padded S]
    d_attention: Aligned,
}

impl Scratch {
    pub fn new(sizes: &Sizes, group: usize) -> Self {
        let (e, all) = (sizes.embed, group * sizes.tokens);
        let columns = sizes.tokens.next_multiple_of(16);
        Scratch {
            normed: Aligned::zeros(all * e),
            some_normed: Aligned::zeros(all * e),
            out: Aligned::zeros(all * e),
            d_hidden: Aligned::zeros(all * sizes.hidden),
            d_mixed: Aligned::zeros(all * e),
            d_queries: Aligned::zeros(all * e),
            d_keys_values: Aligned::zeros(all * 2 * e),
            turned: Aligned::zeros(e / sizes.heads * columns),
            d_attention: Aligned::zeros(sizes.tokens * columns),
        }
    }
}

/// Where in a step a block runs.
#[derive(Clone, Copy)]
pub(super) struct Site {
    /// Images in the group.
    pub group: usize,
    /// Tokens of each image, the first ones, whose attention is computed.
    pub queries: usize,
    /// Those of them that go on to the block's output; fewer only at inference.
    pub rows: usize,
    /// Seed of this group's dropout, absent at inference.
    pub dropout: Option<u64>,
    /// Counts the places of dropout within the network.
    pub place: u64,
}

impl Site {
    #[inline(always)]
    fn drop(&self, x: &mut [f32], offset: u64, rate: f64) {
        if let Some(seed) = self.dropout {
            Random::new(seed, self.place + offset).dropout(x, rate);
        }
    }

    /// The first tokens of each image, those with a query, of `width` elements each.
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
}

/// A network's block and the level of the processor it runs on.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub instructions: Instructions,
    pub network: &'a Network,
    pub weights: &'a BlockWeights,
    pub places: &'a BlockPlaces,
}

impl Block<'_> {
    /// `x`: [G · S, E] -> [G · rows, E]
    #[inline(always)]
    pub fn forward(&self, x: &mut [f32], kept: &mut Kept, scratch: &mut Scratch, site: Site) {
        let sizes = &self.network.sizes;
        let (e, f) = (sizes.embed, sizes.hidden);
        let (all, some) = (site.group * sizes.tokens, site.group * site.rows);
        let normed = &mut scratch.normed[..all * e];
        self.norm(&x[..all * e], self.places.norm1, &mut kept.hat1, &mut kept.rstd1, normed);
        let bias = Start::Bias(&self.weights.keys_values_bias);
        self.linear(normed, &self.weights.keys_values, bias, (all, e, 2 * e), &mut kept.keys_values);
        let asking = if site.queries < sizes.tokens {
            site.gather(normed, &mut scratch.some_normed, e, sizes.tokens);
            &scratch.some_normed
        } else {
            &*normed
        };
        let bias = self.bias(self.places.queries, e);
        self.linear(asking, &self.weights.queries, bias, (site.group * site.queries, e, e), &mut kept.queries);

        self.attention(kept, &mut scratch.turned, site);
        let out = &mut scratch.out[..some * e];
        let bias = self.bias(self.places.out, e);
        self.linear(&kept.mixed, &self.weights.out, bias, (some, e, e), out);
        site.drop(out, 0, sizes.dropout);
        site.keep_rows(x, e, sizes.tokens);
        let x = &mut x[..some * e];
        add(x, out);

        let normed = &mut scratch.normed[..some * e];
        self.norm(x, self.places.norm2, &mut kept.hat2, &mut kept.rstd2, normed);
        let hidden = &mut kept.hidden[..some * f];
        self.linear(normed, &self.weights.fc1, self.bias(self.places.fc1, f), (some, e, f), hidden);
        match site.dropout {
            Some(_) => gelu_slope(hidden, &mut kept.slope),
            None => gelu(hidden),
        }
        self.linear(hidden, &self.weights.fc2, self.bias(self.places.fc2, e), (some, f, e), out);
        site.drop(out, 1, sizes.dropout);
        add(x, out);
    }

    /// `d`: gradient of the block's output [G · rows, E] -> of its input [G · S, E]; adds to the parameters' `gradient`.
    #[inline(always)]
    pub fn backward(&self, d: &mut [f32], kept: &Kept, scratch: &mut Scratch, site: Site, gradient: &mut [f32]) {
        let sizes = &self.network.sizes;
        let (e, f) = (sizes.embed, sizes.hidden);
        let (all, some) = (site.group * sizes.tokens, site.group * site.rows);
        let flat = &self.network.flat;

        // The MLP and its skip connection
        let out = &mut scratch.out[..some * e];
        out.copy_from_slice(&d[..some * e]);
        site.drop(out, 1, sizes.dropout);
        let hidden = &kept.hidden[..some * f];
        self.linear_gradient(out, hidden, (some, f, e), self.places.fc2, gradient);
        let d_hidden = &mut scratch.d_hidden[..some * f];
        self.linear(out, &flat[self.places.fc2.weight..], Start::Zero, (some, e, f), d_hidden);
        multiply(d_hidden, &kept.slope[..some * f]);
        let normed = &mut scratch.normed[..some * e];
        self.shift(&kept.hat2, self.places.norm2, normed);
        self.linear_gradient(d_hidden, normed, (some, e, f), self.places.fc1, gradient);
        self.linear(d_hidden, &flat[self.places.fc1.weight..], Start::Zero, (some, f, e), out);
        let hat = (&kept.hat2[..some * e], &kept.rstd2[..some]);
        self.norm_backward(out, hat, self.places.norm2, gradient, &mut d[..some * e]);

        // The attention and its skip connection
        out.copy_from_slice(&d[..some * e]);
        site.drop(out, 0, sizes.dropout);
        self.linear_gradient(out, &kept.mixed, (some, e, e), self.places.out, gradient);
        let d_mixed = &mut scratch.d_mixed[..some * e];
        self.linear(out, &flat[self.places.out.weight..], Start::Zero, (some, e, e), d_mixed);
        self.attention_backward(kept, scratch, site);

        let normed = &mut scratch.normed[..all * e];
        self.shift(&kept.hat1, self.places.norm1, normed);
        site.gather(normed, &mut scratch.some_normed, e, sizes.tokens);
        let d_queries = &scratch.d_queries[..some * e];
        self.linear_gradient(d_queries, &scratch.some_normed, (some, e, e), self.places.queries, gradient);
        let d_keys_values = &scratch.d_keys_values[..all * 2 * e];
        for (i, place) in [self.places.keys, self.places.values].into_iter().enumerate() {
            let left = Left::transposed(&d_keys_values[i * e..], 2 * e);
            self.weight_gradient(left, normed, (all, e, e), place, gradient);
            let sums = &mut gradient[place.bias..place.bias + e];
            add_column_sums(&d_keys_values[i * e..], 2 * e, sums);
        }

        // Of norm1's output: from keys and values for all tokens, from the queries for some
        let d_normed = &mut scratch.out[..all * e];
        self.linear(d_keys_values, &self.weights.keys_values_back, Start::Zero, (all, 2 * e, e), d_normed);
        let back = &mut scratch.some_normed[..some * e];
        self.linear(d_queries, &flat[self.places.queries.weight..], Start::Zero, (some, e, e), back);
        for image in 0..site.group {
            let from = &back[image * site.rows * e..(image + 1) * site.rows * e];
            add(&mut d_normed[image * sizes.tokens * e..], from);
        }
        if site.rows < sizes.tokens {
            for image in (0..site.group).rev() {
                let (from, to) = (image * site.rows * e, image * sizes.tokens * e);
                d.copy_within(from..from + site.rows * e, to);
                d[to + site.rows * e..to + sizes.tokens * e].fill(0.0);
            }
        }
        let hat = (&kept.hat1[..all * e], &kept.rstd1[..all]);
        self.norm_backward(d_normed, hat, self.places.norm1, gradient, &mut d[..all * e]);
    }

    /// Queries, keys and values -> attention and mixed values, head by head.
    #[inline(always)]
    fn attention(&self, kept: &mut Kept, turned: &mut [f32], site: Site) {
        let sizes = &self.network.sizes;
        let (e, tokens, d) = (sizes.embed, sizes.tokens, sizes.embed / sizes.heads);
        let columns = site.queries.next_multiple_of(16);
        let maps = kept.attention.chunks_exact_mut(tokens * columns);
        for (i, map) in maps.take(site.group * sizes.heads).enumerate() {
            let (image, head) = (i / sizes.heads, i % sizes.heads);
            let queries = image * site.queries * e + head * d;
            let mixed = image * site.rows * e + head * d;
            let keys = image * tokens * 2 * e + head * d;
            let turned = &mut turned[..d * columns];
            transpose(&kept.queries[queries..], (site.queries, e), d, turned, columns);
            matmul(
                self.instructions,
                (tokens, columns, d),
                Left::rows(&kept.keys_values[keys..], 2 * e),
                Right::rows(turned, columns),
                Out::rows(map, columns),
                Start::Zero,
            );
            softmax_columns(map, columns, 1.0 / (d as f32).sqrt());
            matmul(
                self.instructions,
                (site.rows, d, tokens),
                Left::transposed(map, columns),
                Right::rows(&kept.keys_values[keys + e..], 2 * e),
                Out::rows(&mut kept.mixed[mixed..], e),
                Start::Zero,
            );
        }
    }

    /// `d_mixed` -> `d_queries` and `d_keys_values`
    #[inline(always)]
    fn attention_backward(&self, kept: &Kept, scratch: &mut Scratch, site: Site) {
        let sizes = &self.network.sizes;
        let (e, tokens, d) = (sizes.embed, sizes.tokens, sizes.embed / sizes.heads);
        let columns = site.rows.next_multiple_of(16);
        let maps = kept.attention.chunks_exact(tokens * columns);
        for (i, map) in maps.take(site.group * sizes.heads).enumerate() {
            let (image, head) = (i / sizes.heads, i % sizes.heads);
            let queries = image * site.rows * e + head * d;
            let keys = image * tokens * 2 * e + head * d;
            let turned = &mut scratch.turned[..d * columns];
            transpose(&scratch.d_mixed[queries..], (site.rows, e), d, turned, columns);

            let d_map = &mut scratch.d_attention[..tokens * columns];
            matmul(
                self.instructions,
                (tokens, columns, d),
                Left::rows(&kept.keys_values[keys + e..], 2 * e),
                Right::rows(turned, columns),
                Out::rows(d_map, columns),
                Start::Zero,
            );
            softmax_columns_backward(d_map, map, columns, 1.0 / (d as f32).sqrt());

            matmul(
                self.instructions,
                (tokens, d, site.rows),
                Left::rows(map, columns),
                Right::rows(&scratch.d_mixed[queries..], e),
                Out::rows(&mut scratch.d_keys_values[keys + e..], 2 * e),
                Start::Zero,
            );
            matmul(
                self.instructions,
                (tokens, d, site.rows),
                Left::rows(d_map, columns),
                Right::rows(&kept.queries[queries..], e),
                Out::rows(&mut scratch.d_keys_values[keys..], 2 * e),
                Start::Zero,
            );
            matmul(
                self.instructions,
                (site.rows, d, tokens),
                Left::transposed(d_map, columns),
                Right::rows(&kept.keys_values[keys..], 2 * e),
                Out::rows(&mut scratch.d_queries[queries..], e),
                Start::Zero,
            );
        }
    }

    fn bias(&self, place: Place, length: usize) -> Start<'_> {
        Start::Bias(self.network.at(place.bias, length))
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
            self.instructions,
            (m, outputs, inputs),
            Left::rows(x, inputs),
            Right::rows(weight, outputs),
            Out::rows(out, outputs),
            start,
        );
    }

    /// Of a linear layer's weight [outputs, inputs] and bias, from its output's gradient and its input.
    #[inline(always)]
    fn linear_gradient(
        &self,
        d: &[f32],
        x: &[f32],
        (m, inputs, outputs): (usize, usize, usize),
        place: Place,
        gradient: &mut [f32],
    ) {
        let left = Left::transposed(d, outputs);
        self.weight_gradient(left, x, (m, inputs, outputs), place, gradient);
        add_column_sums(&d[..m * outputs], outputs, &mut gradient[place.bias..place.bias + outputs]);
    }

    fn weight_gradient(
        &self,
        d: Left<f32>,
        x: &[f32],
        (m, inputs, outputs): (usize, usize, usize),
        place: Place,
        gradient: &mut [f32],
    ) {
        let right = Right::rows(x, inputs);
        let out = Out::rows(&mut gradient[place.weight..], inputs);
        matmul(self.instructions, (outputs, inputs, m), d, right, out, Start::Out);
    }

    #[inline(always)]
    fn norm(&self, x: &[f32], place: Place, hat: &mut [f32], rstd: &mut [f32], out: &mut [f32]) {
        let hat = &mut hat[..x.len()];
        standardise(x, self.network.sizes.embed, hat, rstd);
        self.shift(hat, place, out);
    }

    /// A norm's weight and bias on its standardised rows.
    #[inline(always)]
    fn shift(&self, hat: &[f32], place: Place, out: &mut [f32]) {
        let e = self.network.sizes.embed;
        scale_shift(hat, self.network.at(place.weight, e), self.network.at(place.bias, e), out);
    }

    #[inline(always)]
    fn norm_backward(
        &self,
        d: &mut [f32],
        hat: (&[f32], &[f32]),
        place: Place,
        gradient: &mut [f32],
        into: &mut [f32],
    ) {
        let e = self.network.sizes.embed;
        let of = [place.weight..place.weight + e, place.bias..place.bias + e];
        let [d_weight, d_bias] = gradient.get_disjoint_mut(of).expect("parameters don't overlap");
        layer_norm_backward(d, hat, self.network.at(place.weight, e), (d_weight, d_bias), into);
    }
}
