//! An encoder block without dropout whose products are in bfloat16. Residuals, norms, softmax and sums are float32.

use super::norm::layer_norm;
use super::pairs::{Pair, pairs_of_rows, transpose};
use super::product::{Activated, Powers, Rounded, Summed};
use super::softmax::{Add, Alone, Max, Min, Set, inverse_sums, powers_below_largest, scale_columns};
use crate::aligned::Aligned;
use crate::cpu::CpuLevel;
use crate::layout::LayerOffsets;
use crate::matmul::{Kernel, Left, Out, Right, Start, multiply};
use crate::rows::add;
use crate::vit::block::BlockRun;
use crate::vit::network::{BlockWeights, Network};
use crate::vit::rollout::Fusion;
use crate::vit::shape::{BlockLayout, Shape};

/// The matrices of a block as right operands of products: [inputs / 2, outputs].
#[derive(Default)]
pub(in crate::vit) struct Weights {
    /// Scaled so that the softmax is the powers of 2 of the scores, divided by their sum.
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
pub(in crate::vit) struct Scratch {
    /// [G · S, E / 2]: a norm's output, of all tokens and of those with a query.
    normed: Aligned<Pair>,
    some_normed: Aligned<Pair>,
    /// [G · queries, E / 2] and [G · S, E / 2]
    queries: Aligned<Pair>,
    keys: Aligned<Pair>,
    /// [G · S, E], and the pairs of an image [S / 2, E].
    values: Aligned,
    value_pairs: Aligned<Pair>,
    /// The queries of an image, transposed: [E / 2, padded queries].
    transposed: Aligned<Pair>,
    /// The attention of an image and head before its division, and after it in pairs: [S, padded queries] and
    /// [S / 2, padded queries].
    powers: Aligned,
    map: Aligned<Pair>,
    /// Reciprocals of the sums: [padded queries].
    inverse: Aligned,
    /// [G · rows, E / 2]: sums of the values weighted by the attention.
    mixed: Aligned<Pair>,
    /// [G · rows, F / 2]
    hidden: Aligned<Pair>,
    /// [G · rows, E]
    out: Aligned,
}

impl Scratch {
    pub fn new(shape: &Shape, group: usize) -> Self {
        let (e, tokens, all) = (shape.embed, shape.tokens(), group * shape.tokens());
        let columns = shape.padded_tokens();
        Scratch {
            normed: Aligned::zeros(all * e / 2),
            some_normed: Aligned::zeros(all * e / 2),
            queries: Aligned::zeros(all * e / 2),
            keys: Aligned::zeros(all * e / 2),
            values: Aligned::zeros(all * e),
            value_pairs: Aligned::zeros(tokens.div_ceil(2) * e),
            transposed: Aligned::zeros(e / 2 * columns),
            powers: Aligned::zeros(tokens * columns),
            inverse: Aligned::zeros(columns),
            map: Aligned::zeros(tokens.div_ceil(2) * columns),
            mixed: Aligned::zeros(all * e / 2),
            hidden: Aligned::zeros(all * shape.hidden / 2),
            out: Aligned::zeros(all * e),
        }
    }
}

/// A network's block.
#[derive(Clone, Copy)]
pub(in crate::vit) struct Block<'a> {
    pub network: &'a Network,
    pub weights: &'a Weights,
    pub layout: &'a BlockLayout,
    pub index: usize,
}

impl Block<'_> {
    /// Adds the attention and the MLP to `x`: [G · S, E] -> [G · rows, E]. Except in the last block, the MLP's
    /// output stays in `scratch`; the next block adds it in its first norm.
    ///
    /// With `fused`, all tokens must be queries, and the heads' attention is fused into its matrices [G, S, padded S].
    pub fn forward(&self, x: &mut [f32], fused: Option<(Fusion, &mut [f32])>, scratch: &mut Scratch, run: BlockRun) {
        let shape = &self.network.shape;
        let (e, f, tokens) = (shape.embed, shape.hidden, shape.tokens());
        let (all, some) = (run.group * tokens, run.group * run.rows);
        let normed = &mut scratch.normed;
        let before = (self.index > 0).then_some(&*scratch.out);
        layer_norm(&mut x[..all * e], before, self.norm(self.layout.norm1), normed);
        let size = (all, e, e);
        product::<Rounded>(normed, &self.weights.keys, self.bias(self.layout.keys), size, &mut scratch.keys);
        product::<Summed>(normed, &self.weights.values, self.bias(self.layout.values), size, &mut scratch.values);
        let asking = if run.queries < tokens {
            run.gather(normed, &mut scratch.some_normed, e / 2, tokens);
            &scratch.some_normed
        } else {
            &*normed
        };
        let size = (run.group * run.queries, e, e);
        product::<Rounded>(
            asking,
            &self.weights.queries,
            Start::Bias(&self.weights.queries_bias),
            size,
            &mut scratch.queries,
        );

        self.attention(fused, scratch, run);
        let bias = self.bias(self.layout.out);
        product::<Summed>(&scratch.mixed, &self.weights.out, bias, (some, e, e), &mut scratch.out);
        run.keep_rows(x, e, tokens);
        let x = &mut x[..some * e];

        let norm2 = self.norm(self.layout.norm2);
        layer_norm(x, Some(&scratch.out), norm2, &mut scratch.normed);
        let bias = Start::Bias(self.network.at(self.layout.fc1.bias, f));
        product::<Activated>(&scratch.normed, &self.weights.fc1, bias, (some, e, f), &mut scratch.hidden);
        let bias = self.bias(self.layout.fc2);
        product::<Summed>(&scratch.hidden, &self.weights.fc2, bias, (some, f, e), &mut scratch.out);
        if self.index + 1 == shape.layers {
            add(x, &scratch.out);
        }
    }

    /// Queries, keys and values -> mixed values, head by head
    fn attention(&self, mut fused: Option<(Fusion, &mut [f32])>, scratch: &mut Scratch, run: BlockRun) {
        let shape = &self.network.shape;
        let (e, tokens, d) = (shape.embed, shape.tokens(), shape.embed / shape.heads);
        let columns = run.queries.next_multiple_of(16);
        let powers = &mut scratch.powers[..tokens * columns];
        for image in 0..run.group {
            let values = &scratch.values[image * tokens * e..];
            pairs_of_rows(values, (tokens, e), e, &mut scratch.value_pairs);
            let queries = &scratch.queries[image * run.queries * e / 2..];
            let size = (run.queries, e / 2);
            transpose(queries, size, columns, &mut scratch.transposed);
            for head in 0..shape.heads {
                let keys = &scratch.keys[(image * tokens * e + head * d) / 2..];
                let transposed = &scratch.transposed[head * d / 2 * columns..];
                let size = (tokens, columns, d / 2, e / 2);
                scores::<Powers>(keys, transposed, size, powers);
                let inverse = &mut scratch.inverse;
                if !inverse_sums(powers, columns, inverse) {
                    scores::<Summed>(keys, transposed, size, powers);
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
                let mixed = (image * run.rows * e + head * d) / 2;
                multiply::<Rounded>(
                    CpuLevel::Avx512,
                    (run.rows, d, tokens.div_ceil(2)),
                    Left::transposed(&scratch.map, columns),
                    Right::rows(&scratch.value_pairs[head * d..], e),
                    Out::rows(&mut scratch.mixed[mixed..], e / 2),
                    Start::Zero,
                );
            }
        }
    }

    /// Bias of a layer with E outputs.
    fn bias(&self, layer: LayerOffsets) -> Start<'_> {
        Start::Bias(self.network.at(layer.bias, self.network.shape.embed))
    }

    /// Weight and bias of a norm.
    fn norm(&self, layer: LayerOffsets) -> (&[f32], &[f32]) {
        let at = |start| self.network.at(start, self.network.shape.embed);
        (at(layer.weight), at(layer.bias))
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
        CpuLevel::Avx512,
        (m, outputs, inputs / 2),
        Left::rows(x, inputs / 2),
        Right::rows(weight, outputs),
        Out::rows(out, outputs / K::COLUMNS),
        bias,
    );
}

/// Keys [S, E / 2H], whose rows start `row` elements apart, · queries [E / 2H, columns] -> [S, columns]
fn scores<K: Kernel<Operand = Pair, Result = f32>>(
    keys: &[Pair],
    queries: &[Pair],
    (tokens, columns, pairs, row): (usize, usize, usize, usize),
    out: &mut [f32],
) {
    multiply::<K>(
        CpuLevel::Avx512,
        (tokens, columns, pairs),
        Left::rows(keys, row),
        Right::rows(queries, columns),
        Out::rows(out, columns),
        Start::Zero,
    );
}
