//! Operations on the rows or columns of a matrix: layer norm, GELU, softmax and their gradients.
//!
//! The loops over 16 values compile to vector instructions of the caller's level.

pub(super) const LANES: usize = 16;

/// Added to the variance by norms, as in libtorch.
pub(super) const EPS: f32 = 1e-5;

/// Returns eˣ with a relative error of 2e-7 (polynomial of Cephes for e^r, r = x − n ln 2). Clamps x to [−87, 88].
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
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

/// tanh with an absolute error of 3e-7, in place.
#[inline(always)]
pub(super) fn tanh(x: &mut [f32]) {
    for x in x.as_chunks_mut::<LANES>().0 {
        for x in x {
            *x = 1.0 - 2.0 / (exp(2.0 * *x) + 1.0);
        }
    }
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

/// GELU x Φ(x) (arXiv 1606.08415), in place.
#[inline(always)]
pub(super) fn gelu(x: &mut [f32]) {
    for x in x.as_chunks_mut::<LANES>().0 {
        for x in x {
            *x *= normal(*x).0;
        }
    }
}

/// As [`gelu`]; writes the derivative Φ(x) + x φ(x) to `slope`.
#[inline(always)]
pub(super) fn gelu_slope(x: &mut [f32], slope: &mut [f32]) {
    let lanes = x.as_chunks_mut::<LANES>().0.iter_mut();
    for (x, slope) in lanes.zip(slope.as_chunks_mut::<LANES>().0) {
        for (x, slope) in x.iter_mut().zip(slope) {
            let (phi, bell) = normal(*x);
            *slope = phi + *x * bell * 0.398_942_3;
            *x *= phi;
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
pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let lanes = x.as_chunks::<LANES>().0.iter();
    for (x, y) in lanes.zip(y.as_chunks::<LANES>().0) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

/// Standardises the rows of `x` to mean 0 and variance 1 (`hat`, arXiv 1607.06450). `rstd` is 1/√(variance + ε) of a row.
#[inline(always)]
pub(super) fn standardise(x: &[f32], width: usize, hat: &mut [f32], rstd: &mut [f32]) {
    let rows = x.chunks_exact(width).zip(hat.chunks_exact_mut(width));
    for ((x, hat), rstd) in rows.zip(rstd) {
        let mean = sum(x, |x| x) / width as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
        *rstd = 1.0 / (variance + EPS).sqrt();
        for (hat, x) in hat.iter_mut().zip(x) {
            *hat = (x - mean) * *rstd;
        }
    }
}

/// Writes `hat` · `weight` + `bias` to `out`, row by row.
#[inline(always)]
pub(super) fn scale_shift(hat: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let width = weight.len();
    for (hat, out) in hat.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        for ((out, hat), (weight, bias)) in out.iter_mut().zip(hat).zip(weight.iter().zip(bias)) {
            *out = hat * weight + bias;
        }
    }
}

/// Backward pass of a layer norm. `d` is the gradient of its output. Adds the gradients of weight and bias to `d_weight`
/// and `d_bias`, and the gradient of the input to `into`.
#[inline(always)]
pub(super) fn layer_norm_backward(
    d: &mut [f32],
    (hat, rstd): (&[f32], &[f32]),
    weight: &[f32],
    (d_weight, d_bias): (&mut [f32], &mut [f32]),
    into: &mut [f32],
) {
    let width = weight.len();
    let rows = d.chunks_exact_mut(width).zip(hat.chunks_exact(width));
    for (((d, hat), rstd), into) in rows.zip(rstd).zip(into.chunks_exact_mut(width)) {
        let parameters = weight.iter().zip(d_weight.iter_mut().zip(d_bias.iter_mut()));
        for ((d, hat), (weight, (d_weight, d_bias))) in d.iter_mut().zip(hat).zip(parameters) {
            *d_weight += *d * hat;
            *d_bias += *d;
            *d *= weight;
        }
        let mean = sum(d, |d| d) / width as f32;
        let along = dot(d, hat) / width as f32;
        for ((into, d), hat) in into.iter_mut().zip(d.iter()).zip(hat) {
            *into += *rstd * (d - mean - hat * along);
        }
    }
}

/// Adds the rows of `d`, which start `row` elements apart, to `sums`.
#[inline(always)]
pub(super) fn add_column_sums(d: &[f32], row: usize, sums: &mut [f32]) {
    for row in d.chunks(row) {
        for (sum, d) in sums.iter_mut().zip(row) {
            *sum += d;
        }
    }
}

/// x *= y
#[inline(always)]
pub(super) fn multiply(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// x += y
#[inline(always)]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Softmax of `scale` · x along each column, in place. `width` is a multiple of 16.
#[inline(always)]
pub(super) fn softmax_columns(x: &mut [f32], width: usize, scale: f32) {
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
                row[i] = exp((row[i] - highest[i]) * scale);
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

/// Backward pass of [`softmax_columns`]: turns the gradient `d` of its output `p` into that of its input, in place.
#[inline(always)]
pub(super) fn softmax_columns_backward(d: &mut [f32], p: &[f32], width: usize, scale: f32) {
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

/// Transposes the first `columns` columns of `rows` rows, which start `row` elements apart: -> [columns, width], padded
/// with zeros.
#[inline(always)]
pub(super) fn transpose(x: &[f32], (rows, row): (usize, usize), columns: usize, out: &mut [f32], width: usize) {
    for (column, out) in out.chunks_exact_mut(width).take(columns).enumerate() {
        for (out, x) in out[..rows].iter_mut().zip(x[column..].chunks(row)) {
            *out = x[0];
        }
        out[rows..].fill(0.0);
    }
}
