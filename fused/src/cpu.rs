//! CPU levels: found at run time, chosen once at the top of a pass, and known by type below it.
//!
//! A pass is generic over [`Simd`]. The value of such a type is a token: it exists only on a CPU that has the level, because
//! [`CpuLevel::level`] alone makes it. So functions with a token may use the level's instructions, and they are safe.
//! [`dispatch!`] calls the pass for the level's token; nothing below chooses again.
//!
//! The `pulp` crate works the same way. It has no bfloat16 product, and its portable level multiplies and adds by calls to
//! the C library.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::mat::{Operand, Pair};
use crate::{Error, Result};

/// Vector instructions that the engine uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CpuLevel {
    /// Vectors of 4 values, on any CPU.
    Portable,
    /// Vectors of 8 values, 16 registers.
    Avx2,
    /// Vectors of 16 values, 32 registers.
    Avx512,
}

impl CpuLevel {
    /// The highest level of this CPU.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
            let whole = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq");
            return if wide && whole { CpuLevel::Avx512 } else { CpuLevel::Avx2 };
        }
        CpuLevel::Portable
    }

    /// All levels of this CPU, the lowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let highest = CpuLevel::detect();
        [CpuLevel::Portable, CpuLevel::Avx2, CpuLevel::Avx512].into_iter().filter(move |level| *level <= highest)
    }

    /// The level's token, if this CPU has the level.
    pub(crate) fn level(self) -> Result<Level> {
        if self > CpuLevel::detect() {
            return Err(Error(format!("this processor has no {self:?}")));
        }
        Ok(match self {
            #[cfg(target_arch = "x86_64")]
            CpuLevel::Avx512 => Level::Avx512(Avx512(())),
            #[cfg(target_arch = "x86_64")]
            CpuLevel::Avx2 => Level::Avx2(Avx2(())),
            _ => Level::Portable(Portable(())),
        })
    }
}

/// A level that this CPU has, with its token.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Bfloat16(Bfloat16),
}

impl Level {
    /// The same vectors with bfloat16 products, on CPUs with AVX512-BF16 (Intel since Cooper Lake, AMD since Zen 4).
    pub fn with_bfloat16(self) -> Option<Self> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) if is_x86_feature_detected!("avx512bf16") => Some(Level::Bfloat16(Bfloat16(()))),
            _ => None,
        }
    }

    pub fn is_bfloat16(self) -> bool {
        !matches!(self, Level::Portable(_) | Level::Avx2(_) | Level::Avx512(_))
    }
}

/// Evaluates an expression in which `$simd` is the level's token.
macro_rules! dispatch {
    ($level:expr, $simd:ident => $value:expr) => {
        match $level {
            $crate::cpu::Level::Portable($simd) => $value,
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::Level::Avx2($simd) => $value,
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::Level::Avx512($simd) => $value,
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::Level::Bfloat16($simd) => $value,
        }
    };
}
pub(crate) use dispatch;

/// Token of a level: proof that this CPU has it. Its methods are the operations on the level's registers.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A register of [`Simd::LANES`] float32 values.
    type Register: Copy;
    /// Type of the operands of products in the blocks of a Vision Transformer.
    type Operand: Operand<Self>;
    const LANES: usize;
    /// Registers in a row of a product's tile.
    const TILE: usize;

    /// Calls the operation, compiled for this level.
    fn run<O: Operation<Self>>(self, operation: O) -> O::Output;
    fn splat(self, x: f32) -> Self::Register;
    fn add(self, a: Self::Register, b: Self::Register) -> Self::Register;
    fn sub(self, a: Self::Register, b: Self::Register) -> Self::Register;
    fn mul(self, a: Self::Register, b: Self::Register) -> Self::Register;
    /// sum + a · b
    fn fma(self, sum: Self::Register, a: Self::Register, b: Self::Register) -> Self::Register;
    /// Sum of the lanes.
    fn sum(self, x: Self::Register) -> f32;
    /// # Safety
    /// The pointer must be valid for reading `LANES` values.
    unsafe fn load(self, from: *const f32) -> Self::Register;
    /// # Safety
    /// The pointer must be valid for writing `LANES` values.
    unsafe fn store(self, x: Self::Register, to: *mut f32);

    /// sum + a · x with a constant a
    #[inline(always)]
    fn plus(self, sum: Self::Register, a: f32, x: Self::Register) -> Self::Register {
        self.fma(sum, self.splat(a), x)
    }

    /// a · x with a constant a
    #[inline(always)]
    fn scale(self, a: f32, x: Self::Register) -> Self::Register {
        self.mul(self.splat(a), x)
    }
}

/// An operation that is compiled for a level. `call` and the functions that it calls must be `#[inline(always)]`: so they
/// become a part of [`Simd::run`]. A closure would not do, because it can't be forced inline.
pub(crate) trait Operation<S> {
    type Output;
    fn call(self, simd: S) -> Self::Output;
}

/// Defines a token and its operations, each by an expression.
macro_rules! token {
    ($(#[$doc:meta])* $token:ident, $operand:ty, $register:ty, $lanes:literal, $tile:literal, [$($features:literal)?],
     $(($($qualifier:ident)?) $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $value:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $token(());

        impl Simd for $token {
            type Register = $register;
            type Operand = $operand;
            const LANES: usize = $lanes;
            const TILE: usize = $tile;

            #[inline(always)]
            #[allow(unused_unsafe)] // the portable level is safe
            fn run<O: Operation<Self>>(self, operation: O) -> O::Output {
                #[inline(never)]
                $(#[target_feature(enable = $features)])?
                fn compiled<O: Operation<$token>>(simd: $token, operation: O) -> O::Output {
                    operation.call(simd)
                }
                // SAFETY: the token exists, so the CPU has the features.
                unsafe { compiled(self, operation) }
            }

            $(
                #[inline(always)]
                #[allow(unused_unsafe)]
                $($qualifier)? fn $name(self, $($argument: $type),*) -> $result {
                    // SAFETY: the token exists, so the CPU has the instruction. Callers of `load` and `store` vouch for the
                    // pointer.
                    unsafe { $value }
                }
            )*
        }
    };
}

token! {
    /// Any CPU.
    Portable, f32, [f32; 4], 4, 2, [],
    () splat(x: f32) -> [f32; 4] = [x; 4];
    () add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| a[i] + b[i]);
    () sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| a[i] - b[i]);
    () mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| a[i] * b[i]);
    () fma(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| sum[i] + a[i] * b[i]);
    () sum(x: [f32; 4]) -> f32 = x.iter().sum();
    (unsafe) load(from: *const f32) -> [f32; 4] = from.cast::<[f32; 4]>().read_unaligned();
    (unsafe) store(x: [f32; 4], to: *mut f32) -> () = to.cast::<[f32; 4]>().write_unaligned(x);
}

#[cfg(target_arch = "x86_64")]
token! {
    /// AVX2 and FMA.
    Avx2, f32, __m256, 8, 2, ["avx2,fma"],
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
#[cfg(target_arch = "x86_64")]
macro_rules! avx512 {
    ($(#[$doc:meta])* $token:ident, $operand:ty, $features:literal) => {
        token! {
            $(#[$doc])*
            $token, $operand, __m512, 16, 4, [$features],
            () splat(x: f32) -> __m512 = _mm512_set1_ps(x);
            () add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
            () sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
            () mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
            () fma(sum: __m512, a: __m512, b: __m512) -> __m512 = _mm512_fmadd_ps(a, b, sum);
            () sum(x: __m512) -> f32 = _mm512_reduce_add_ps(x);
            (unsafe) load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
            (unsafe) store(x: __m512, to: *mut f32) -> () = _mm512_storeu_ps(to, x);
        }
    };
}

#[cfg(target_arch = "x86_64")]
avx512!(
    /// AVX-512.
    Avx512, f32, "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"
);

#[cfg(target_arch = "x86_64")]
avx512!(
    /// AVX-512 with bfloat16 products.
    Bfloat16, Pair, "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma"
);

#[cfg(target_arch = "x86_64")]
impl Bfloat16 {
    /// Adds both products of each pair, in float32: sum + a₀ · b₀ + a₁ · b₁.
    #[inline(always)]
    pub fn dot(self, sum: __m512, a: Pair, b: __m512) -> __m512 {
        // SAFETY: the token exists, so the CPU has the instruction; all these types are 64 bytes of plain values.
        unsafe {
            let [a, b] = std::mem::transmute::<[__m512; 2], [__m512bh; 2]>([_mm512_set1_ps(f32::from_bits(a.0)), b]);
            _mm512_dpbf16_ps(sum, a, b)
        }
    }

    /// Rounds 32 neighbours to 16 pairs.
    #[inline(always)]
    pub fn pair_neighbours(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: as in `dot`.
        unsafe { std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first)) }
    }

    /// Rounds two rows of 16 values to 16 pairs: pair i holds value i of both rows.
    #[inline(always)]
    pub fn pair_rows(self, first: __m512, second: __m512) -> __m512 {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut i = 0;
            while i < 32 {
                order[i] = (i / 2 + i % 2 * 16) as u16;
                i += 1;
            }
            order
        };
        // SAFETY: as in `dot`.
        unsafe {
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            let order = std::mem::transmute::<[u16; 32], __m512i>(ORDER);
            std::mem::transmute::<__m512i, __m512>(_mm512_permutexvar_epi16(order, both))
        }
    }
}
