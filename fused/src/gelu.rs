//! Exponential and GELU, each also in a short form for operands of three digits (bfloat16). The loops over 16 values
//! compile to vector instructions of the caller's level.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use crate::layers::LANES;

/// A polynomial in x; the coefficient of the highest power comes first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut p = coefficients[0];
    for c in &coefficients[1..] {
        p = p * x + c;
    }
    p
}

/// 1.5 · 2²³: adding it rounds to an integer.
const MAGIC: f32 = 12_582_912.0;

/// p · 2ⁿ for n = `shifted` − [`MAGIC`]
#[inline(always)]
fn times_power(p: f32, shifted: f32) -> f32 {
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits().wrapping_sub(MAGIC.to_bits()) << 23))
}

/// Returns eˣ with a relative error of 2e-7 (polynomial of Cephes for e^r, r = x − n ln 2). Clamps x to [−87, 88].
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const P: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    // ln 2 is split in two: the first part has few digits, so that its product with n is exact.
    let r = x - n * (355.0 / 512.0) + n * 2.121_944_4e-4;
    times_power(polynomial(r, P) * r * r + r + 1.0, shifted)
}

/// eˣ for x ≤ 0 with a relative error of 8e-5: a fitted polynomial for the fraction of the power of 2.
#[inline(always)]
pub(crate) fn short_exp(x: f32) -> f32 {
    let x = (x * LOG2_E).clamp(-126.0, 126.0); // unlike `max`, keeps NaN
    let shifted = x + MAGIC;
    let r = x - (shifted - MAGIC);
    times_power(polynomial(r, [0.055_171_67, 0.242_611_15, 0.693_261, 0.999_928_07]), shifted)
}

/// Φ(x) and √(2π) φ(x) of the normal distribution. Φ has an absolute error of 1.5e-7 (Abramowitz and Stegun 7.1.26), in
/// the short form of 2e-4 / x (a polynomial fitted on [−4, 4]).
#[inline(always)]
fn normal(x: f32, short: bool) -> (f32, f32) {
    const SHORT: [f32; 7] =
        [2.278_143_3e-8, -1.598_601_8e-6, 4.795_550_5e-5, -8.140_153e-4, 8.772_387e-3, -6.457_311e-2, 3.978_833_5e-1];
    const P: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    if short {
        let t = x.clamp(-4.0, 4.0);
        return (t * polynomial(t * t, SHORT) + 0.5, short_exp(-0.5 * x * x));
    }
    let z = x * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z.abs());
    let bell = exp(-z * z);
    let tail = 0.5 * (polynomial(t, P) * t) * bell; // 1 − Φ(|x|)
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// GELU (arXiv 1606.08415), in place: y = x Φ(x).
#[inline(always)]
pub(crate) fn gelu(x: &mut [f32], short: bool) {
    for x in x.as_chunks_mut::<LANES>().0 {
        for x in x {
            *x *= normal(*x, short).0;
        }
    }
}

/// As [`gelu`], with dy/dx = Φ(x) + x φ(x) in `slope`: the backward pass multiplies by it.
#[inline(always)]
pub(crate) fn gelu_slope(x: &mut [f32], slope: &mut [f32], short: bool) {
    let lanes = x.as_chunks_mut::<LANES>().0.iter_mut();
    for (x, slope) in lanes.zip(slope.as_chunks_mut::<LANES>().0) {
        for (x, slope) in x.iter_mut().zip(slope) {
            let (phi, bell) = normal(*x, short);
            *slope = phi + *x * bell * 0.398_942_3;
            *x *= phi;
        }
    }
}
