//! Each operation against its definition in float64, on CPUs with AVX512-BF16.

use super::norm::layer_norm;
use super::pairs::{Pair, pairs_of_rows, transpose};
use super::product::{Activated, Powers, Rounded, Summed};
use super::softmax::{Add, Max, Min, Set, inverse_sums, powers_below_largest, scale_columns};
use crate::cpu::CpuLevel;
use crate::matmul::{Kernel, Start, multiply, rows};
use crate::tests::{assert_close, distribution, layer_norm as norm_of_rows, noise, wide};

type Fuse = fn(f64, f64) -> f64;

/// The nearest bfloat16, the even one of two equally near.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// Both values of each pair.
fn halves(pairs: &[Pair]) -> Vec<[f32; 2]> {
    let value = |half: u32| f32::from_bits(half << 16);
    pairs.iter().map(|pair| [value(pair & 0xffff), value(pair >> 16)]).collect()
}

/// Asserts that the values of `pairs`, which lie along rows, differ by at most one rounding to eight bits and `absolute`.
fn assert_rounded(pairs: &[Pair], expected: &[f64], absolute: f64, what: &str) {
    for (ours, expected) in halves(pairs).as_flattened().iter().zip(expected) {
        let apart = (f64::from(*ours) - expected).abs();
        assert!(apart < expected.abs() / 256.0 + absolute, "{what}: {ours} instead of {expected}");
    }
}

#[test]
fn rows_are_paired_and_transposed() {
    if !super::detect() {
        return;
    }
    for (rows, columns) in [(50, 64), (51, 32), (1, 16)] {
        let x = noise(rows * columns, 1);
        let mut pairs = vec![7; rows.div_ceil(2) * columns];
        pairs_of_rows(&x, (rows, columns), columns, &mut pairs);
        for (i, [first, second]) in halves(&pairs).into_iter().enumerate() {
            let at = 2 * (i / columns) * columns + i % columns;
            assert_eq!(first, rounded(x[at]));
            assert_eq!(second, x.get(at + columns).map_or(0.0, |x| rounded(*x)));
        }
    }
    for (rows, columns) in [(50, 64), (16, 16), (1, 16), (33, 48)] {
        let x: Vec<Pair> = (1..=rows as u32 * 32).collect();
        let mut out = vec![7; 32 * columns];
        transpose(&x, (rows, 32), columns, &mut out);
        for (i, y) in out.iter().enumerate() {
            let (column, row) = (i / columns, i % columns);
            let expected = if row < rows { x[row * 32 + column] } else { 0 };
            assert_eq!(*y, expected, "{rows} rows, {column}, {row}");
        }
    }
}

#[test]
fn products_are_summed_in_float32() {
    if !super::detect() {
        return;
    }
    const K: usize = 96;
    const N: usize = 80;
    let (x, bias) = (noise(13 * K, 2), noise(N, 4));
    let weight: Vec<f32> = noise(K * N, 3).iter().map(|w| w * 0.1).collect();
    fn product<P: Kernel<Operand = Pair>>(
        left: &[Pair],
        right: &[Pair],
        bias: &[f32],
        m: usize,
        out: &mut [P::Result],
    ) {
        let out = (out, N / P::COLUMNS);
        multiply::<P>(CpuLevel::Avx512, (m, N, K / 2), rows(left, K / 2), (right, N), out, Start::Bias(bias));
    }
    let pair = |x: &[f32]| (rounded(x[0]).to_bits() >> 16) | rounded(x[1]).to_bits();
    let left: Vec<Pair> = x.chunks(2).map(pair).collect();
    let mut right = vec![0; K / 2 * N];
    pairs_of_rows(&weight, (K, N), N, &mut right);
    let sum = |i: usize| -> f64 {
        let terms = (0..K).map(|k| f64::from(rounded(x[i / N * K + k])) * f64::from(rounded(weight[k * N + i % N])));
        terms.sum::<f64>() + f64::from(bias[i % N])
    };
    for m in [1, 2, 5, 8, 13] {
        let what = format!("{m} rows");
        let expected: Vec<f64> = (0..m * N).map(sum).collect();
        let mut out = vec![0.0; m * N];
        product::<Summed>(&left, &right, &bias, m, &mut out);
        assert_close(&out, &expected, 1e-5, &what);
        product::<Powers>(&left, &right, &bias, m, &mut out);
        let relative: Vec<f32> =
            out.iter().zip(&expected).map(|(ours, x)| (f64::from(*ours) / x.exp2()) as f32).collect();
        assert_close(&relative, &vec![1.0; m * N], 1e-4, &what);
        let mut out = vec![0; m * N / 2];
        product::<Rounded>(&left, &right, &bias, m, &mut out);
        for (ours, expected) in halves(&out).as_flattened().iter().zip(&expected) {
            let relative = (f64::from(*ours) / expected - 1.0).abs();
            assert!(relative < 1.0 / 256.0 + 1e-4, "{what}: {relative}");
        }
        product::<Activated>(&left, &right, &bias, m, &mut out);
        let expected: Vec<f64> = expected.iter().map(|x| x * distribution(*x)).collect();
        assert_rounded(&out, &expected, 2e-4, &what);
    }
}

#[test]
fn norms_equal_their_definition() {
    if !super::detect() {
        return;
    }
    for e in [64, 96] {
        let (mut x, add) = (noise(7 * e, 5), noise(7 * e, 6));
        let (weight, bias) = (noise(e, 7), noise(e, 8));
        let sum: Vec<f32> = x.iter().zip(&add).map(|(x, y)| x + y).collect();
        for (add, input) in [(None, x.clone()), (Some(&add[..]), sum)] {
            let mut out = vec![0; 7 * e / 2];
            layer_norm(&mut x, add, (&weight, &bias), &mut out);
            assert_eq!(x, input);
            let expected = norm_of_rows(&wide(&input), &wide(&weight), &wide(&bias));
            assert_rounded(&out, &expected, 1e-5, &format!("width {e}"));
        }
    }
}

#[test]
fn softmax_equals_its_definition_for_scores_of_any_size() {
    if !super::detect() {
        return;
    }
    for (keys, columns) in [(50, 64), (51, 16)] {
        for (scale, small) in [(1.0, true), (100.0, false)] {
            let scores = [9, 10].map(|seed| noise(keys * columns, seed).iter().map(|x| x * scale).collect::<Vec<_>>());
            let shares = scores.each_ref().map(|x| {
                let column = |i: usize| x.iter().skip(i % columns).step_by(columns).map(|x| f64::from(*x));
                let highest = |i: usize| column(i).fold(f64::NEG_INFINITY, f64::max);
                let share = |(i, x): (usize, &f32)| {
                    (f64::from(*x) - highest(i)).exp2() / column(i).map(|x| (x - highest(i)).exp2()).sum::<f64>()
                };
                x.iter().enumerate().map(share).collect::<Vec<_>>()
            });
            let fusions: [(Fuse, char); 3] = [(|a, b| a + b, 'a'), (f64::max, 'x'), (f64::min, 'n')];
            for (fuse, fusion) in fusions {
                let what = format!("{keys} keys, scale {scale}, {fusion}");
                let mut matrix = vec![0.0; keys * columns];
                for (head, scores) in scores.iter().enumerate() {
                    let mut powers: Vec<f32> = scores.iter().map(|x| x.exp2()).collect();
                    let (mut inverse, mut pairs) = (vec![0.0; columns], vec![0; keys.div_ceil(2) * columns]);
                    let exact = inverse_sums(&powers, columns, &mut inverse);
                    assert_eq!(exact, small);
                    if !exact {
                        powers.copy_from_slice(scores);
                        powers_below_largest(&mut powers, columns);
                        assert!(inverse_sums(&powers, columns, &mut inverse));
                    }
                    let scaled = match (head, fusion) {
                        (0, _) => scale_columns::<Set>,
                        (_, 'a') => scale_columns::<Add>,
                        (_, 'x') => scale_columns::<Max>,
                        _ => scale_columns::<Min>,
                    };
                    scaled(&powers, columns, &inverse, &mut pairs, &mut matrix);
                    for (i, [first, _]) in halves(&pairs).into_iter().enumerate() {
                        let expected = shares[head][2 * (i / columns) * columns + i % columns];
                        let apart = (f64::from(first) - expected).abs();
                        assert!(apart < expected / 256.0 + 2e-4, "{what}: {first} instead of {expected}");
                    }
                }
                let expected: Vec<f64> = shares[0].iter().zip(&shares[1]).map(|(a, b)| fuse(*a, *b)).collect();
                assert_close(&matrix, &expected, 2e-4, &what);
            }
        }
    }
}
