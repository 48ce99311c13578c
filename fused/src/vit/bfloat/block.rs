//! An encoder block without dropout whose products are in bfloat16. Residuals, norms, softmax and sums are float32.

use super::norm::layer_norm;
use super::pairs::{Pair, pairs_of_rows, transpose};
use super::product::{Activated, Powers, Rounded, Summed};
use super::softmax::{Add, Alone, Max, Min, Set, inverse_sums, powers_below_largest, scale_columns};
use crate::aligned::Aligned;
use crate::cpu::CpuLevel;
use crate::layers::add;
use crate::layout::LayerOffsets;
use crate::matmul::{self, Kernel, Start, multiply, rows};
use crate::vit::block::BlockRun;
use crate::vit::parameters::{BlockWeights, VitParameters};
use crate::vit::rollout::Fusion;
use crate::vit::shape::Shape;

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
        self.queries_bias.room(e).copy_from_slice(&scaled(queries_bias));
        let pair = |from: &[f32], (inputs, row): (usize, usize), outputs, to: &mut Aligned<Pair>| {
            pairs_of_rows(from, (inputs, row), outputs, to.room(inputs / 2 * outputs));
        };
        let f = weights.fc1.len() / e;
        pair(&scaled(&weights.queries), (e, e), e, &mut self.queries);
        pair(&weights.keys_values, (e, 2 * e), e, &mut self.keys);
        pair(&weights.keys_values[e..], (e, 2 * e), e, &mut self.values);
        pair(&weights.out, (e, e), e, &mut self.out);
        pair(&weights.fc1, (e, f), f, &mut self.fc1);
        pair(&weights.fc2, (f, e), e, &mut self.fc2);
    }

    /// Adds the attention and the MLP to `x`: [G · S, E] -> [G · rows, E]. Except in the last block, the MLP's
    /// output stays in `scratch`; the next block adds it in its first norm.
    ///
    /// With `fused`, all tokens must be queries, and the heads' attention is fused into its matrices [G, S, padded S].
    pub fn forward(
        &self,
        network: &VitParameters,
        index: usize,
        x: &mut [f32],
        fused: Option<(Fusion, &mut [f32])>,
        scratch: &mut Scratch,
        run: BlockRun,
    ) {
        let (shape, layout) = (&network.shape, &network.layout.blocks[index]);
        let bias = |layer: LayerOffsets, outputs| Start::Bias(network.at(layer.bias, outputs));
        let norm = |layer: LayerOffsets, width| (network.at(layer.weight, width), network.at(layer.bias, width));
        let (e, f, tokens) = (shape.embed, shape.hidden, shape.tokens());
        let (all, some) = (run.group * tokens, run.group * run.rows);
        let normed = scratch.normed.room(all * e / 2);
        let before = (index > 0).then_some(&*scratch.out);
        layer_norm(&mut x[..all * e], before, norm(layout.norm1, e), normed);
        let size = (all, e, e);
        product::<Rounded>(normed, &self.keys, bias(layout.keys, e), size, scratch.keys.room(all * e / 2));
        product::<Summed>(normed, &self.values, bias(layout.values, e), size, scratch.values.room(all * e));
        let asking = if run.queries < tokens {
            let some_normed = scratch.some_normed.room(run.group * run.queries * e / 2);
            run.gather(normed, some_normed, e / 2, tokens);
            some_normed
        } else {
            normed
        };
        let size = (run.group * run.queries, e, e);
        let queries = scratch.queries.room(run.group * run.queries * e / 2);
        product::<Rounded>(asking, &self.queries, Start::Bias(&self.queries_bias), size, queries);

        attention(shape, fused, scratch, run);
        let out = scratch.out.room(some * e);
        product::<Summed>(&scratch.mixed, &self.out, bias(layout.out, e), (some, e, e), out);
        run.keep_rows(x, e, tokens);
        let x = &mut x[..some * e];

        let normed = scratch.normed.room(some * e / 2);
        layer_norm(x, Some(&*out), norm(layout.norm2, e), normed);
        let hidden = scratch.hidden.room(some * f / 2);
        product::<Activated>(normed, &self.fc1, bias(layout.fc1, f), (some, e, f), hidden);
        product::<Summed>(hidden, &self.fc2, bias(layout.fc2, e), (some, f, e), out);
        if index + 1 == shape.layers {
            add(x, out);
        }
    }
}

/// Memory of one thread.
#[derive(Default)]
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

/// Queries, keys and values -> mixed values, head by head
fn attention(shape: &Shape, mut fused: Option<(Fusion, &mut [f32])>, scratch: &mut Scratch, run: BlockRun) {
    let (e, tokens, d) = (shape.embed, shape.tokens(), shape.embed / shape.heads);
    let columns = run.queries.next_multiple_of(16);
    let powers = scratch.powers.room(tokens * columns);
    let inverse = scratch.inverse.room(columns);
    let map = scratch.map.room(tokens.div_ceil(2) * columns);
    let pairs = scratch.value_pairs.room(tokens.div_ceil(2) * e);
    let transposed = scratch.transposed.room(e / 2 * columns);
    let mixed = scratch.mixed.room(run.group * run.rows * e / 2);
    for image in 0..run.group {
        pairs_of_rows(&scratch.values[image * tokens * e..], (tokens, e), e, pairs);
        transpose(&scratch.queries[image * run.queries * e / 2..], (run.queries, e / 2), columns, transposed);
        for head in 0..shape.heads {
            let keys = &scratch.keys[(image * tokens * e + head * d) / 2..];
            let (size, keys) = ((tokens, columns, d / 2), rows(keys, e / 2));
            let queries = (&transposed[head * d / 2 * columns..], columns);
            multiply::<Powers>(CpuLevel::Avx512, size, keys, queries, (powers, columns), Start::Zero);
            if !inverse_sums(powers, columns, inverse) {
                multiply::<Summed>(CpuLevel::Avx512, size, keys, queries, (powers, columns), Start::Zero);
                powers_below_largest(powers, columns);
                inverse_sums(powers, columns, inverse);
            }
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
            let (size, map) = ((run.rows, d, tokens.div_ceil(2)), matmul::transposed(map, columns));
            let (values, mixed) = (&pairs[head * d..], &mut mixed[(image * run.rows * e + head * d) / 2..]);
            multiply::<Rounded>(CpuLevel::Avx512, size, map, (values, e), (mixed, e / 2), Start::Zero);
        }
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
    let size = (m, outputs, inputs / 2);
    let out = (out, outputs / K::COLUMNS);
    multiply::<K>(CpuLevel::Avx512, size, rows(x, inputs / 2), (weight, outputs), out, bias);
}
