//! Predictions in bfloat16 on CPUs with AVX512-BF16 (Intel since Cooper Lake, AMD since Zen 4).
//!
//! The product instruction reads pairs of neighbours along the summed axis and sums in float32. So rows of left operands
//! and columns of right operands consist of pairs ([`pairs`]), and the operations between products write pairs. All other
//! functions of this module require that [`detect`] returned true.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod block;
#[cfg(target_arch = "x86_64")]
mod norm;
#[cfg(target_arch = "x86_64")]
mod pairs;
#[cfg(target_arch = "x86_64")]
mod product;
#[cfg(target_arch = "x86_64")]
mod softmax;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use absent::{Block, Scratch, Weights};
#[cfg(target_arch = "x86_64")]
pub(super) use block::{Block, Scratch, Weights};

/// Whether this CPU has bfloat16 products.
pub(super) fn detect() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::cpu::CpuLevel;
        CpuLevel::detect() == CpuLevel::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}
