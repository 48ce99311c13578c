//! Predictions in bfloat16 on CPUs with AVX512-BF16 (Intel since Cooper Lake, AMD since Zen 4).
//!
//! The product instruction reads pairs of neighbours along the summed axis and sums in float32. So rows of left operands
//! and columns of right operands consist of pairs ([`pairs`]), and the operations between products write pairs. All other
//! functions of this module require that [`detect`] returned true.

mod block;
mod norm;
mod pairs;
mod product;
mod softmax;
#[cfg(test)]
mod tests;

pub(super) use block::{Scratch, Weights};

use crate::cpu::CpuLevel;

/// Whether this CPU has bfloat16 products.
pub(super) fn detect() -> bool {
    CpuLevel::detect() == CpuLevel::Avx512 && is_x86_feature_detected!("avx512bf16")
}
