//! Levels of x86-64 processors, and operands in bfloat16.
//!
//! An operand in bfloat16 has 32 bits, as one in float32: a pair of neighbours along the summed axis of a product, the first
//! in the lower half. Matrices of pairs have the type of other matrices, because a register loads them alike.

use std::arch::x86_64::*;

use super::{Operation, Simd, token};
use crate::mat::{Buffer, Mat};

token! {
    /// AVX2 and FMA.
    Avx2, Avx2, __m256, 8, 2, ["avx2,fma"],
    () splat(x: f32) -> __m256 = _mm256_set1_ps(x);
    () add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
    () sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
    () mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
    () fma(sum: __m256, a: __m256, b: __m256) -> __m256 = _mm256_fmadd_ps(a, b, sum);
    () sum(x: __m256) -> f32 = {
        let fours = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let twos = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));
        _mm_cvtss_f32(_mm_add_ss(twos, _mm_movehdup_ps(twos)))
    };
    (unsafe) load(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
    (unsafe) store(x: __m256, to: *mut f32) -> () = _mm256_storeu_ps(to, x);
}

/// Defines a token of a level with AVX-512.
macro_rules! avx512 {
    ($(#[$doc:meta])* $token:ident, $features:literal, { $($more:tt)* }) => {
        token! {
            $(#[$doc])*
            $token, Avx512, __m512, 16, 4, [$features],
            () splat(x: f32) -> __m512 = _mm512_set1_ps(x);
            () add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
            () sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
            () mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
            () fma(sum: __m512, a: __m512, b: __m512) -> __m512 = _mm512_fmadd_ps(a, b, sum);
            () sum(x: __m512) -> f32 = _mm512_reduce_add_ps(x);
            (unsafe) load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
            (unsafe) store(x: __m512, to: *mut f32) -> () = _mm512_storeu_ps(to, x);
            { $($more)* }
        }
    };
}

avx512!(
    /// AVX-512.
    Avx512, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma", {}
);

/// Order of the halves of two registers, lane by lane.
const ALTERNATING: [u16; 32] = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = (i / 2 + i % 2 * 16) as u16;
        i += 1;
    }
    order
};

avx512!(
    /// AVX-512 with bfloat16 products.
    Bfloat16, "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma", {
        const VALUES: usize = 2;

        /// Adds both products of each pair, in float32: sum + a₀ · b₀ + a₁ · b₁.
        #[inline(always)]
        fn multiply_add(self, sum: __m512, a: f32, b: __m512) -> __m512 {
            // SAFETY: the token exists, so the CPU has the instruction; all these types are 64 bytes of plain values.
            unsafe {
                let [a, b] = std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([_mm512_set1_ps(a), b]);
                _mm512_dpbf16_ps(sum, a, b)
            }
        }

        /// Rounds a left operand, summed along its rows: [m, k] -> [m, k/2]; k is a multiple of 16.
        #[inline(always)]
        fn along<'a>(self, x: Mat<'a>, room: &'a mut Buffer) -> Mat<'a> {
            let (rows, cols) = x.shape();
            assert!(cols.is_multiple_of(16));
            let mut out = room.room(rows, cols / 2);
            for (row, out) in x.iter().zip(out.iter_mut()) {
                for (values, out) in row.chunks_exact(16).zip(out.chunks_exact_mut(8)) {
                    // SAFETY: the token exists, so the CPU has the instructions; the chunks are 16 values and 8 pairs.
                    unsafe {
                        let pairs = _mm512_cvtneps_pbh(self.load(values.as_ptr()));
                        _mm256_storeu_ps(out.as_mut_ptr(), std::mem::transmute::<__m256bh, __m256>(pairs));
                    }
                }
            }
            out.into_view()
        }

        /// Rounds a right operand, summed down its columns: [k, n] -> [k/2, n], rounded up; n is a multiple of 16.
        #[inline(always)]
        fn down<'a>(self, x: Mat<'a>, room: &'a mut Buffer) -> Mat<'a> {
            let (rows, cols) = x.shape();
            assert!(cols.is_multiple_of(16));
            let mut out = room.room(rows.div_ceil(2), cols);
            let mut x = x.iter();
            for out in out.iter_mut() {
                let (first, second) = (x.next().expect("a row for each pair"), x.next());
                for (j, out) in out.chunks_exact_mut(16).enumerate() {
                    // SAFETY: the token exists, so the CPU has the instructions; the rows are as long as `out`'s. The types
                    // are 64 bytes of plain values.
                    unsafe {
                        let first = self.load(first.as_ptr().add(16 * j));
                        let second = second.map_or(self.splat(0.0), |row| self.load(row.as_ptr().add(16 * j)));
                        let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                        let order = std::mem::transmute::<[u16; 32], __m512i>(ALTERNATING);
                        self.store(_mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both)), out.as_mut_ptr());
                    }
                }
            }
            out.into_view()
        }
    }
);
