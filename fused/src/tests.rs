//! Matrix products and operations on rows against their definitions in float64 at every level of this CPU.

use crate::attention::{softmax_columns, softmax_columns_backward};
use crate::cpu::Simd;
use crate::cpu::{CpuLevel, Level, dispatch};
use crate::gelu::{gelu, gelu_slope};
use crate::layers::*;
use crate::mat::{Mat, MatMut, Start, dots, multiply};

/// Values between −2 and 2, the same in each run.
pub fn noise(length: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.f32() * 4.0 - 2.0).collect()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

pub fn assert_close(ours: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        let apart = (f64::from(*ours) - expected).abs();
        assert!(apart < tolerance, "{what}: element {i} is {ours} instead of {expected}");
    }
}

/// Φ(x) of the normal distribution, by Simpson's rule.
pub fn distribution(x: f64) -> f64 {
    const N: usize = 2000;
    let density = |i: usize| (-0.5 * (x * i as f64 / N as f64).powi(2)).exp();
    let sum: f64 = (0..=N).map(|i| density(i) * if i % N == 0 { 1.0 } else { (2 + 2 * (i % 2)) as f64 }).sum();
    0.5 + sum * x / (3 * N) as f64 / std::f64::consts::TAU.sqrt()
}

/// Layer norm of rows as long as `weight`.
pub fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let hat = x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
        hat.zip(weight.iter().zip(bias)).map(|(hat, (weight, bias))| hat * weight + bias).collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

/// Softmax of `scale` · x along each column.
fn softmax(x: &[f64], columns: usize, scale: f64) -> Vec<f64> {
    let power = |x: f64| (scale * x).exp();
    let sum = |column: usize| x.iter().skip(column).step_by(columns).map(|x| power(*x)).sum::<f64>();
    x.iter().enumerate().map(|(i, x)| power(*x) / sum(i % columns)).collect()
}

/// Derivative of Σ d · f(x) with respect to each x.
fn derivative(x: &[f32], d: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let loss = |i: usize, step: f64| -> f64 {
        let mut x = wide(x);
        x[i] += step;
        f(&x).iter().zip(d).map(|(y, d)| y * f64::from(*d)).sum()
    };
    (0..x.len()).map(|i| (loss(i, 1e-5) - loss(i, -1e-5)) / 2e-5).collect()
}

fn product(level: Level, left: Mat, right: Mat, start: Start, out: &mut [f32]) {
    let (m, n) = (left.shape().0, right.shape().1);
    dispatch!(level, simd => multiply(simd, left, right, start, MatMut::new(out, m, n)));
}

#[test]
fn products_equal_their_definition() {
    let (left, right, bias) = (noise(23 * 37, 1), noise(37 * 96, 2), noise(96, 3));
    for level in CpuLevel::available() {
        let token = level.level().unwrap();
        for (m, k) in [(1, 1), (7, 16), (23, 37)].into_iter().chain((2..20).map(|m| (m, 5))) {
            for n in [16, 32, 48, 64, 80, 96] {
                for (name, start) in [("zero", Start::Zero), ("out", Start::Present), ("bias", Start::Bias(&bias))] {
                    let element = |i: usize, left: &dyn Fn(usize, usize) -> f32| -> f64 {
                        let (row, column) = (i / n, i % n);
                        let terms = (0..k).map(|k| f64::from(left(row, k)) * f64::from(right[k * 96 + column]));
                        let start = match start {
                            Start::Zero => 0.0,
                            Start::Present => 0.5,
                            Start::Bias(bias) => f64::from(bias[column]),
                        };
                        start + terms.sum::<f64>()
                    };
                    let mut out = vec![0.5; m * n];
                    product(token, Mat::strided(&left, m, k, 37), Mat::strided(&right, k, n, 96), start, &mut out);
                    let expected: Vec<f64> = (0..m * n).map(|i| element(i, &|row, k| left[row * 37 + k])).collect();
                    assert_close(&out, &expected, 1e-4, &format!("{level:?} {m} {n} {k} {name}"));
                    let mut out = vec![0.5; m * n];
                    product(token, Mat::strided(&left, k, m, 23).t(), Mat::strided(&right, k, n, 96), start, &mut out);
                    let expected: Vec<f64> = (0..m * n).map(|i| element(i, &|row, k| left[k * 23 + row])).collect();
                    assert_close(&out, &expected, 1e-4, &format!("{level:?} {m} {n} {k} {name}, transposed"));
                }
            }
        }
        let mut out = vec![0.0; 37];
        dispatch!(token, simd => dots(simd, Mat::new(&right, 37, 96), &bias, &mut out));
        let dot = |row: &[f32]| wide(row).iter().zip(&bias).map(|(x, y)| x * f64::from(*y)).sum();
        let expected: Vec<f64> = right.chunks(96).map(dot).collect();
        assert_close(&out, &expected, 1e-4, &format!("{level:?}, dots"));
    }
}

#[test]
fn layer_norm_and_its_gradient_equal_their_definition() {
    let (x, weight, bias, d) = (noise(5 * 48, 4), noise(48, 5), noise(48, 6), noise(5 * 48, 7));
    let (mut hat, mut rstd, mut out) = (vec![0.0; 240], vec![0.0; 5], vec![0.0; 240]);
    let (norm, flat) = (Norm { weight_at: 0, bias_at: 48, width: 48 }, [&weight[..], &bias].concat());
    norm.forward(&flat, &x, &mut hat, &mut rstd, &mut out);
    let (wide_x, wide_weight, wide_bias) = (wide(&x), wide(&weight), wide(&bias));
    assert_close(&out, &layer_norm(&wide_x, &wide_weight, &wide_bias), 1e-5, "output");
    let (mut gradient, mut d_x) = (vec![0.0; 96], vec![0.0; 240]);
    norm.backward(&flat, &mut d.clone(), (&hat, &rstd), &mut gradient, &mut d_x);
    let (d_weight, d_bias) = gradient.split_at(48);
    assert_close(&d_x, &derivative(&x, &d, |x| layer_norm(x, &wide_weight, &wide_bias)), 1e-5, "input");
    assert_close(d_weight, &derivative(&weight, &d, |weight| layer_norm(&wide_x, weight, &wide_bias)), 1e-5, "weight");
    let expected = derivative(&bias, &d, |bias| layer_norm(&wide_x, &wide_weight, bias));
    assert_close(d_bias, &expected, 1e-5, "bias");
    let mut sums = vec![0.0; 48];
    add_column_sums(Mat::new(&d, 5, 48), &mut sums);
    assert_close(&sums, &expected, 1e-5, "column sums");
}

#[test]
fn softmax_and_its_gradient_equal_their_definition() {
    let (x, d) = (noise(11 * 32, 8), noise(11 * 32, 9));
    let mut p = x.clone();
    softmax_columns(&mut p, 32, 0.7, false);
    assert_close(&p, &softmax(&wide(&x), 32, 0.7), 1e-6, "output");
    let mut d_x = d.clone();
    softmax_columns_backward(&mut d_x, &p, 32, 0.7);
    assert_close(&d_x, &derivative(&x, &d, |x| softmax(x, 32, 0.7)), 1e-6, "gradient");
}

#[test]
fn gelu_and_its_derivative_equal_their_definition() {
    let x: Vec<f32> = (-72..72).map(|i| i as f32 / 12.0).collect();
    let definition = |x: &[f64]| x.iter().map(|x| x * distribution(*x)).collect::<Vec<_>>();
    let (mut y, mut slope) = (x.clone(), vec![0.0; x.len()]);
    gelu(&mut y, false);
    assert_close(&y, &definition(&wide(&x)), 1e-6, "output");
    y.copy_from_slice(&x);
    gelu_slope(&mut y, &mut slope, false);
    assert_close(&y, &definition(&wide(&x)), 1e-6, "output with slope");
    let expected: Vec<f64> = x.iter().flat_map(|x| derivative(&[*x], &[1.0], definition)).collect();
    assert_close(&slope, &expected, 1e-6, "derivative");
}

/// The level with bfloat16 products, if this CPU has them.
#[cfg(target_arch = "x86_64")]
fn bfloat16() -> Option<crate::cpu::Bfloat16> {
    match CpuLevel::detect().level().unwrap().with_bfloat16()? {
        Level::Bfloat16(simd) => Some(simd),
        _ => None,
    }
}

/// The nearest bfloat16, the even one of two equally near.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn operands_are_rounded_and_paired() {
    let Some(simd) = bfloat16() else { return };
    let halves = |pair: f32| [pair.to_bits() << 16, pair.to_bits() & 0xffff_0000].map(f32::from_bits);
    for (rows, cols, stride) in [(50, 64, 64), (51, 32, 40), (1, 16, 16), (3, 48, 50)] {
        let x = noise(rows * stride, 1);
        let (mat, mut room) = (Mat::strided(&x, rows, cols, stride), Default::default());
        let along = simd.along(mat, &mut room);
        assert_eq!(along.shape(), (rows, cols / 2));
        for (i, row) in along.iter().enumerate() {
            for (j, pair) in row.iter().enumerate() {
                assert_eq!(halves(*pair), [0, 1].map(|half| rounded(x[i * stride + 2 * j + half])));
            }
        }
        let down = simd.down(mat, &mut room);
        assert_eq!(down.shape(), (rows.div_ceil(2), cols));
        for (i, row) in down.iter().enumerate() {
            for (j, pair) in row.iter().enumerate() {
                let second = if 2 * i + 1 < rows { rounded(x[(2 * i + 1) * stride + j]) } else { 0.0 };
                assert_eq!(halves(*pair), [rounded(x[2 * i * stride + j]), second]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn products_of_pairs_are_summed_in_float32() {
    let Some(simd) = bfloat16() else { return };
    for (m, k, n) in [(1, 16, 16), (2, 96, 80), (5, 50, 64), (8, 51, 32), (13, 96, 80)] {
        let (left, right, bias) = (noise(m * 112, 2), noise(k * n, 3), noise(n, 4));
        let (mut rooms, mut out) = ([Default::default(), Default::default()], vec![0.0; m * n]);
        let [left_room, right_room] = &mut rooms;
        let width = k.next_multiple_of(16);
        let pairs = simd.along(Mat::strided(&left, m, width, 112), left_room).cols(0, k.div_ceil(2));
        let right_pairs = simd.down(Mat::new(&right, k, n), right_room);
        simd_multiply(simd, pairs, right_pairs, &bias, &mut out);
        let element = |i: usize| -> f64 {
            let term = |t: usize| f64::from(rounded(left[i / n * 112 + t])) * f64::from(rounded(right[t * n + i % n]));
            (0..k).map(term).sum::<f64>() + f64::from(bias[i % n])
        };
        let expected: Vec<f64> = (0..m * n).map(element).collect();
        assert_close(&out, &expected, 1e-4, &format!("{m} {k} {n}"));
        // The transposed left operand of a gradient: [k, m] with rows in pairs.
        let left = noise(k * 16, 5);
        let pairs = simd.down(Mat::new(&left, k, 16), left_room);
        let mut out = vec![0.0; m.min(16) * n];
        simd_multiply(simd, pairs.t().rows(0, m.min(16)), right_pairs, &bias, &mut out);
        let element = |i: usize| -> f64 {
            let term = |t: usize| f64::from(rounded(left[t * 16 + i / n])) * f64::from(rounded(right[t * n + i % n]));
            (0..k).map(term).sum::<f64>() + f64::from(bias[i % n])
        };
        let expected: Vec<f64> = (0..out.len()).map(element).collect();
        assert_close(&out, &expected, 1e-4, &format!("{m} {k} {n}, transposed"));
    }
}

#[cfg(target_arch = "x86_64")]
fn simd_multiply(simd: crate::cpu::Bfloat16, left: Mat, right: Mat, bias: &[f32], out: &mut [f32]) {
    let (m, n) = (left.shape().0, right.shape().1);
    multiply(simd, left, right, Start::Bias(bias), MatMut::new(out, m, n));
}

/// For scores of any size: differences beyond the range of powers of two become zero.
#[test]
fn the_short_softmax_and_gelu_equal_their_definition() {
    for scale in [0.7, 100.0] {
        let x = noise(50 * 64, 10);
        let mut p = x.clone();
        softmax_columns(&mut p, 64, scale, true);
        assert_close(&p, &softmax(&wide(&x), 64, f64::from(scale)), 2e-4, &format!("softmax, scale {scale}"));
    }
    let x: Vec<f32> = (-96..96).map(|i| i as f32 / 12.0).collect();
    let expected: Vec<f64> = x.iter().map(|x| f64::from(*x) * distribution(f64::from(*x))).collect();
    let mut y = x.clone();
    gelu(&mut y, true);
    assert_close(&y, &expected, 3e-4, "GELU");
    let (mut y, mut slope) = (x.clone(), vec![0.0; x.len()]);
    gelu_slope(&mut y, &mut slope, true);
    assert_close(&y, &expected, 3e-4, "GELU with slope");
    let definition = |x: &[f64]| x.iter().map(|x| x * distribution(*x)).collect::<Vec<_>>();
    let expected: Vec<f64> = x.iter().flat_map(|x| derivative(&[*x], &[1.0], definition)).collect();
    assert_close(&slope, &expected, 5e-4, "derivative of GELU");
}
