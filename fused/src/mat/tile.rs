//! Linear maps of small tiles of positions, all channels of a register at a time.

use std::marker::PhantomData;

use crate::cpu::{Operation, Simd};

/// A linear map of a tile's rows and columns, from `FROM` to `TO` elements.
pub(crate) trait Map<const FROM: usize, const TO: usize> {
    /// Adds the results to the present content.
    const ADD: bool = false;

    fn map<S: Simd>(simd: S, x: [S::Register; FROM]) -> [S::Register; TO];
}

/// Maps the rows and columns of a tile of `FROM` × `FROM` elements. An element is a run of `channels` values, a multiple of
/// 16; the next element of a column starts `strides.0` values further, the next of a row `strides.1` values.
pub(crate) fn map_tile<S: Simd, M: Map<FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    from: (&[f32], (usize, usize)),
    to: (&mut [f32], (usize, usize)),
    channels: usize,
) {
    simd.run(Tile { from, to, channels, map: PhantomData::<M> });
}

struct Tile<'a, M, const FROM: usize, const TO: usize> {
    from: (&'a [f32], (usize, usize)),
    to: (&'a mut [f32], (usize, usize)),
    channels: usize,
    map: PhantomData<M>,
}

impl<S: Simd, M: Map<FROM, TO>, const FROM: usize, const TO: usize> Operation<S> for Tile<'_, M, FROM, TO> {
    #[inline(always)]
    fn call(self, simd: S) {
        let Tile { from: (from, from_strides), to: (to, to_strides), channels, .. } = self;
        assert!(channels.is_multiple_of(16));
        for (length, side, strides) in [(from.len(), FROM, from_strides), (to.len(), TO, to_strides)] {
            let last = strides.0.checked_add(strides.1).and_then(|step| step.checked_mul(side - 1));
            assert!(last.and_then(|last| last.checked_add(channels)).is_some_and(|end| end <= length));
        }
        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
        for first in (0..channels).step_by(S::LANES) {
            // SAFETY: the last elements are in their slices, and LANES divides the number of channels.
            unsafe {
                let (from, to) = (from.add(first), to.add(first));
                let mut half = [[simd.splat(0.0); FROM]; TO];
                for x in 0..FROM {
                    let mut column = [simd.splat(0.0); FROM];
                    for (y, element) in column.iter_mut().enumerate() {
                        *element = simd.load(from.add(y * from_strides.0 + x * from_strides.1));
                    }
                    for (half, mapped) in half.iter_mut().zip(M::map(simd, column)) {
                        half[x] = mapped;
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, mapped) in M::map(simd, half).into_iter().enumerate() {
                        let to = to.add(y * to_strides.0 + x * to_strides.1);
                        simd.store(if M::ADD { simd.add(simd.load(to), mapped) } else { mapped }, to);
                    }
                }
            }
        }
    }
}
