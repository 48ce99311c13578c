//! Layer norm whose output is a left operand of a product.

use std::arch::x86_64::*;

use super::pairs::Pair;
use crate::layers::EPS;

/// Layer norm (arXiv 1607.06450) of the rows of `x`, after adding `add` to `x`: [rows, E] -> [rows, E / 2]. E is a multiple
/// of 32.
pub(super) fn layer_norm(x: &mut [f32], add: Option<&[f32]>, (weight, bias): (&[f32], &[f32]), out: &mut [Pair]) {
    let e = weight.len();
    assert!(e > 0 && e.is_multiple_of(32) && bias.len() == e);
    assert!(x.len().is_multiple_of(e) && out.len() >= x.len() / 2);
    if let Some(add) = add {
        assert!(add.len() >= x.len());
    }
    let add = add.map_or(std::ptr::null(), <[f32]>::as_ptr);
    // SAFETY: the lengths are checked above.
    unsafe { norm_rows(x, add, (weight, bias), out.as_mut_ptr()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn norm_rows(x: &mut [f32], add: *const f32, (weight, bias): (&[f32], &[f32]), out: *mut Pair) {
    let (weight, bias, e) = (weight.as_ptr(), bias.as_ptr(), weight.len());
    for (i, x) in x.chunks_exact_mut(e).enumerate() {
        let x = x.as_mut_ptr();
        // The default width is a constant, so that a row stays in registers.
        unsafe {
            match e {
                64 => norm_row(x, add, i, (weight, bias), out, 64),
                _ => norm_row(x, add, i, (weight, bias), out, e),
            }
        }
    }
}

#[inline(always)]
unsafe fn norm_row(
    x: *mut f32,
    add: *const f32,
    row: usize,
    (weight, bias): (*const f32, *const f32),
    out: *mut Pair,
    e: usize,
) {
    unsafe {
        let mut sum = _mm512_setzero_ps();
        for j in (0..e).step_by(16) {
            let mut v = _mm512_loadu_ps(x.add(j));
            if !add.is_null() {
                v = _mm512_add_ps(v, _mm512_loadu_ps(add.add(row * e + j)));
                _mm512_storeu_ps(x.add(j), v);
            }
            sum = _mm512_add_ps(sum, v);
        }
        let mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / e as f32);
        let mut squares = _mm512_setzero_ps();
        for j in (0..e).step_by(16) {
            let v = _mm512_sub_ps(_mm512_loadu_ps(x.add(j)), mean);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        let variance = _mm512_reduce_add_ps(squares) / e as f32;
        let rstd = _mm512_set1_ps(1.0 / (variance + EPS).sqrt());
        for j in (0..e).step_by(32) {
            let mut normed = [mean; 2];
            for (i, normed) in normed.iter_mut().enumerate() {
                let j = j + 16 * i;
                let v = _mm512_sub_ps(_mm512_loadu_ps(x.add(j)), mean);
                let v = _mm512_mul_ps(v, rstd);
                let weight = _mm512_loadu_ps(weight.add(j));
                *normed = _mm512_fmadd_ps(v, weight, _mm512_loadu_ps(bias.add(j)));
            }
            let to = out.add((row * e + j) / 2).cast::<__m512bh>();
            to.write_unaligned(_mm512_cvtne2ps_pbh(normed[1], normed[0]));
        }
    }
}
