//! The maps of Winograd tiles and their transposes.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
use std::marker::PhantomData;

use crate::cpu::{CpuLevel, Operation, Vector};

/// A linear map of the rows and of the columns of a tile.
pub(super) trait Map<const FROM: usize, const TO: usize> {
    /// Adds the results to the present content.
    const ADD: bool = false;

    unsafe fn map<V: Vector>(x: [V; FROM]) -> [V; TO];
}

/// Bᵀ x
pub(super) struct Inputs;

impl Map<6, 6> for Inputs {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 6] {
        unsafe {
            let near = x[4].fma(V::splat(-2.0), x[2]);
            let odd_near = x[3].fma(V::splat(-2.0), x[1]);
            let far = x[4].fma(V::splat(-0.5), x[2]);
            let odd_far = x[3].fma(V::splat(-0.5), x[1]);
            [
                x[0].add(x[4]).fma(V::splat(-2.5), x[2]),
                near.fma(V::splat(FRAC_1_SQRT_2), odd_near),
                near.fma(V::splat(-FRAC_1_SQRT_2), odd_near),
                far.fma(V::splat(SQRT_2), odd_far),
                far.fma(V::splat(-SQRT_2), odd_far),
                x[1].add(x[5]).fma(V::splat(-2.5), x[3]),
            ]
        }
    }
}

/// B x
pub(super) struct InputsBack;

impl Map<6, 6> for InputsBack {
    const ADD: bool = true;

    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 6] {
        unsafe {
            let (near, odd_near) = (x[1].add(x[2]), x[1].sub(x[2]));
            let (far, odd_far) = (x[3].add(x[4]), x[3].sub(x[4]));
            let (a, b) = (V::splat(FRAC_1_SQRT_2), V::splat(SQRT_2));
            let odd = odd_near.fma(V::splat(0.5), odd_far);
            let even = near.fma(V::splat(0.25), far);
            let other = odd_near.fma(V::splat(2.0), odd_far);
            [
                x[0],
                x[5].sub(b.mul(odd)),
                V::splat(-2.0).mul(even).fma(V::splat(-2.5), x[0]),
                a.mul(other).fma(V::splat(-2.5), x[5]),
                x[0].add(near).add(far),
                x[5],
            ]
        }
    }
}

/// G x
pub(super) struct Weights;

impl Map<3, 6> for Weights {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 3]) -> [V; 6] {
        unsafe {
            let even_near = V::splat(-1.0 / 1.5).mul(x[0].fma(V::splat(0.5), x[2]));
            let even_far = V::splat(1.0 / 6.0).mul(x[0].fma(V::splat(2.0), x[2]));
            [
                x[0],
                even_near.fma(V::splat(-FRAC_1_SQRT_2 / 1.5), x[1]),
                even_near.fma(V::splat(FRAC_1_SQRT_2 / 1.5), x[1]),
                even_far.fma(V::splat(SQRT_2 / 6.0), x[1]),
                even_far.fma(V::splat(-SQRT_2 / 6.0), x[1]),
                x[2],
            ]
        }
    }
}

/// Gᵀ x
pub(super) struct WeightsBack;

impl Map<6, 3> for WeightsBack {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 3] {
        unsafe {
            let (near, odd_near) = (x[1].add(x[2]), x[1].sub(x[2]));
            let (far, odd_far) = (x[3].add(x[4]), x[3].sub(x[4]));
            let odd = V::splat(-FRAC_1_SQRT_2 / 1.5).mul(odd_near);
            [
                x[0].fma(V::splat(-1.0 / 1.5), near).fma(V::splat(1.0 / 6.0), far),
                odd.fma(V::splat(SQRT_2 / 6.0), odd_far),
                x[5].fma(V::splat(1.0 / 3.0), far.sub(near)),
            ]
        }
    }
}

/// Aᵀ x
pub(super) struct Outputs;

impl Map<6, 4> for Outputs {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 4] {
        unsafe {
            let (near, odd_near) = (x[1].add(x[2]), x[1].sub(x[2]));
            let (far, odd_far) = (x[3].add(x[4]), x[3].sub(x[4]));
            let odd = odd_near.fma(V::splat(2.0), odd_far);
            let even = near.fma(V::splat(4.0), far);
            let other = odd_near.fma(V::splat(8.0), odd_far);
            [
                x[0].add(near).add(far),
                V::splat(FRAC_1_SQRT_2).mul(odd),
                V::splat(0.5).mul(even),
                x[5].fma(V::splat(0.5 * FRAC_1_SQRT_2), other),
            ]
        }
    }
}

/// A x
pub(super) struct OutputsBack;

impl Map<4, 6> for OutputsBack {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 4]) -> [V; 6] {
        unsafe {
            let near = x[0].fma(V::splat(0.5), x[2]);
            let odd_near = x[1].fma(V::splat(0.5), x[3]);
            let far = x[0].fma(V::splat(2.0), x[2]);
            let odd_far = x[1].fma(V::splat(2.0), x[3]);
            [
                x[0],
                near.fma(V::splat(FRAC_1_SQRT_2), odd_near),
                near.fma(V::splat(-FRAC_1_SQRT_2), odd_near),
                far.fma(V::splat(SQRT_2), odd_far),
                far.fma(V::splat(-SQRT_2), odd_far),
                x[3],
            ]
        }
    }
}

/// Maps the rows and columns of a tile of `FROM` × `FROM` elements. An element is a run of `channels` values; the next
/// element of a column starts `from_row` values further, the next of a row `from_column` values.
pub(super) fn map<M: Map<FROM, TO>, const FROM: usize, const TO: usize>(
    level: CpuLevel,
    (from, from_row, from_column): (&[f32], usize, usize),
    (to, to_row, to_column): (&mut [f32], usize, usize),
    channels: usize,
) {
    assert!(channels.is_multiple_of(16));
    assert!((FROM - 1) * (from_row + from_column) + channels <= from.len());
    assert!((TO - 1) * (to_row + to_column) + channels <= to.len());
    let (from, to) = ((from.as_ptr(), from_row, from_column), (to.as_mut_ptr(), to_row, to_column));
    // SAFETY: the bounds are checked above, the level is one of this CPU.
    unsafe { level.run(Tile::<M, FROM, TO> { from, to, channels, map: PhantomData }) }
}

/// A tile whose bounds have been checked.
struct Tile<M, const FROM: usize, const TO: usize> {
    from: (*const f32, usize, usize),
    to: (*mut f32, usize, usize),
    channels: usize,
    map: PhantomData<M>,
}

impl<M: Map<FROM, TO>, const FROM: usize, const TO: usize> Operation for Tile<M, FROM, TO> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let ((from, from_row, from_column), (to, to_row, to_column)) = (self.from, self.to);
        for first in (0..self.channels).step_by(V::LANES) {
            unsafe {
                let (from, to) = (from.add(first), to.add(first));
                let mut half = [[V::splat(0.0); FROM]; TO];
                for x in 0..FROM {
                    let mut column = [V::splat(0.0); FROM];
                    for (y, element) in column.iter_mut().enumerate() {
                        *element = V::load(from.add(y * from_row + x * from_column));
                    }
                    for (half, mapped) in half.iter_mut().zip(M::map(column)) {
                        half[x] = mapped;
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, mapped) in M::map(half).into_iter().enumerate() {
                        let to = to.add(y * to_row + x * to_column);
                        let sum = if M::ADD { V::load(to).add(mapped) } else { mapped };
                        sum.store(to);
                    }
                }
            }
        }
    }
}
