//! Layers: each backward pass stands directly under its forward pass, below the equation and its source.
//!
//! A prefix `d_` marks the gradient of the loss with respect to a variable, `hat` the standardised rows of a norm. Axis
//! letters: m rows, S keys, Q queries, E embedding, H heads. The loops over 16 values compile to vector instructions of the
//! caller's level.

use crate::cpu::Simd;
use crate::mat::{Buffer, Mat, MatMut, Start, multiply, transpose};

pub(crate) const LANES: usize = 16;

/// Added to the variance by norms, as in libtorch.
pub(crate) const EPS: f32 = 1e-5;

/// Assigns offsets in the flat vector of all parameters, in the order in which tch creates them. The field is the next free
/// offset.
#[derive(Default)]
pub(crate) struct Cursor(pub usize);

impl Cursor {
    pub fn parameter(&mut self, length: usize) -> usize {
        self.0 += length;
        self.0 - length
    }

    /// Bias [outputs], then weight [outputs, inputs].
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        let bias_at = self.parameter(outputs);
        Linear { bias_at, weight_at: self.parameter(outputs * inputs), inputs, outputs, ..Linear::default() }
    }

    /// Weight [width], then bias [width].
    pub fn norm(&mut self, width: usize) -> Norm {
        Norm { weight_at: self.parameter(width), bias_at: self.parameter(width), width }
    }
}

/// Memory of operands between their rounding and their product, and of a head of attention.
pub(crate) type Room = [Buffer; 10];

/// A linear layer.
#[derive(Default)]
pub(crate) struct Linear {
    /// Offsets in the flat vector.
    pub weight_at: usize,
    pub bias_at: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// [outputs, inputs], right operand of the backward pass.
    weight: Buffer,
    /// [inputs, outputs], right operand of the forward pass. Outputs are padded with zeros to whole registers.
    transposed: Buffer,
    bias: Buffer,
}

impl Linear {
    /// Arranges the parameters as operands.
    #[inline(always)]
    pub fn load<S: Simd>(&mut self, simd: S, flat: &[f32], room: &mut Room) {
        let (inputs, outputs, columns) = (self.inputs, self.outputs, self.columns());
        let weight = Mat::new(&flat[self.weight_at..], outputs, inputs);
        if S::VALUES > 1 {
            transpose(weight, room[0].room(inputs, columns));
            simd.down(room[0].mat(inputs, columns), &mut self.transposed);
            simd.down(weight, &mut self.weight);
        } else {
            transpose(weight, self.transposed.room(inputs, columns));
            self.weight.room(outputs, inputs);
            self.weight.copy_from_slice(&flat[self.weight_at..][..outputs * inputs]);
        }
        self.bias.room(1, columns);
        self.bias[..outputs].copy_from_slice(&flat[self.bias_at..][..outputs]);
    }

    /// Outputs, padded to whole registers.
    pub fn columns(&self) -> usize {
        self.outputs.next_multiple_of(16)
    }

    /// [inputs, outputs]
    pub fn transposed<S: Simd>(&self) -> Mat<'_> {
        self.transposed.mat(S::operands(self.inputs), self.columns())
    }

    /// y = x Wᵀ + b: [m, inputs] -> [m, outputs]; x is a left operand of [`Simd::along`].
    pub fn forward<S: Simd>(&self, simd: S, x: Mat, y: MatMut) {
        multiply(simd, x, self.transposed::<S>(), Start::Bias(&self.bias), y);
    }

    /// dW = dᵀ x, db = Σ d over the rows, dx = d W: from d [m, outputs] and x [m, inputs]. Starts the sums with the present
    /// content of `gradient`, the flat vector, or with zero; those of dx [m, inputs] with `start`.
    #[inline(always)]
    pub fn backward<S: Simd>(
        &self,
        simd: S,
        (x, d): (Mat, Mat),
        (gradient_start, gradient): (Start, &mut [f32]),
        (start, d_x): (Start, MatMut),
        [first, second, ..]: &mut Room,
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let d_weight = MatMut::new(&mut gradient[self.weight_at..], outputs, inputs);
        multiply(simd, simd.down(d, first).t(), simd.down(x, second), gradient_start, d_weight);
        let d_bias = &mut gradient[self.bias_at..][..outputs];
        if let Start::Zero = gradient_start {
            d_bias.fill(0.0);
        }
        add_column_sums(d, d_bias);
        multiply(simd, simd.along(d, first), self.weight.mat(S::operands(outputs), inputs), start, d_x);
    }

    /// y = W x + b of one row, if there are few outputs, from the flat vector: [inputs] -> [outputs]
    #[inline(always)]
    pub fn forward_row(&self, flat: &[f32], x: &[f32], y: &mut [f32]) {
        for (i, y) in y.iter_mut().enumerate() {
            *y = flat[self.bias_at + i] + dot(&flat[self.weight_at + i * self.inputs..][..self.inputs], x);
        }
    }

    /// dW += d xᵀ, db += d, dx += Wᵀ d of one row: d [outputs] and x [inputs] -> dx [inputs]
    #[inline(always)]
    pub fn backward_row(&self, flat: &[f32], (x, d): (&[f32], &[f32]), gradient: &mut [f32], d_x: &mut [f32]) {
        for (i, d) in d.iter().enumerate() {
            gradient[self.bias_at + i] += d;
            let weight = self.weight_at + i * self.inputs..self.weight_at + (i + 1) * self.inputs;
            let row = gradient[weight.clone()].iter_mut().zip(&flat[weight]);
            for ((g, w), (x, d_x)) in row.zip(x.iter().zip(d_x.iter_mut())) {
                *g += d * x;
                *d_x += d * w;
            }
        }
    }
}

/// A layer norm (arXiv 1607.06450): y = x̂ w + b with x̂ = (x − mean) / √(variance + ε), row by row.
#[derive(Default)]
pub(crate) struct Norm {
    /// Offsets in the flat vector.
    pub weight_at: usize,
    pub bias_at: usize,
    pub width: usize,
}

impl Norm {
    /// [m, E] -> y [m, E], x̂ [m, E], and `rstd`, which is 1/√(variance + ε), [m]
    #[inline(always)]
    pub fn forward(&self, flat: &[f32], x: &[f32], hat: &mut [f32], rstd: &mut [f32], y: &mut [f32]) {
        let (width, n) = (self.width, self.width as f32);
        for ((x, hat), rstd) in x.chunks_exact(width).zip(hat.chunks_exact_mut(width)).zip(rstd) {
            let mean = sum(x, x, |x, _| x) / n;
            let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / n;
            *rstd = 1.0 / (variance + EPS).sqrt();
            for (hat, x) in hat.iter_mut().zip(x) {
                *hat = (x - mean) * *rstd;
            }
        }
        self.scale_shift(flat, &hat[..x.len()], y);
    }

    /// x̂ [m, E] -> y [m, E]
    #[inline(always)]
    pub fn scale_shift(&self, flat: &[f32], hat: &[f32], y: &mut [f32]) {
        let (weight, bias) = (&flat[self.weight_at..][..self.width], &flat[self.bias_at..][..self.width]);
        for (hat, y) in hat.chunks_exact(self.width).zip(y.chunks_exact_mut(self.width)) {
            for ((y, hat), (weight, bias)) in y.iter_mut().zip(hat).zip(weight.iter().zip(bias)) {
                *y = hat * weight + bias;
            }
        }
    }

    /// dw += Σ d x̂ and db += Σ d over the rows; dx += (d̂ − mean(d̂) − x̂ mean(d̂ x̂)) rstd with d̂ = d w, row by row: the
    /// derivative of y in x, through its mean and its variance. d, the gradient of y [m, E] -> dx [m, E]; `d` becomes d̂.
    #[inline(always)]
    pub fn backward(
        &self,
        flat: &[f32],
        d: &mut [f32],
        (hat, rstd): (&[f32], &[f32]),
        gradient: &mut [f32],
        d_x: &mut [f32],
    ) {
        let (width, weight) = (self.width, &flat[self.weight_at..][..self.width]);
        let ranges = [self.weight_at, self.bias_at].map(|at| at..at + width);
        let [d_weight, d_bias] = gradient.get_disjoint_mut(ranges).expect("parameters don't overlap");
        let rows = d.chunks_exact_mut(width).zip(hat.chunks_exact(width));
        for (((d, hat), rstd), d_x) in rows.zip(rstd).zip(d_x.chunks_exact_mut(width)) {
            let parameters = weight.iter().zip(d_weight.iter_mut().zip(d_bias.iter_mut()));
            for ((d, hat), (weight, (d_weight, d_bias))) in d.iter_mut().zip(hat).zip(parameters) {
                *d_weight += *d * hat;
                *d_bias += *d;
                *d *= weight;
            }
            let mean = sum(d, d, |d, _| d) / width as f32;
            let along = dot(d, hat) / width as f32;
            for ((d_x, d), hat) in d_x.iter_mut().zip(d.iter()).zip(hat) {
                *d_x += *rstd * (d - mean - hat * along);
            }
        }
    }
}

/// Σ f(x, y), on 16 lanes.
#[inline(always)]
fn sum(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let lanes = x.as_chunks::<LANES>().0.iter();
    for (x, y) in lanes.zip(y.as_chunks::<LANES>().0) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += f(*x, *y);
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum(x, y, |x, y| x * y)
}

/// sums += Σ d over the rows: [m, n] -> `[n]`
#[inline(always)]
pub(crate) fn add_column_sums(d: Mat, sums: &mut [f32]) {
    for row in d.iter() {
        add(sums, row);
    }
}

/// x *= y
#[inline(always)]
pub(crate) fn scale_by(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// x += y
#[inline(always)]
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `N` neighbours of a row from column `first` on.
#[inline(always)]
pub(crate) fn lanes<const N: usize>(row: &[f32], first: usize) -> &[f32; N] {
    row[first..].first_chunk().expect("whole lanes")
}

#[inline(always)]
pub(crate) fn lanes_mut<const N: usize>(row: &mut [f32], first: usize) -> &mut [f32; N] {
    row[first..].first_chunk_mut().expect("whole lanes")
}
