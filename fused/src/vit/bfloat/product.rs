//! Products of pairs. Each kind of product converts its sums before storing them.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::pairs::Pair;
use super::softmax::power;
use crate::cpu::{CpuLevel, Vector};
use crate::matmul::{Kernel, Product};

/// Conversion of the sums of a product.
pub(super) trait Finish: Copy {
    type Result: Copy;
    const COLUMNS: usize;
    unsafe fn finish(sums: __m512, to: *mut f32);
}

/// Product of pairs.
pub(super) struct Products<F>(PhantomData<F>);
/// Stores the float32 sums.
pub(super) type Summed = Products<AsFloats>;
/// Stores powers of 2 of the sums.
pub(super) type Powers = Products<AsPowers>;
/// Stores the sums as pairs of neighbouring columns: a left operand of another product.
pub(super) type Rounded = Products<AsPairs>;
/// As [`Rounded`], after GELU.
pub(super) type Activated = Products<AsActivations>;

#[derive(Clone, Copy)]
pub(super) struct AsFloats;
#[derive(Clone, Copy)]
pub(super) struct AsPowers;
#[derive(Clone, Copy)]
pub(super) struct AsPairs;
#[derive(Clone, Copy)]
pub(super) struct AsActivations;

impl Finish for AsFloats {
    type Result = f32;
    const COLUMNS: usize = 1;

    #[inline(always)]
    unsafe fn finish(sums: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, sums) }
    }
}

impl Finish for AsPowers {
    type Result = f32;
    const COLUMNS: usize = 1;

    #[inline(always)]
    unsafe fn finish(sums: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, power(sums)) }
    }
}

impl Finish for AsPairs {
    type Result = Pair;
    const COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn finish(sums: __m512, to: *mut f32) {
        unsafe { to.cast::<__m256bh>().write_unaligned(_mm512_cvtneps_pbh(sums)) }
    }
}

impl Finish for AsActivations {
    type Result = Pair;
    const COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn finish(sums: __m512, to: *mut f32) {
        unsafe { AsPairs::finish(gelu(sums), to) }
    }
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

impl<F: Finish> Kernel for Products<F> {
    type Operand = Pair;
    type Result = F::Result;
    const COLUMNS: usize = F::COLUMNS;

    unsafe fn multiply(_: CpuLevel, product: Product, m: usize, n: usize) {
        unsafe { in_tiles::<F>(product, m, n) }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx512bf16")]
unsafe fn in_tiles<F: Finish>(product: Product, m: usize, n: usize) {
    unsafe { product.columns::<Sixteen<F>>(m, n) }
}

/// A register of sixteen float32 sums, or of sixteen pairs.
#[derive(Clone, Copy)]
struct Sixteen<F>(__m512, PhantomData<F>);

impl<F: Finish> Vector for Sixteen<F> {
    const LANES: usize = 16;
    const TILE: usize = 4;
    const FINISHED: usize = 16 / F::COLUMNS;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Sixteen(__m512::splat(x), PhantomData) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Sixteen(__m512::load(from), PhantomData) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { self.0.store(to) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Sixteen(self.0.add(other.0), PhantomData) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Sixteen(self.0.sub(other.0), PhantomData) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Sixteen(self.0.mul(other.0), PhantomData) }
    }
    /// Returns self plus both products of each pair of `a` and `b`.
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        unsafe {
            let [a, b]: [__m512bh; 2] = std::mem::transmute([a.0, b.0]);
            Sixteen(_mm512_dpbf16_ps(self.0, a, b), PhantomData)
        }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { self.0.sum() }
    }
    #[inline(always)]
    unsafe fn finish(self, to: *mut f32) {
        unsafe { F::finish(self.0, to) }
    }
}
