//! Layers: each backward pass stands directly under its forward pass, below the equation and its source.
//!
//! A prefix `d_` marks the gradient of the loss with respect to a variable, `hat` the standardised rows of a norm. Axis
//! letters: m rows, S keys, Q queries, E embedding, H heads. The loops over 16 values compile to vector instructions of the
//! caller's level.

use crate::cpu::Simd;
use crate::mat::{Buffer, Mat, MatMut, Operand, Operands, Room, Start, multiply, transpose};

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

/// A linear layer.
#[derive(Default)]
pub(crate) struct Linear {
    /// Offsets in the flat vector.
    pub weight_at: usize,
    pub bias_at: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// [outputs, inputs], right operand of the backward pass.
    weight: Operands,
    /// [inputs, outputs], right operand of the forward pass. Outputs are padded with zeros to whole registers.
    transposed: Operands,
    bias: Buffer,
}

impl Linear {
    /// Arranges the parameters as operands of type `O`.
    pub fn load<S: Simd, O: Operand<S>>(&mut self, simd: S, flat: &[f32]) {
        let (inputs, outputs, columns) = (self.inputs, self.outputs, self.columns());
        let weight = Mat::new(&flat[self.weight_at..], outputs, inputs);
        let (forward, backward) = (&mut self.transposed, &mut self.weight);
        transpose(weight, forward.float32.room(inputs, columns));
        O::down(simd, forward.float32.mat(inputs, columns), &mut forward.pairs);
        for (to, from) in backward.float32.room(outputs, inputs).iter_mut().zip(weight.iter()) {
            to.copy_from_slice(from);
        }
        O::down(simd, backward.float32.mat(outputs, inputs), &mut backward.pairs);
        for bias in self.bias.room(1, columns).iter_mut() {
            bias[..outputs].copy_from_slice(&flat[self.bias_at..][..outputs]);
        }
    }

    /// Outputs, padded to whole registers.
    pub fn columns(&self) -> usize {
        self.outputs.next_multiple_of(16)
    }

    /// [inputs, outputs]
    pub fn transposed<S: Simd, O: Operand<S>>(&self) -> Mat<'_, O> {
        O::buffer(&self.transposed).mat(O::count(self.inputs), self.columns())
    }

    /// y = x Wᵀ + b: [m, inputs] -> [m, outputs]
    pub fn forward<S: Simd, O: Operand<S>>(&self, simd: S, x: Mat<O>, y: MatMut) {
        multiply(simd, x, self.transposed::<S, O>(), Start::Bias(&self.bias), y);
    }

    /// dW = dᵀ x, db = Σ d over the rows, dx = d W: from d [m, outputs] and x [m, inputs]. Starts the sums with the present
    /// content of `gradient`, the flat vector, or with zero; those of dx [m, inputs] with `start`.
    #[inline(always)]
    pub fn backward<S: Simd, O: Operand<S>>(
        &self,
        simd: S,
        (x, d): (Mat, Mat),
        (gradient_start, gradient): (Start, &mut [f32]),
        (start, d_x): (Start, MatMut),
        room: &mut Room,
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let d_weight = MatMut::new(&mut gradient[self.weight_at..], outputs, inputs);
        let [first, second, ..] = &mut room.pairs;
        multiply(simd, O::down(simd, d, first).t(), O::down(simd, x, second), gradient_start, d_weight);
        let d_bias = &mut gradient[self.bias_at..][..outputs];
        if let Start::Zero = gradient_start {
            d_bias.fill(0.0);
        }
        add_column_sums(d, d_bias);
        let weight = O::buffer(&self.weight).mat(O::count(outputs), inputs);
        multiply(simd, O::along(simd, d, first), weight, start, d_x);
    }
}

/// A layer norm (arXiv 1607.06450): y = x̂ w + b with x̂ = (x − mean) / √(variance + ε), row by row.
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
            let mean = sum(x, |x| x) / n;
            let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
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
            let mean = sum(d, |d| d) / width as f32;
            let along = dot(d, hat) / width as f32;
            for ((d_x, d), hat) in d_x.iter_mut().zip(d.iter()).zip(hat) {
                *d_x += *rstd * (d - mean - hat * along);
            }
        }
    }
}

#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    for x in x.as_chunks::<LANES>().0 {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += f(*x);
        }
    }
    sums.iter().sum()
}

#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let lanes = x.as_chunks::<LANES>().0.iter();
    for (x, y) in lanes.zip(y.as_chunks::<LANES>().0) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

/// 1.5 · 2²³: adding it rounds to an integer.
const MAGIC: f32 = 12_582_912.0;

/// Returns eˣ with a relative error of 2e-7 (polynomial of Cephes for e^r, r = x − n ln 2). Clamps x to [−87, 88].
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    // ln 2 is split in two: the first part has few digits, so that its product with n is exact.
    let r = x - n * (355.0 / 512.0) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) << 23;
    f32::from_bits(p.to_bits().wrapping_add(exponent))
}

/// eˣ for x ≤ 0 with a relative error of 8e-5: a fitted polynomial for the fraction of the power of 2.
#[inline(always)]
fn short_exp(x: f32) -> f32 {
    const P: [f32; 4] = [0.055_171_67, 0.242_611_15, 0.693_261, 0.999_928_07];
    let x = (x * std::f32::consts::LOG2_E).clamp(-126.0, 126.0); // unlike `max`, keeps NaN
    let shifted = x + MAGIC;
    let r = x - (shifted - MAGIC);
    let p = ((P[0] * r + P[1]) * r + P[2]) * r + P[3];
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits().wrapping_sub(MAGIC.to_bits()) << 23))
}

/// Φ(x) of the normal distribution with an error of 2e-4 / x: a polynomial fitted on [−4, 4].
#[inline(always)]
fn short_phi(x: f32) -> f32 {
    const P: [f32; 7] =
        [2.278_143_3e-8, -1.598_601_8e-6, 4.795_550_5e-5, -8.140_153e-4, 8.772_387e-3, -6.457_311e-2, 3.978_833_5e-1];
    let t = x.clamp(-4.0, 4.0);
    let mut p = P[0];
    for c in &P[1..] {
        p = p * (t * t) + c;
    }
    t * p + 0.5
}

/// Φ(x) and √(2π) φ(x) of the normal distribution. Φ has an absolute error of 1.5e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z.abs());
    let p = 1.061_405_4 * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = (p * t + 0.254_829_6) * t;
    let bell = exp(-z * z);
    let tail = 0.5 * p * bell; // 1 − Φ(|x|)
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// GELU (arXiv 1606.08415), in place: y = x Φ(x). A `short` one is for operands of three digits.
#[inline(always)]
pub(crate) fn gelu(x: &mut [f32], short: bool) {
    for x in x.as_chunks_mut::<LANES>().0 {
        for x in x {
            *x *= if short { short_phi(*x) } else { normal(*x).0 };
        }
    }
}

/// As [`gelu`], with dy/dx = Φ(x) + x φ(x) in `slope`: the backward pass multiplies by it.
#[inline(always)]
pub(crate) fn gelu_slope(x: &mut [f32], slope: &mut [f32]) {
    let lanes = x.as_chunks_mut::<LANES>().0.iter_mut();
    for (x, slope) in lanes.zip(slope.as_chunks_mut::<LANES>().0) {
        for (x, slope) in x.iter_mut().zip(slope) {
            let (phi, bell) = normal(*x);
            *slope = phi + *x * bell * 0.398_942_3;
            *x *= phi;
        }
    }
}

/// sums += Σ d over the rows: [m, n] -> `[n]`
#[inline(always)]
pub(crate) fn add_column_sums(d: Mat, sums: &mut [f32]) {
    for row in d.iter() {
        for (sum, d) in sums.iter_mut().zip(row) {
            *sum += d;
        }
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

/// Softmax down the columns, in place: p = exp(s x) / Σ exp(s x) with the scale s, [m, width]; `width` is a multiple of 16.
#[inline(always)]
pub(crate) fn softmax_columns(x: &mut [f32], width: usize, scale: f32, short: bool) {
    for first in (0..width).step_by(LANES) {
        let mut highest = [f32::NEG_INFINITY; LANES];
        for row in x.chunks_exact(width) {
            for (highest, x) in highest.iter_mut().zip(&row[first..first + LANES]) {
                *highest = if *x > *highest { *x } else { *highest };
            }
        }
        let mut sums = [0.0f32; LANES];
        for row in x.chunks_exact_mut(width) {
            let row = &mut row[first..first + LANES];
            for i in 0..LANES {
                let below = (row[i] - highest[i]) * scale;
                row[i] = if short { short_exp(below) } else { exp(below) };
                sums[i] += row[i];
            }
        }
        let inverse = sums.map(|sum| 1.0 / sum);
        for row in x.chunks_exact_mut(width) {
            for (x, inverse) in row[first..first + LANES].iter_mut().zip(inverse) {
                *x *= inverse;
            }
        }
    }
}

/// dx = s p (d − Σ d p), with the sum down the column: d, the gradient of p, -> that of x, in place.
#[inline(always)]
pub(crate) fn softmax_columns_backward(d: &mut [f32], p: &[f32], width: usize, scale: f32) {
    for first in (0..width).step_by(LANES) {
        let range = first..first + LANES;
        let mut along = [0.0f32; LANES];
        for (d, p) in d.chunks_exact(width).zip(p.chunks_exact(width)) {
            let (d, p) = (&d[range.clone()], &p[range.clone()]);
            for i in 0..LANES {
                along[i] += d[i] * p[i];
            }
        }
        for (d, p) in d.chunks_exact_mut(width).zip(p.chunks_exact(width)) {
            let (d, p) = (&mut d[range.clone()], &p[range.clone()]);
            for i in 0..LANES {
                d[i] = scale * p[i] * (d[i] - along[i]);
            }
        }
    }
}

/// Attention (arXiv 1706.03762, equation 1) of one image, head by head, with D = E/H: P = softmax(K Qᵀ / √D) down the columns,
/// Y = Pᵀ V. q [Q, E], k and v [S, E] -> P, H × [S, padded Q], one column per query; y [m, E] of the first m queries
#[inline(always)]
pub(crate) fn attention<S: Simd>(
    simd: S,
    heads: usize,
    (q, k, v): (Mat, Mat, Mat),
    maps: &mut [f32],
    mut y: MatMut,
    room: &mut Room,
) {
    let ((queries, e), (tokens, _), (rows, _)) = (q.shape(), k.shape(), y.view().shape());
    let (d, columns) = (e / heads, queries.next_multiple_of(16));
    let width = S::Operand::count(d);
    let [q_room, k_room, v_room, p_room, ..] = &mut room.pairs;
    let (q, k) = (S::Operand::along(simd, q, q_room), S::Operand::along(simd, k, k_room));
    let v = S::Operand::down(simd, v, v_room);
    for (head, p) in maps.chunks_exact_mut(tokens * columns).take(heads).enumerate() {
        let q_t = S::Operand::buffer_mut(&mut room.transposed);
        transpose(q.cols(head * width, width), q_t.room(width, columns)); // [Q, D] -> [D, padded Q]
        let scores = MatMut::new(p, tokens, columns);
        multiply(simd, k.cols(head * width, width), q_t.mat(width, columns), Start::Zero, scores); // [S, D] · [D, Q]
        softmax_columns(p, columns, 1.0 / (d as f32).sqrt(), S::Operand::SHORT);
        let p = S::Operand::down(simd, Mat::new(p, tokens, columns), p_room);
        multiply(simd, p.t().rows(0, rows), v.cols(head * d, d), Start::Zero, y.cols(head * d, d)); // [m, S] · [S, D]
    }
}

/// dV = P dY, dP = V dYᵀ, dX = the softmax's gradient of dP, dK = dX Q, dQ = dXᵀ K, head by head: the derivative of the
/// products of [`attention`]. d_y [Q, E] -> d_q [Q, E], d_k and d_v [S, E]
#[inline(always)]
pub(crate) fn attention_backward<S: Simd>(
    simd: S,
    heads: usize,
    (q, k, v): (Mat, Mat, Mat),
    maps: &[f32],
    d_y: Mat,
    (mut d_q, mut d_k, mut d_v): (MatMut, MatMut, MatMut),
    room: &mut Room,
) {
    let ((queries, e), (tokens, _)) = (q.shape(), k.shape());
    let (d, columns) = (e / heads, queries.next_multiple_of(16));
    let (width, asking) = (S::Operand::count(d), S::Operand::count(queries));
    let [q_room, k_room, v_room, y_room, y_along_room, p_room, x_room, x_along_room] = &mut room.pairs;
    let (q, k) = (S::Operand::down(simd, q, q_room), S::Operand::down(simd, k, k_room));
    let (v, d_y_along) = (S::Operand::along(simd, v, v_room), S::Operand::along(simd, d_y, y_along_room));
    let d_y = S::Operand::down(simd, d_y, y_room);
    for (head, p) in maps.chunks_exact(tokens * columns).take(heads).enumerate() {
        let y_t = S::Operand::buffer_mut(&mut room.transposed);
        transpose(d_y_along.cols(head * width, width), y_t.room(width, columns)); // [Q, D] -> [D, padded Q]
        let (y_t, v) = (y_t.mat(width, columns), v.cols(head * width, width));
        multiply(simd, v, y_t, Start::Zero, room.d_map.room(tokens, columns)); // dP: [S, D] · [D, Q]
        softmax_columns_backward(&mut room.d_map[..p.len()], p, columns, 1.0 / (d as f32).sqrt());
        let (p, d_x) = (Mat::new(p, tokens, columns), room.d_map.mat(tokens, columns));
        let [d_q, d_k, d_v] = [&mut d_q, &mut d_k, &mut d_v].map(|m| m.cols(head * d, d));
        let p = S::Operand::along(simd, p, p_room).cols(0, asking);
        multiply(simd, p, d_y.cols(head * d, d), Start::Zero, d_v); // [S, Q] · [Q, D]
        let along = S::Operand::along(simd, d_x, x_along_room).cols(0, asking);
        multiply(simd, along, q.cols(head * d, d), Start::Zero, d_k); // [S, Q] · [Q, D]
        let d_x = S::Operand::down(simd, d_x, x_room).t().rows(0, queries);
        multiply(simd, d_x, k.cols(head * d, d), Start::Zero, d_q); // [Q, S] · [S, D]
    }
}
