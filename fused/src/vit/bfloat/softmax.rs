//! The softmax of bfloat16 predictions, between two products. The first product computes its powers ([`Powers`](super::product::Powers)).

use std::arch::x86_64::*;

use super::pairs::{Pair, across};
use crate::cpu::operations;

/// Returns 2ˣ with a relative error of 8e-5. A fitted polynomial gives 2^r for the fraction r in [−½, ½].
#[inline(always)]
pub(super) unsafe fn power(x: __m512) -> __m512 {
    const P: [f32; 4] = [0.055_171_67, 0.242_611_15, 0.693_261, 0.999_928_07];
    unsafe {
        let r = _mm512_reduce_ps::<0>(x);
        let mut p = _mm512_set1_ps(P[0]);
        for c in &P[1..] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*c));
        }
        _mm512_scalef_ps(p, _mm512_sub_ps(x, r))
    }
}

/// Fuses the attention of a head with that of the heads before.
pub(super) trait Fuse {
    /// # Safety
    /// The CPU must have AVX-512, and `to` must be valid for 16 values.
    unsafe fn fuse(to: *mut f32, share: __m512);
}

/// Fuses nothing.
pub(super) struct Alone;
/// Overwrites the matrix with the attention of the first head. `Add`, `Max` and `Min` fuse the other heads with it.
pub(super) struct Set;
pub(super) struct Add;
pub(super) struct Max;
pub(super) struct Min;

impl Fuse for Alone {
    operations! { fuse(_: *mut f32, _: __m512) = {}; }
}
impl Fuse for Set {
    operations! { fuse(to: *mut f32, share: __m512) = _mm512_storeu_ps(to, share); }
}
impl Fuse for Add {
    operations! { fuse(to: *mut f32, share: __m512) = _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), share)); }
}
impl Fuse for Max {
    operations! { fuse(to: *mut f32, share: __m512) = _mm512_storeu_ps(to, _mm512_max_ps(_mm512_loadu_ps(to), share)); }
}
impl Fuse for Min {
    operations! { fuse(to: *mut f32, share: __m512) = _mm512_storeu_ps(to, _mm512_min_ps(_mm512_loadu_ps(to), share)); }
}

/// Reciprocal of the sum of each column of powers: [keys, columns] -> [columns], a multiple of 16.
///
/// Returns whether the sums are in the range in which the softmax is exact. Without subtracting a column's largest score
/// first, powers can overflow or underflow float32.
pub(super) fn inverse_sums(powers: &[f32], columns: usize, inverse: &mut [f32]) -> bool {
    assert!(columns.is_multiple_of(16) && powers.len() >= columns);
    assert!(powers.len().is_multiple_of(columns) && inverse.len() >= columns);
    // SAFETY: the lengths are checked above.
    unsafe { invert_sums(powers, columns, inverse.as_mut_ptr()) }
}

#[target_feature(enable = "avx512f")]
unsafe fn invert_sums(powers: &[f32], columns: usize, inverse: *mut f32) -> bool {
    const SMALL: f32 = f32::from_bits((127 - 60) << 23); // 2^-60
    let mut exact = true;
    for first in (0..columns).step_by(16) {
        unsafe {
            let load = |row: &[f32]| _mm512_loadu_ps(row.as_ptr().add(first));
            // Two sums shorten the chain of dependent additions.
            let mut sums = [_mm512_setzero_ps(); 2];
            let mut rows = powers.chunks_exact(2 * columns);
            for rows in &mut rows {
                sums[0] = _mm512_add_ps(sums[0], load(rows));
                sums[1] = _mm512_add_ps(sums[1], load(&rows[columns..]));
            }
            if !rows.remainder().is_empty() {
                sums[0] = _mm512_add_ps(sums[0], load(rows.remainder()));
            }
            let sum = _mm512_add_ps(sums[0], sums[1]);
            let large = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sum, _mm512_set1_ps(1.0 / SMALL));
            let both = large & _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sum, _mm512_set1_ps(SMALL));
            exact &= both == 0xffff;
            _mm512_storeu_ps(inverse.add(first), _mm512_div_ps(_mm512_set1_ps(1.0), sum));
        }
    }
    exact
}

/// Multiplies the columns of `powers` by `inverse`. Writes the result in pairs of rows, [keys / 2 rounded up, columns], and
/// fuses it with the matrix `fused` [keys, columns], which is empty for [`Alone`].
pub(super) fn scale_columns<F: Fuse>(
    powers: &[f32],
    columns: usize,
    inverse: &[f32],
    out: &mut [Pair],
    fused: &mut [f32],
) {
    let keys = powers.len() / columns;
    assert!(columns.is_multiple_of(16) && powers.len() == keys * columns);
    assert!(inverse.len() >= columns && out.len() >= keys.div_ceil(2) * columns);
    assert!(fused.is_empty() || fused.len() >= powers.len());
    // SAFETY: the lengths are checked above.
    unsafe { scale::<F>(powers, (keys, columns), inverse, out, fused) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn scale<F: Fuse>(
    powers: &[f32],
    (keys, columns): (usize, usize),
    inverse: &[f32],
    out: &mut [Pair],
    fused: &mut [f32],
) {
    let (powers, inverse, out, fused) = (powers.as_ptr(), inverse.as_ptr(), out.as_mut_ptr(), fused.as_mut_ptr());
    for first in (0..columns).step_by(16) {
        unsafe {
            let inverse = _mm512_loadu_ps(inverse.add(first));
            let share = |key: usize| {
                let at = key * columns + first;
                let share = _mm512_mul_ps(_mm512_loadu_ps(powers.add(at)), inverse);
                F::fuse(fused.wrapping_add(at), share);
                share
            };
            for pair in 0..keys / 2 {
                let pairs = across(share(2 * pair), share(2 * pair + 1));
                _mm512_storeu_si512(out.add(pair * columns + first).cast(), pairs);
            }
            if !keys.is_multiple_of(2) {
                let pairs = across(share(keys - 1), _mm512_setzero_ps());
                _mm512_storeu_si512(out.add(keys / 2 * columns + first).cast(), pairs);
            }
        }
    }
}

/// Subtracts each column's largest value, then replaces x by 2ˣ: [keys, columns].
pub(super) fn powers_below_largest(x: &mut [f32], columns: usize) {
    assert!(columns.is_multiple_of(16) && x.len().is_multiple_of(columns));
    for first in (0..columns).step_by(16) {
        // SAFETY: the lengths are checked above.
        unsafe { below_largest(x.as_mut_ptr().add(first), (x.len() / columns, columns)) }
    }
}

#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn below_largest(x: *mut f32, (keys, columns): (usize, usize)) {
    unsafe {
        let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
        for key in 0..keys {
            largest = _mm512_max_ps(_mm512_loadu_ps(x.add(key * columns)), largest);
        }
        for key in 0..keys {
            let at = x.add(key * columns);
            _mm512_storeu_ps(at, power(_mm512_sub_ps(_mm512_loadu_ps(at), largest)));
        }
    }
}
