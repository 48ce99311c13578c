//! Matrix products and operations on rows against their definitions in float64 at every level of this CPU.

use crate::cpu::CpuLevel;
use crate::layers::*;
use crate::matmul::{Start, dots, matmul, rows, transposed};

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

#[test]
fn products_equal_their_definition() {
    let (left, right, bias) = (noise(23 * 37, 1), noise(37 * 96, 2), noise(96, 3));
    for level in CpuLevel::available() {
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
                    matmul(level, (m, n, k), rows(&left, 37), (&right, 96), (&mut out, n), start);
                    let expected: Vec<f64> = (0..m * n).map(|i| element(i, &|row, k| left[row * 37 + k])).collect();
                    assert_close(&out, &expected, 1e-4, &format!("{level:?} {m} {n} {k} {name}"));
                    let mut out = vec![0.5; m * n];
                    matmul(level, (m, n, k), transposed(&left, 23), (&right, 96), (&mut out, n), start);
                    let expected: Vec<f64> = (0..m * n).map(|i| element(i, &|row, k| left[k * 23 + row])).collect();
                    assert_close(&out, &expected, 1e-4, &format!("{level:?} {m} {n} {k} {name}, transposed"));
                }
            }
        }
        let mut out = vec![0.0; 37];
        dots(level, &right, &bias, &mut out);
        let dot = |row: &[f32]| wide(row).iter().zip(&bias).map(|(x, y)| x * f64::from(*y)).sum();
        let expected: Vec<f64> = right.chunks(96).map(dot).collect();
        assert_close(&out, &expected, 1e-4, &format!("{level:?}, dots"));
    }
}

#[test]
fn layer_norm_and_its_gradient_equal_their_definition() {
    let (x, weight, bias, d) = (noise(5 * 48, 4), noise(48, 5), noise(48, 6), noise(5 * 48, 7));
    let (mut hat, mut rstd, mut out) = (vec![0.0; 240], vec![0.0; 5], vec![0.0; 240]);
    standardise(&x, 48, &mut hat, &mut rstd);
    scale_shift(&hat, &weight, &bias, &mut out);
    let (wide_x, wide_weight, wide_bias) = (wide(&x), wide(&weight), wide(&bias));
    assert_close(&out, &layer_norm(&wide_x, &wide_weight, &wide_bias), 1e-5, "output");
    let (mut d_weight, mut d_bias, mut d_x) = (vec![0.0; 48], vec![0.0; 48], vec![0.0; 240]);
    layer_norm_backward(&mut d.clone(), (&hat, &rstd), &weight, (&mut d_weight, &mut d_bias), &mut d_x);
    assert_close(&d_x, &derivative(&x, &d, |x| layer_norm(x, &wide_weight, &wide_bias)), 1e-5, "input");
    assert_close(&d_weight, &derivative(&weight, &d, |weight| layer_norm(&wide_x, weight, &wide_bias)), 1e-5, "weight");
    let expected = derivative(&bias, &d, |bias| layer_norm(&wide_x, &wide_weight, bias));
    assert_close(&d_bias, &expected, 1e-5, "bias");
    let mut sums = vec![0.0; 48];
    add_column_sums(&d, 48, &mut sums);
    assert_close(&sums, &expected, 1e-5, "column sums");
}

#[test]
fn softmax_and_its_gradient_equal_their_definition() {
    let (x, d) = (noise(11 * 32, 8), noise(11 * 32, 9));
    let mut p = x.clone();
    softmax_columns(&mut p, 32, 0.7);
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
    gelu(&mut y);
    assert_close(&y, &definition(&wide(&x)), 1e-6, "output");
    y.copy_from_slice(&x);
    gelu_slope(&mut y, &mut slope);
    assert_close(&y, &definition(&wide(&x)), 1e-6, "output with slope");
    let expected: Vec<f64> = x.iter().flat_map(|x| derivative(&[*x], &[1.0], definition)).collect();
    assert_close(&slope, &expected, 1e-6, "derivative");
}

#[test]
fn the_short_tanh_equals_its_definition() {
    let mut x: Vec<f32> = (-100..=100).map(|i| i as f32 / 8.0).collect();
    x.extend([1000.0, -1000.0, 0.0, 1e-3, -1e-3, 50.0, -50.0]);
    assert!(x.len().is_multiple_of(16));
    let expected: Vec<f64> = x.iter().map(|x| f64::from(*x).tanh()).collect();
    tanh(&mut x);
    assert_close(&x, &expected, 3e-7, "tanh");
}
