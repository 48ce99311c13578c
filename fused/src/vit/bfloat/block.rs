//! An encoder block at inference whose products are in bfloat16. Residuals, norms, softmax and sums are float32.

use super::norm::layer_norm;
use super::pairs::{Pair, pairs_of_rows, transpose};
use super::product::{Activated, Powers, Rounded, Summed};
use super::softmax::{Add, Alone, Max, Min, Set, inverse_sums, powers_below_largest, scale_columns};
use crate::explain::Fusion;
use crate::fused::aligned::Aligned;
use crate::fused::block::Site;
use crate::fused::matmul::{Kernel, Left, Out, Right, Start, multiply};
use crate::fused::network::{BlockPlaces, BlockWeights, Network, Place, Sizes};
use crate::fused::rows::add;
use crate::fused::vector::Instructions;

/// The matrices of a block as right operands: [inputs / 2, outputs].
#[derive(Default)]
pub(in crate::fused) struct Weights {
    /// So scaled that the powers of 2 of their products with the keys are the softmax but for its sum.
    queries: Aligned<Pair>,
    queries_bias: Aligned,
    keys: Aligned<Pair>,
    values: Aligned<Pair>,
    out: Aligned<Pair>,
    fc1: Aligned<Pair>,
    fc2: Aligned<Pair>,
}

impl Weights {
    pub fn load(&mut self, weights: &BlockWeights, queries_bias: &[f32], heads: usize) {
        let e = queries_bias.len();
        let scale = std::f32::consts::LOG2_E / ((e / heads) as f32).sqrt();
        let scaled = |x: &[f32]| x.iter().map(|x| x * scale).collect::<Vec<_>>();
        self.queries_bias = Aligned::zeros(e);
        self.queries_bias.copy_from_slice(&scaled(queries_bias));
        let pair = |from: &[f32], (inputs, row): (usize, usize), outputs, to: &mut Aligned<Pair>| {
            if to.is_empty() {
                *to = Aligned::zeros(inputs / 2 * outputs);
            }
            pairs_of_rows(from, (inputs, row), outputs, to);
        };
        let f = weights.fc1.len() / e;
        pair(&scaled(&weights.queries), (e, e), e, &mut self.queries);
        pair(&weights.keys_values, (e, 2 * e), e, &mut self.keys);
        pair(&weights.keys_values[e..], (e, 2 * e), e, &mut self.values);
        pair(&weights.out, (e, e), e, &mut self.out);
        pair(&weights.fc1, (e, f), f, &mut self.fc1);
        pair(&weights.fc2, (f, e), e, &mut self.fc2);
    }
}

/// Memory of one thread.
pub(in crate::fused) struct Scratch {
    /// [G · S, E / 2]: the input of the attention or the MLP, and that of the tokens with a query
    normed: Aligned<Pair>,
    some_normed: Aligned<Pair>,
    /// [G · queries, E / 2] and [G · S, E / 2]
    queries: Aligned<Pair>,
    keys: Aligned<Pair>,
    /// [G · S, E], and of an image [S / 2, E]
    values: Aligned,
    value_pairs: Aligned<Pair>,
    /// Of an image: [E / 2, padded queries]
    turned: Aligned<Pair>,
    /// Of an image and head: [S, padded queries] and [S / 2, padded queries]
    powers: Aligned,
    map: Aligned<Pair>,
    /// [padded queries]
    inverse: Aligned,
    /// [G · rows, E / 2]: the values mixed by the attention
    mixed: Aligned<Pair>,
    /// [G · rows, F / 2]
    hidden: Aligned<Pair>,
    /// [G · rows, E]
    out: Aligned,
}

impl Scratch {
    pub fn new(sizes: &Sizes, group: usize) -> Self {
        let (e, tokens, all) = (sizes.embed, sizes.tokens, group * sizes.tokens);
        let columns = tokens.next_multiple_of(16);
        Scratch {
            normed: Aligned::zeros(all * e / 2),
            some_normed: Aligned::zeros(all * e / 2),
            queries: Aligned::zeros(all * e / 2),
            keys: Aligned::zeros(all * e / 2),
            values: Aligned::zeros(all * e),
            value_pairs: Aligned::zeros(tokens.div_ceil(2) * e),
            turned: Aligned::zeros(e / 2 * columns),
            powers: Aligned::zeros(tokens * columns),
            inverse: Aligned::zeros(columns),
            map: Aligned::zeros(tokens.div_ceil(2) * columns),
            mixed: Aligned::zeros(all * e / 2),
            hidden: Aligned::zeros(all * sizes.hidden / 2),
            out: Aligned::zeros(all * e),
        }
    }
}

/// A network's block.
#[derive(Clone, Copy)]
pub(in crate::fused) struct Block<'a> {
    pub network: &'a Network,
    pub weights: &'a Weights,
    pub places: &'a BlockPlaces,
    pub index: usize,
}

impl Block<'_> {
    /// `x`: [G · S, E] -> [G · rows, E], where the last thing to be added is left in `scratch` for the next block.
    ///
    /// With `fused`, which goes with every token as a query, the heads' attention is fused into [G, S, padded S].
    pub fn forward(&self, x: &mut [f32], fused: Option<(Fusion, &mut [f32])>, scratch: &mut Scratch, site: Site) {
        let sizes = &self.network.sizes;
        let (e, f, tokens) = (sizes.embed, sizes.hidden, sizes.tokens);
        let (all, some) = (site.group * tokens, site.group * site.rows);
        let normed = &mut scratch.normed;
        let before = (self.index > 0).then_some(&*scratch.out);
        layer_norm(&mut x[..all * e], before, self.norm(self.places.norm1), normed);
        let of = (all, e, e);
        product::<Rounded>(normed, &self.weights.keys, self.bias(self.places.keys), of, &mut scratch.keys);
        product::<Summed>(normed, &self.weights.values, self.bias(self.places.values), of, &mut scratch.values);
        let asking = if site.queries < tokens {
            site.gather(normed, &mut scratch.some_normed, e / 2, tokens);
            &scratch.some_normed
        } else {
            &*normed
        };
        let of = (site.group * site.queries, e, e);
        product::<Rounded>(
            asking,
            &self.weights.queries,
            Start::Bias(&self.weights.queries_bias),
            of,
            &mut scratch.queries,
        );

        self.attention(fused, scratch, site);
        let bias = self.bias(self.places.out);
        product::<Summed>(&scratch.mixed, &self.weights.out, bias, (some, e, e), &mut scratch.out);
        site.keep_rows(x, e, tokens);
        let x = &mut x[..some * e];

        let norm2 = self.norm(self.places.norm2);
        layer_norm(x, Some(&scratch.out), norm2, &mut scratch.normed);
        let bias = Start::Bias(self.network.at(self.places.fc1.bias, f));
        product::<Activated>(&scratch.normed, &self.weights.fc1, bias, (some, e, f), &mut scratch.hidden);
        let bias = self.bias(self.places.fc2);
        product::<Summed>(&scratch.hidden, &self.weights.fc2, bias, (some, f, e), &mut scratch.out);
        if self.index + 1 == self.network.blocks.len() {
            add(x, &scratch.out);
        }
    }

    /// Queries, keys and values -> mixed values, head by head.
    fn attention(&self, mut fused: Option<(Fusion, &mut [f32])>, scratch: &mut Scratch, site: Site) {
        let sizes = &self.network.sizes;
        let (e, tokens, d) = (sizes.embed, sizes.tokens, sizes.embed / sizes.heads);
        let columns = site.queries.next_multiple_of(16);
        let powers = &mut scratch.powers[..tokens * columns];
        for image in 0..site.group {
            let values = &scratch.values[image * tokens * e..];
            pairs_of_rows(values, (tokens, e), e, &mut scratch.value_pairs);
            let queries = &scratch.queries[image * site.queries * e / 2..];
            let of = (site.queries, e / 2);
            transpose(queries, of, columns, &mut scratch.turned);
            for head in 0..sizes.heads {
                let keys = &scratch.keys[(image * tokens * e + head * d) / 2..];
                let turned = &scratch.turned[head * d / 2 * columns..];
                let of = (tokens, columns, d / 2, e / 2);
                scores::<Powers>(keys, turned, of, powers);
                let inverse = &mut scratch.inverse;
                if !inverse_sums(powers, columns, inverse) {
                    scores::<Summed>(keys, turned, of, powers);
                    powers_below_largest(powers, columns);
                    inverse_sums(powers, columns, inverse);
                }
                let map = &mut scratch.map;
                match &mut fused {
                    None => scale_columns::<Alone>(powers, columns, inverse, map, &mut []),
                    Some((fusion, fused)) => {
                        let fused = &mut fused[image * tokens * columns..];
                        match fusion {
                            _ if head == 0 => scale_columns::<Set>(powers, columns, inverse, map, fused),
                            Fusion::Mean => scale_columns::<Add>(powers, columns, inverse, map, fused),
                            Fusion::Max => scale_columns::<Max>(powers, columns, inverse, map, fused),
                            Fusion::Min => scale_columns::<Min>(powers, columns, inverse, map, fused),
                        }
                    }
                }
                let mixed = (image * site.rows * e + head * d) / 2;
                multiply::<Rounded>(
                    Instructions::Avx512,
                    (site.rows, d, tokens.div_ceil(2)),
                    Left::transposed(&scratch.map, columns),
                    Right::rows(&scratch.value_pairs[head * d..], e),
                    Out::rows(&mut scratch.mixed[mixed..], e / 2),
                    Start::Zero,
                );
            }
        }
    }

    /// Of a layer with E outputs.
    fn bias(&self, place: Place) -> Start<'_> {
        Start::Bias(self.network.at(place.bias, self.network.sizes.embed))
    }

    fn norm(&self, place: Place) -> (&[f32], &[f32]) {
        let at = |place| self.network.at(place, self.network.sizes.embed);
        (at(place.weight), at(place.bias))
    }
}

/// [m, inputs] · [inputs, outputs] -> [m, outputs]
fn product<K: Kernel<Operand = Pair>>(
    x: &[Pair],
    weight: &[Pair],
    bias: Start,
    (m, inputs, outputs): (usize, usize, usize),
    out: &mut [K::Result],
) {
    multiply::<K>(
        Instructions::Avx512,
        (m, outputs, inputs / 2),
        Left::rows(x, inputs / 2),
        Right::rows(weight, outputs),
        Out::rows(out, outputs / K::COLUMNS),
        bias,
    );
}

/// Keys [S, E / 2H] in rows that lie `row` apart · queries [E / 2H, columns] -> [S, columns]
fn scores<K: Kernel<Operand = Pair, Result = f32>>(
    keys: &[Pair],
    queries: &[Pair],
    (tokens, columns, pairs, row): (usize, usize, usize, usize),
    out: &mut [f32],
) {
    multiply::<K>(
        Instructions::Avx512,
        (tokens, columns, pairs),
        Left::rows(keys, row),
        Right::rows(queries, columns),
        Out::rows(out, columns),
        Start::Zero,
    );
}
