//! Conversion of float32 to operands of bfloat16 products.

use std::arch::x86_64::*;

/// Two bfloat16 neighbours along the summed axis; the first is the lower half.
pub(in crate::vit) type Pair = u32;

/// Rounds rows and pairs each two of them: [k, columns], whose rows start `row` elements apart, -> [k / 2 rounded up,
/// columns]. If k is odd, the last row is paired with zeros. `columns` is a multiple of 16.
pub(super) fn pairs_of_rows(x: &[f32], (k, row): (usize, usize), columns: usize, out: &mut [Pair]) {
    assert!(k > 0 && columns.is_multiple_of(16));
    assert!((k - 1) * row + columns <= x.len() && k.div_ceil(2) * columns <= out.len());
    // SAFETY: the lengths are checked above.
    unsafe { pair_rows(x.as_ptr(), (k, row), columns, out.as_mut_ptr()) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pair_rows(x: *const f32, (k, row): (usize, usize), columns: usize, out: *mut Pair) {
    for i in 0..k.div_ceil(2) {
        for j in (0..columns).step_by(16) {
            unsafe {
                let first = _mm512_loadu_ps(x.add(2 * i * row + j));
                let second =
                    if 2 * i + 1 < k { _mm512_loadu_ps(x.add((2 * i + 1) * row + j)) } else { _mm512_setzero_ps() };
                _mm512_storeu_si512(out.add(i * columns + j).cast(), across(first, second));
            }
        }
    }
}

/// Rounds two vectors. Pair i of the result holds value i of the first and value i of the second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn across(first: __m512, second: __m512) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: both are 64 bytes.
    unsafe {
        let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
        let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
        _mm512_permutexvar_epi16(order, both)
    }
}

/// [rows, width] -> [width, columns], zero beyond `rows`. `width` and `columns` are multiples of 16.
pub(super) fn transpose(x: &[Pair], (rows, width): (usize, usize), columns: usize, out: &mut [Pair]) {
    assert!(width.is_multiple_of(16) && columns.is_multiple_of(16) && columns >= rows);
    assert!(rows * width <= x.len() && width * columns <= out.len());
    for first in (0..columns).step_by(16) {
        for column in (0..width).step_by(16) {
            // SAFETY: the lengths are checked above.
            unsafe {
                let from = x.as_ptr().wrapping_add(first * width + column);
                let to = out.as_mut_ptr().add(column * columns + first);
                transpose_tile(from, (rows.saturating_sub(first), width), columns, to);
            }
        }
    }
}

/// Transposes 16 × 16 pairs. Rows from `rows` on count as zeros.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_tile(x: *const Pair, (rows, row): (usize, usize), columns: usize, out: *mut Pair) {
    unsafe {
        let mut r = [_mm512_setzero_si512(); 16];
        for (i, r) in r.iter_mut().enumerate().take(rows) {
            *r = _mm512_loadu_si512(x.add(i * row).cast());
        }
        // Lane l of u[4i + j] holds column 4l + j of rows 4i to 4i + 3.
        let mut u = [_mm512_setzero_si512(); 16];
        for i in (0..16).step_by(4) {
            let low = [0, 2].map(|k| _mm512_unpacklo_epi32(r[i + k], r[i + k + 1]));
            let high = [0, 2].map(|k| _mm512_unpackhi_epi32(r[i + k], r[i + k + 1]));
            u[i] = _mm512_unpacklo_epi64(low[0], low[1]);
            u[i + 1] = _mm512_unpackhi_epi64(low[0], low[1]);
            u[i + 2] = _mm512_unpacklo_epi64(high[0], high[1]);
            u[i + 3] = _mm512_unpackhi_epi64(high[0], high[1]);
        }
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        for j in 0..4 {
            let lanes = [
                _mm512_shuffle_i32x4::<EVEN>(u[j], u[4 + j]),
                _mm512_shuffle_i32x4::<EVEN>(u[8 + j], u[12 + j]),
                _mm512_shuffle_i32x4::<ODD>(u[j], u[4 + j]),
                _mm512_shuffle_i32x4::<ODD>(u[8 + j], u[12 + j]),
            ];
            for (l, column) in [
                _mm512_shuffle_i32x4::<EVEN>(lanes[0], lanes[1]),
                _mm512_shuffle_i32x4::<EVEN>(lanes[2], lanes[3]),
                _mm512_shuffle_i32x4::<ODD>(lanes[0], lanes[1]),
                _mm512_shuffle_i32x4::<ODD>(lanes[2], lanes[3]),
            ]
            .into_iter()
            .enumerate()
            {
                _mm512_storeu_si512(out.add((4 * l + j) * columns).cast(), column);
            }
        }
    }
}
