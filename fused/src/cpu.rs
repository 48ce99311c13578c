//! CPU levels, found at run time, and the vector registers of float32 that they have.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

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

    /// Returns the level if this CPU has it.
    pub(super) fn check(self) -> Result<Self> {
        match self > CpuLevel::detect() {
            true => Err(Error(format!("this processor has no {self:?}"))),
            false => Ok(self),
        }
    }

    /// Runs the operation, compiled for this level.
    ///
    /// # Safety
    /// The CPU must have the level. The operation's own conditions hold.
    pub(super) unsafe fn run(self, operation: impl Operation) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512(operation: impl Operation) {
            unsafe { operation.run::<__m512>() }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(operation: impl Operation) {
            unsafe { operation.run::<__m256>() }
        }
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 => avx512(operation),
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => avx2(operation),
                _ => operation.run::<[f32; 4]>(),
            }
        }
    }
}

/// Defines the method `$run`, which calls the method `$body` compiled for `self.level`.
macro_rules! dispatch {
    ($pass:ident, $run:ident, $body:ident, ($($name:ident: $type:ty),*) $(-> $result:ty)?) => {
        pub(super) fn $run(&self, $($name: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            unsafe fn avx512(pass: &$pass, $($name: $type),*) $(-> $result)? {
                pass.$body($($name),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(pass: &$pass, $($name: $type),*) $(-> $result)? {
                pass.$body($($name),*)
            }
            // SAFETY: the CPU has this level, see `CpuLevel::detect` and `CpuLevel::check`.
            match self.level {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 => unsafe { avx512(self, $($name),*) },
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => unsafe { avx2(self, $($name),*) },
                _ => self.$body($($name),*),
            }
        }
    };
}
pub(super) use dispatch;

/// An operation on the vector registers of a level. Implementations are `#[inline(always)]`.
pub(super) trait Operation {
    unsafe fn run<V: Vector>(self);
}

/// A register of [`Register::LANES`] values, with the operations of matrix products.
///
/// # Safety
/// The CPU must have the level of the implementation. Pointers must be valid for `LANES` values.
pub(super) trait Register: Copy {
    const LANES: usize;
    /// Registers in a row of a product's tile.
    const TILE: usize;
    /// Values of 32 bits that `store` writes.
    const STORED: usize = Self::LANES;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// Returns self + a · b.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
}

/// A register with the operations of linear maps.
pub(super) trait Vector: Register {
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// Returns the sum of the lanes.
    unsafe fn sum(self) -> f32;
}

/// Defines unsafe methods, each by an expression.
macro_rules! operations {
    ($($name:ident($($argument:tt $(: $type:ty)?),*) $(-> $result:ty)? = $value:expr;)*) => {$(
        #[inline(always)]
        #[allow(unused_unsafe)] // some expressions are safe
        unsafe fn $name($($argument $(: $type)?),*) $(-> $result)? {
            unsafe { $value }
        }
    )*};
}
#[cfg(target_arch = "x86_64")]
pub(super) use operations;

#[cfg(target_arch = "x86_64")]
impl Register for __m512 {
    const LANES: usize = 16;
    const TILE: usize = 4;

    operations! {
        splat(x: f32) -> Self = _mm512_set1_ps(x);
        load(from: *const f32) -> Self = _mm512_loadu_ps(from);
        store(self, to: *mut f32) = _mm512_storeu_ps(to, self);
        fma(self, a: Self, b: Self) -> Self = _mm512_fmadd_ps(a, b, self);
    }
}

#[cfg(target_arch = "x86_64")]
impl Vector for __m512 {
    operations! {
        add(self, other: Self) -> Self = _mm512_add_ps(self, other);
        sub(self, other: Self) -> Self = _mm512_sub_ps(self, other);
        mul(self, other: Self) -> Self = _mm512_mul_ps(self, other);
        sum(self) -> f32 = _mm512_reduce_add_ps(self);
    }
}

#[cfg(target_arch = "x86_64")]
impl Register for __m256 {
    const LANES: usize = 8;
    const TILE: usize = 2;

    operations! {
        splat(x: f32) -> Self = _mm256_set1_ps(x);
        load(from: *const f32) -> Self = _mm256_loadu_ps(from);
        store(self, to: *mut f32) = _mm256_storeu_ps(to, self);
        fma(self, a: Self, b: Self) -> Self = _mm256_fmadd_ps(a, b, self);
    }
}

#[cfg(target_arch = "x86_64")]
impl Vector for __m256 {
    operations! {
        add(self, other: Self) -> Self = _mm256_add_ps(self, other);
        sub(self, other: Self) -> Self = _mm256_sub_ps(self, other);
        mul(self, other: Self) -> Self = _mm256_mul_ps(self, other);
        sum(self) -> f32 = {
            let fours = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let twos = _mm_add_ps(fours, _mm_movehl_ps(fours, fours));
            _mm_cvtss_f32(_mm_add_ss(twos, _mm_movehdup_ps(twos)))
        };
    }
}

impl Register for [f32; 4] {
    const LANES: usize = 4;
    const TILE: usize = 2;

    operations! {
        splat(x: f32) -> Self = [x; 4];
        load(from: *const f32) -> Self = from.cast::<Self>().read_unaligned();
        store(self, to: *mut f32) = to.cast::<Self>().write_unaligned(self);
        fma(self, a: Self, b: Self) -> Self = std::array::from_fn(|i| self[i] + a[i] * b[i]);
    }
}

impl Vector for [f32; 4] {
    operations! {
        add(self, other: Self) -> Self = std::array::from_fn(|i| self[i] + other[i]);
        sub(self, other: Self) -> Self = std::array::from_fn(|i| self[i] - other[i]);
        mul(self, other: Self) -> Self = std::array::from_fn(|i| self[i] * other[i]);
        sum(self) -> f32 = self.iter().sum();
    }
}
