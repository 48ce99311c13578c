//! CPU levels: found at run time, chosen once at the top of a pass, and known by type below it.
//!
//! A pass is generic over [`Simd`]. The value of such a type is a token: it exists only on a CPU that has the level, because
//! [`CpuLevel::level`] alone makes it. So functions with a token may use the level's instructions, and they are safe.
//! [`dispatch!`] calls the pass for the level's token; nothing below chooses again.
//!
//! The `pulp` crate works the same way. It has no bfloat16 product, and its portable level multiplies and adds by calls to
//! the C library.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(not(target_arch = "x86_64"))]
use self::{Portable as Avx2, Portable as Avx512, Portable as Bfloat16};
use crate::mat::{Buffer, Mat};
use crate::{Error, Result};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Bfloat16};

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
        [CpuLevel::Portable, CpuLevel::Avx2, CpuLevel::Avx512].into_iter().filter(|level| level.level().is_ok())
    }

    /// The level's token, if this CPU has the level.
    pub(crate) fn level(self) -> Result<Level> {
        if self > CpuLevel::detect() {
            return Err(Error(format!("this processor has no {self:?}")));
        }
        Ok(match self {
            CpuLevel::Avx512 => Level::Avx512(Avx512(())),
            CpuLevel::Avx2 => Level::Avx2(Avx2(())),
            CpuLevel::Portable => Level::Portable(Portable(())),
        })
    }
}

/// A level that this CPU has, with its token.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Level {
    Portable(Portable),
    Avx2(Avx2),
    Avx512(Avx512),
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    Bfloat16(Bfloat16),
}

impl Level {
    /// The same vectors with bfloat16 products, on CPUs with AVX512-BF16 (Intel since Cooper Lake, AMD since Zen 4).
    pub fn with_bfloat16(self) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if matches!(self, Level::Avx512(_)) && is_x86_feature_detected!("avx512bf16") {
            return Some(Level::Bfloat16(Bfloat16(())));
        }
        None
    }
}

/// Evaluates an expression in which `$simd` is the level's token.
macro_rules! dispatch {
    ($level:expr, $simd:ident => $value:expr) => {
        match $level {
            $crate::cpu::Level::Portable($simd) => $value,
            $crate::cpu::Level::Avx2($simd) => $value,
            $crate::cpu::Level::Avx512($simd) => $value,
            $crate::cpu::Level::Bfloat16($simd) => $value,
        }
    };
}
pub(crate) use dispatch;

/// Token of a level: proof that this CPU has it. Its methods are the operations on the level's registers.
pub(crate) trait Simd: Copy + Send + Sync {
    /// A register of [`Simd::LANES`] float32 values.
    type Register: Copy;
    /// The level with products of float32 values, which only differs from a level with bfloat16 products.
    type Float32: Simd;
    const LANES: usize;
    /// Registers in a row of a product's tile.
    const TILE: usize;
    /// Neighbours along the summed axis in one operand of a product: 2 in bfloat16.
    const VALUES: usize = 1;

    fn float32(self) -> Self::Float32;
    /// Calls the operation, compiled for this level.
    fn run<O: Operation<Self>>(self, operation: O);
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

    /// sum + a · b of operands
    #[inline(always)]
    fn multiply_add(self, sum: Self::Register, a: f32, b: Self::Register) -> Self::Register {
        self.plus(sum, a, b)
    }

    /// Number of operands of `n` values.
    fn operands(n: usize) -> usize {
        n.div_ceil(Self::VALUES)
    }

    /// A matrix as left operand, summed along its rows: [m, k] -> [m, operands(k)]
    #[inline(always)]
    fn along<'a>(self, x: Mat<'a>, _: &'a mut Buffer) -> Mat<'a> {
        x
    }

    /// A matrix as right operand, summed down its columns: [k, n] -> [operands(k), n]. Transposed, it is a left one.
    #[inline(always)]
    fn down<'a>(self, x: Mat<'a>, _: &'a mut Buffer) -> Mat<'a> {
        x
    }
}

/// An operation that is compiled for a level. `call` and the functions that it calls must be `#[inline(always)]`: so they
/// become a part of [`Simd::run`]. A closure would not do, because it can't be forced inline.
pub(crate) trait Operation<S> {
    fn call(self, simd: S);
}

/// Defines a token and its operations, each by an expression.
macro_rules! token {
    ($(#[$doc:meta])* $token:ident, $float32:ident, $register:ty, $lanes:literal, $tile:literal, [$($features:literal)?],
     $(($($qualifier:ident)?) $name:ident($($argument:ident: $type:ty),*) -> $result:ty = $value:expr;)* $({ $($more:tt)* })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq)]
        pub(crate) struct $token(pub(in crate::cpu) ());

        impl Simd for $token {
            type Register = $register;
            type Float32 = $float32;
            const LANES: usize = $lanes;
            const TILE: usize = $tile;
            $($($more)*)?

            #[inline(always)]
            fn float32(self) -> $float32 {
                $float32(())
            }

            #[inline(always)]
            #[allow(unused_unsafe)] // the portable level is safe
            fn run<O: Operation<Self>>(self, operation: O) {
                #[inline(never)]
                $(#[target_feature(enable = $features)])?
                fn compiled<O: Operation<$token>>(simd: $token, operation: O) {
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
#[cfg(target_arch = "x86_64")]
use token;

token! {
    /// Any CPU.
    Portable, Portable, [f32; 4], 4, 2, [],
    () splat(x: f32) -> [f32; 4] = [x; 4];
    () add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| a[i] + b[i]);
    () sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| a[i] - b[i]);
    () mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| a[i] * b[i]);
    () fma(sum: [f32; 4], a: [f32; 4], b: [f32; 4]) -> [f32; 4] = std::array::from_fn(|i| sum[i] + a[i] * b[i]);
    () sum(x: [f32; 4]) -> f32 = x.iter().sum();
    (unsafe) load(from: *const f32) -> [f32; 4] = from.cast::<[f32; 4]>().read_unaligned();
    (unsafe) store(x: [f32; 4], to: *mut f32) -> () = to.cast::<[f32; 4]>().write_unaligned(x);
}
