//! Each step against libtorch, where this processor has the instructions.

use tch::{Device, Kind, Tensor};

use super::norm::layer_norm;
use super::pairs::{Pair, pairs_of_rows, transpose};
use super::product::{Activated, Powers, Rounded, Summed};
use super::softmax::{Add, Max, Min, Set, inverse_sums, powers_below_largest, scale_columns};
use crate::fused::matmul::{Kernel, Left, Out, Right, Start, multiply};
use crate::fused::vector::Instructions;

/// Random numbers [rows, columns], the same in each run.
fn noise(rows: usize, columns: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let numbers = (0..rows * columns).map(|_| random.f32() * 4.0 - 2.0);
    numbers.collect()
}

fn tensor(x: &[f32], columns: usize) -> Tensor {
    Tensor::from_slice(x).view([-1, columns as i64])
}

fn rounded(x: &Tensor) -> Tensor {
    x.to_kind(Kind::BFloat16).to_kind(Kind::Float)
}

/// Both numbers of each pair.
fn halves(pairs: &[Pair]) -> Vec<[f32; 2]> {
    let number = |half: u32| f32::from_bits(half << 16);
    let both = |pair: &Pair| [number(pair & 0xffff), number(pair >> 16)];
    pairs.iter().map(both).collect()
}

/// Pairs along the rows, [rows, columns / 2] -> [rows, columns].
fn in_rows(pairs: &[Pair], columns: usize) -> Tensor {
    tensor(halves(pairs).as_flattened(), columns)
}

fn apart(ours: &Tensor, expected: &Tensor) -> f64 {
    (ours - expected).abs().max().double_value(&[])
}

#[test]
fn rows_are_paired_and_transposed() {
    if !super::detect() {
        return;
    }
    for (rows, columns) in [(50, 64), (51, 32), (1, 16)] {
        let x = noise(rows, columns, 1);
        let mut pairs = vec![7; rows.div_ceil(2) * columns];
        pairs_of_rows(&x, (rows, columns), columns, &mut pairs);
        let x = rounded(&tensor(&x, columns));
        for (i, [first, second]) in halves(&pairs).into_iter().enumerate() {
            let (row, column) = ((2 * (i / columns)) as i64, (i % columns) as i64);
            assert_eq!(f64::from(first), x.double_value(&[row, column]));
            let expected = match row as usize + 1 < rows {
                true => x.double_value(&[row + 1, column]),
                false => 0.0,
            };
            assert_eq!(f64::from(second), expected);
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
    fn product<K: Kernel<Operand = Pair>>(m: usize, out: &mut [K::Result]) -> Tensor {
        let (k, n) = (96, 80);
        let (x, weight, bias) = (noise(m, k, 2), noise(k, n, 3), noise(1, n, 4));
        let weight: Vec<f32> = weight.iter().map(|w| w * 0.1).collect();
        // The left operand's pairs lie along its rows: those of its transpose, transposed.
        let turned: Vec<f32> = (0..k * 16)
            .map(|i| match i % 16 < m {
                true => x[i % 16 * k + i / 16],
                false => 0.0,
            })
            .collect();
        let (mut pairs, mut left) = (vec![0; k / 2 * 16], vec![0; 16 * 48]);
        pairs_of_rows(&turned, (k, 16), 16, &mut pairs);
        transpose(&pairs, (k / 2, 16), 48, &mut left);
        let mut right = vec![0; k / 2 * n];
        pairs_of_rows(&weight, (k, n), n, &mut right);
        multiply::<K>(
            Instructions::Avx512,
            (m, n, k / 2),
            Left::rows(&left, k / 2),
            Right::rows(&right, n),
            Out::rows(out, n / K::COLUMNS),
            Start::Bias(&bias),
        );
        let [x, weight] = [rounded(&tensor(&x, k)), rounded(&tensor(&weight, n))];
        x.to_kind(Kind::Double).matmul(&weight.to_kind(Kind::Double)) + tensor(&bias, n)
    }
    for m in [1, 2, 5, 13] {
        let mut out = vec![0.0; m * 80];
        let expected = product::<Summed>(m, &mut out);
        assert!(apart(&tensor(&out, 80), &expected) < 1e-5, "{m} rows");
        let expected = product::<Powers>(m, &mut out).exp2();
        let relative = (tensor(&out, 80) / expected - 1.0).abs().max();
        assert!(relative.double_value(&[]) < 1e-4, "{m} rows: {relative}");
        // One rounding to eight bits: at most a 256th of the number.
        let mut out = vec![0; m * 40];
        let expected = product::<Rounded>(m, &mut out);
        let relative = ((in_rows(&out, 80) - &expected) / expected.abs()).abs().max();
        assert!(relative.double_value(&[]) < 1.0 / 256.0 + 1e-4, "{m} rows: {relative}");
        let expected = product::<Activated>(m, &mut out).gelu("none");
        let bound = expected.abs() / 256.0 + 2e-4;
        let beyond = ((in_rows(&out, 80) - expected).abs() / bound).max();
        assert!(beyond.double_value(&[]) < 1.0, "{m} rows: {beyond}");
    }
}

#[test]
fn norms_equal_libtorchs() {
    if !super::detect() {
        return;
    }
    for e in [64, 96] {
        let (mut x, add) = (noise(7, e, 5), noise(7, e, 6));
        let (weight, bias) = (noise(1, e, 7), noise(1, e, 8));
        let sum = tensor(&x, e) + tensor(&add, e);
        for (add, input) in [(None, tensor(&x, e)), (Some(&add[..]), sum)] {
            let mut out = vec![0; 7 * e / 2];
            layer_norm(&mut x, add, (&weight, &bias), &mut out);
            assert_eq!(tensor(&x, e), input);
            let [weight, bias] = [&weight, &bias].map(|x| Tensor::from_slice(x));
            let expected = input.layer_norm([e as i64], Some(weight), Some(bias), 1e-5, false);
            let bound = expected.abs() / 256.0 + 1e-5;
            let beyond = ((in_rows(&out, e) - expected).abs() / bound).max();
            assert!(beyond.double_value(&[]) < 1.0, "{e}: {beyond}");
        }
    }
}

#[test]
fn softmax_equals_libtorchs_for_scores_of_any_size() {
    if !super::detect() {
        return;
    }
    const LN_2: f64 = std::f64::consts::LN_2;
    for (keys, columns) in [(50, 64), (51, 16)] {
        for (scale, small) in [(1.0, true), (100.0, false)] {
            let scores = [9, 10].map(|seed| tensor(&noise(keys, columns, seed), columns) * scale);
            let expected = scores.each_ref().map(|x| (x * LN_2).softmax(0, Kind::Float));
            let fused = [
                (&expected[0] + &expected[1], 'a'),
                (expected[0].maximum(&expected[1]), 'x'),
                (expected[0].minimum(&expected[1]), 'n'),
            ];
            for (fused, fusion) in fused {
                let mut matrix = vec![0.0; keys * columns];
                for (head, scores) in scores.iter().enumerate() {
                    let mut powers = Vec::<f32>::try_from(scores.exp2().flatten(0, 1)).unwrap();
                    let (mut inverse, mut pairs) = (vec![0.0; columns], vec![0; keys.div_ceil(2) * columns]);
                    let exact = inverse_sums(&powers, columns, &mut inverse);
                    assert_eq!(exact, small);
                    if !exact {
                        powers = Vec::try_from(scores.flatten(0, 1)).unwrap();
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
                    let first: Vec<f32> = halves(&pairs).iter().map(|pair| pair[0]).collect();
                    let even = Tensor::arange_start_step(0, keys as i64, 2, (Kind::Int64, Device::Cpu));
                    let even = expected[head].index_select(0, &even);
                    let bound = even.abs() / 256.0 + 2e-4;
                    let beyond = ((tensor(&first, columns) - even).abs() / bound).max();
                    assert!(beyond.double_value(&[]) < 1.0, "{keys} keys, scale {scale}: {beyond}");
                }
                let apart = apart(&tensor(&matrix, columns), &fused);
                assert!(apart < 2e-4, "{keys} keys, scale {scale}, {fusion}: {apart}");
            }
        }
    }
}

#[test]
fn the_short_tanh_equals_libtorchs() {
    let mut x: Vec<f32> = (-100..=100).map(|i| i as f32 / 8.0).collect();
    x.extend([1000.0, -1000.0, 0.0, 1e-3, -1e-3, 50.0, -50.0]);
    assert!(x.len().is_multiple_of(16));
    let expected = Tensor::from_slice(&x).tanh();
    crate::fused::rows::tanh(&mut x);
    assert!(apart(&Tensor::from_slice(&x), &expected) < 3e-7);
}
