//! Predictions in bfloat16, where the processor multiplies such numbers itself (AVX512-BF16: Intel since Cooper Lake, AMD
//! since Zen 4).
//!
//! Its instruction takes two steps along the summed axis at once and sums in float32. So the left operand's rows and the right
//! operand's columns consist of pairs ([`pairs`]), and what stands between the products is written so that it leaves them.
//! Only where [`detect`] says so is anything else of this module called.

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

/// Whether this processor multiplies such numbers.
pub(super) fn detect() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use super::vector::Instructions;
        Instructions::detect() == Instructions::Avx512 && is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}
