//! Linear maps of a Winograd tile's inputs, weights and outputs, and the transposed maps of their gradients.
//!
//! The maps belong to the points 0, ±1/√2, ±√2 and ∞. Their rounding errors are half of those of the usual points 0, ±1, ±2
//! and ∞, and gradients of a step agree with libtorch's to 1e-5.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use crate::cpu::Simd;
use crate::mat::Map;

/// Sums and differences of the elements of opposite points: x₁ ± x₂ and x₃ ± x₄.
#[inline(always)]
fn opposite<S: Simd>(s: S, x: [S::Register; 6]) -> [S::Register; 4] {
    [s.add(x[1], x[2]), s.sub(x[1], x[2]), s.add(x[3], x[4]), s.sub(x[3], x[4])]
}

/// Bᵀ x
pub(super) struct Inputs;

impl Map<6, 6> for Inputs {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::Register; 6]) -> [S::Register; 6] {
        let (near, odd_near) = (s.plus(x[4], -2.0, x[2]), s.plus(x[3], -2.0, x[1]));
        let (far, odd_far) = (s.plus(x[4], -0.5, x[2]), s.plus(x[3], -0.5, x[1]));
        [
            s.plus(s.add(x[0], x[4]), -2.5, x[2]),
            s.plus(near, FRAC_1_SQRT_2, odd_near),
            s.plus(near, -FRAC_1_SQRT_2, odd_near),
            s.plus(far, SQRT_2, odd_far),
            s.plus(far, -SQRT_2, odd_far),
            s.plus(s.add(x[1], x[5]), -2.5, x[3]),
        ]
    }
}

/// B x
pub(super) struct InputsBack;

impl Map<6, 6> for InputsBack {
    const ADD: bool = true;

    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::Register; 6]) -> [S::Register; 6] {
        let [near, odd_near, far, odd_far] = opposite(s, x);
        let even = s.plus(near, 0.25, far);
        [
            x[0],
            s.sub(x[5], s.scale(SQRT_2, s.plus(odd_near, 0.5, odd_far))),
            s.plus(s.scale(-2.0, even), -2.5, x[0]),
            s.plus(s.scale(FRAC_1_SQRT_2, s.plus(odd_near, 2.0, odd_far)), -2.5, x[5]),
            s.add(s.add(x[0], near), far),
            x[5],
        ]
    }
}

/// G x
pub(super) struct Weights;

impl Map<3, 6> for Weights {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::Register; 3]) -> [S::Register; 6] {
        let near = s.scale(-1.0 / 1.5, s.plus(x[0], 0.5, x[2]));
        let far = s.scale(1.0 / 6.0, s.plus(x[0], 2.0, x[2]));
        [
            x[0],
            s.plus(near, -FRAC_1_SQRT_2 / 1.5, x[1]),
            s.plus(near, FRAC_1_SQRT_2 / 1.5, x[1]),
            s.plus(far, SQRT_2 / 6.0, x[1]),
            s.plus(far, -SQRT_2 / 6.0, x[1]),
            x[2],
        ]
    }
}

/// Gᵀ x
pub(super) struct WeightsBack;

impl Map<6, 3> for WeightsBack {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::Register; 6]) -> [S::Register; 3] {
        let [near, odd_near, far, odd_far] = opposite(s, x);
        [
            s.plus(s.plus(x[0], -1.0 / 1.5, near), 1.0 / 6.0, far),
            s.plus(s.scale(-FRAC_1_SQRT_2 / 1.5, odd_near), SQRT_2 / 6.0, odd_far),
            s.plus(x[5], 1.0 / 3.0, s.sub(far, near)),
        ]
    }
}

/// Aᵀ x
pub(super) struct Outputs;

impl Map<6, 4> for Outputs {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::Register; 6]) -> [S::Register; 4] {
        let [near, odd_near, far, odd_far] = opposite(s, x);
        [
            s.add(s.add(x[0], near), far),
            s.scale(FRAC_1_SQRT_2, s.plus(odd_near, 2.0, odd_far)),
            s.scale(0.5, s.plus(near, 4.0, far)),
            s.plus(x[5], 0.5 * FRAC_1_SQRT_2, s.plus(odd_near, 8.0, odd_far)),
        ]
    }
}

/// A x
pub(super) struct OutputsBack;

impl Map<4, 6> for OutputsBack {
    #[inline(always)]
    fn map<S: Simd>(s: S, x: [S::Register; 4]) -> [S::Register; 6] {
        let (near, odd_near) = (s.plus(x[0], 0.5, x[2]), s.plus(x[1], 0.5, x[3]));
        let (far, odd_far) = (s.plus(x[0], 2.0, x[2]), s.plus(x[1], 2.0, x[3]));
        [
            x[0],
            s.plus(near, FRAC_1_SQRT_2, odd_near),
            s.plus(near, -FRAC_1_SQRT_2, odd_near),
            s.plus(far, SQRT_2, odd_far),
            s.plus(far, -SQRT_2, odd_far),
            x[3],
        ]
    }
}
