//! Products of pairs. Each kind of product converts its sums before storing them.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::pairs::Pair;
use super::softmax::power;
use crate::cpu::{CpuLevel, Register, operations};
use crate::matmul::{Kernel, Product};

/// Conversion of the sums of a product of pairs.
pub(crate) trait Finish: Copy {
    type Result: Copy;
    const COLUMNS: usize;
    unsafe fn finish(sums: __m512, to: *mut f32);
}

/// Stores the float32 sums.
#[derive(Clone, Copy)]
pub(super) struct Summed;
/// Stores powers of 2 of the sums.
#[derive(Clone, Copy)]
pub(super) struct Powers;
/// Stores the sums as pairs of neighbouring columns: a left operand of another product.
#[derive(Clone, Copy)]
pub(super) struct Rounded;
/// As [`Rounded`], after GELU.
#[derive(Clone, Copy)]
pub(super) struct Activated;

impl Finish for Summed {
    type Result = f32;
    const COLUMNS: usize = 1;
    operations! { finish(sums: __m512, to: *mut f32) = _mm512_storeu_ps(to, sums); }
}

impl Finish for Powers {
    type Result = f32;
    const COLUMNS: usize = 1;
    operations! { finish(sums: __m512, to: *mut f32) = _mm512_storeu_ps(to, power(sums)); }
}

impl Finish for Rounded {
    type Result = Pair;
    const COLUMNS: usize = 2;
    operations! { finish(sums: __m512, to: *mut f32) = to.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(sums)); }
}

impl Finish for Activated {
    type Result = Pair;
    const COLUMNS: usize = 2;
    operations! { finish(sums: __m512, to: *mut f32) = Rounded::finish(gelu(sums), to); }
}

/// GELU x Φ(x) with an error of 2e-4. Φ is a polynomial fitted on [−4, 4].
#[inline(always)]
unsafe fn gelu(x: __m512) -> __m512 {
    const P: [f32; 7] =
        [2.278_143_3e-8, -1.598_601_8e-6, 4.795_550_5e-5, -8.140_153e-4, 8.772_387e-3, -6.457_311e-2, 3.978_833_5e-1];
    unsafe {
        let t = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-4.0)), _mm512_set1_ps(4.0));
        let u = _mm512_mul_ps(t, t);
        let mut p = _mm512_set1_ps(P[0]);
        for c in &P[1..] {
            p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(*c));
        }
        _mm512_mul_ps(x, _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5)))
    }
}

impl<F: Finish> Kernel for F {
    type Operand = Pair;
    type Result = F::Result;
    const COLUMNS: usize = F::COLUMNS;

    unsafe fn multiply(_: CpuLevel, product: Product) {
        #[target_feature(enable = "avx512f,avx512dq,avx512bf16")]
        unsafe fn in_tiles<F: Finish>(product: Product) {
            unsafe { product.columns::<Sixteen<F>>() }
        }
        unsafe { in_tiles::<F>(product) }
    }
}

/// A register of sixteen float32 sums, or of sixteen pairs.
#[derive(Clone, Copy)]
struct Sixteen<F>(__m512, PhantomData<F>);

impl<F: Finish> Register for Sixteen<F> {
    const LANES: usize = 16;
    const TILE: usize = 4;
    const STORED: usize = 16 / F::COLUMNS;

    operations! {
        splat(x: f32) -> Self = Sixteen(__m512::splat(x), PhantomData);
        load(from: *const f32) -> Self = Sixteen(__m512::load(from), PhantomData);
        store(self, to: *mut f32) = F::finish(self.0, to);
        // Adds both products of each pair.
        fma(self, a: Self, b: Self) -> Self = {
            let [a, b]: [__m512bh; 2] = std::mem::transmute([a.0, b.0]);
            Sixteen(_mm512_dpbf16_ps(self.0, a, b), PhantomData)
        };
    }
}
