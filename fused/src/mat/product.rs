//! Products of matrices that are in the CPU's caches. The loops rely on the bounds of [`Mat`] and [`MatMut`].

use super::{Mat, MatMut};
use crate::cpu::{Operation, Simd};

/// Initial value of the sums of a product.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// The present content of the result.
    Present,
    /// The same row `[n]` for all rows of the result.
    Bias(&'a [f32]),
}

/// out = start + left · right: [m, k] · [k, n] -> [m, n]; n is a multiple of 16. The left matrix can be transposed. In a level
/// with bfloat16 products, `left` and `right` are pairs of [`Simd::along`] and [`Simd::down`].
pub(crate) fn multiply<S: Simd>(simd: S, left: Mat, right: Mat, start: Start, out: MatMut) {
    let ((m, n), k) = ((out.rows, out.cols), left.cols);
    assert!(left.rows == m && right.cols == n && right.rows == k && right.step == 1 && n.is_multiple_of(16));
    assert!(n <= out.stride, "rows of a result don't overlap");
    if let Start::Bias(bias) = start {
        assert!(bias.len() >= n);
    }
    simd.run(Product { simd, left, right, start, out });
}

/// A product whose shapes have been checked.
struct Product<'a, S> {
    simd: S,
    left: Mat<'a>,
    right: Mat<'a>,
    start: Start<'a>,
    out: MatMut<'a>,
}

impl<S: Simd> Operation<S> for Product<'_, S> {
    /// Computes all columns, one tile's width at a time.
    #[inline(always)]
    fn call(mut self, _: S) {
        let (mut column, mut registers) = (0, self.out.cols / S::LANES);
        while registers > 0 {
            // A larger tile needs fewer loads; its sums must fit the registers. Rows of one register belong to a head:
            // tiles of ten tokens divide fifty.
            // SAFETY: the tile is at most as wide as the columns that are left, because n is a multiple of all LANES.
            let width = unsafe {
                match registers.min(S::TILE) {
                    4 => self.rows::<6, 4>(column),
                    3 => self.rows::<8, 3>(column),
                    2 if S::TILE == 4 => self.rows::<8, 2>(column),
                    2 => self.rows::<6, 2>(column),
                    _ if S::TILE == 4 => self.rows::<10, 1>(column),
                    _ => self.rows::<6, 1>(column),
                }
            };
            registers -= width;
            column += width * S::LANES;
        }
    }
}

/// # Safety
/// The shapes of the operands and the result must fit each other, and contain the tile.
impl<S: Simd> Product<'_, S> {
    /// Computes all rows of `WIDTH` registers, `HEIGHT` at a time. Returns `WIDTH`.
    #[inline(always)]
    unsafe fn rows<const HEIGHT: usize, const WIDTH: usize>(&mut self, column: usize) -> usize {
        let (mut row, m) = (0, self.out.rows);
        // SAFETY: the tiles have m rows in all.
        unsafe {
            while m - row >= HEIGHT {
                row += self.tile::<HEIGHT, WIDTH>(row, column);
            }
            // Runs twice if eight or nine rows remain below a tile of ten.
            while m - row >= 4 {
                row += self.tile::<4, WIDTH>(row, column);
            }
            if m - row >= 2 {
                row += self.tile::<2, WIDTH>(row, column);
            }
            if m - row == 1 {
                self.tile::<1, WIDTH>(row, column);
            }
        }
        WIDTH
    }

    /// Computes `HEIGHT` rows of `WIDTH` registers. Returns `HEIGHT`.
    #[inline(always)]
    unsafe fn tile<const HEIGHT: usize, const WIDTH: usize>(&mut self, row: usize, column: usize) -> usize {
        let (simd, left_stride, out_stride) = (self.simd, self.left.stride, self.out.stride);
        // SAFETY: the tile is inside the result, and a matrix's elements are in its slice.
        unsafe {
            let out = self.out.data.as_mut_ptr().add(row * out_stride + column);
            // The present content is read through the pointer that writes the result: another would end with the first write.
            let start = match self.start {
                Start::Zero => None,
                Start::Present => Some((out.cast_const(), out_stride)),
                Start::Bias(bias) => Some((bias.as_ptr().add(column), 0)),
            };
            let mut sums = [[simd.splat(0.0); WIDTH]; HEIGHT];
            if let Some((start, stride)) = start {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum = simd.load(start.add(i * stride + j * S::LANES));
                    }
                }
            }
            let mut left = self.left.data.as_ptr().add(row * left_stride);
            let mut right = self.right.data.as_ptr().add(column);
            for _ in 0..self.left.cols {
                let mut columns = [simd.splat(0.0); WIDTH];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = simd.load(right.add(j * S::LANES));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = *left.add(i * left_stride);
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = simd.multiply_add(*sum, x, column);
                    }
                }
                left = left.wrapping_add(self.left.step);
                right = right.wrapping_add(self.right.stride);
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, sum) in row.iter().enumerate() {
                    simd.store(*sum, out.add(i * out_stride + j * S::LANES));
                }
            }
        }
        HEIGHT
    }
}

/// [m, k] · [k] -> [m]; k is a multiple of 16.
#[inline(always)]
pub(crate) fn dots<S: Simd>(simd: S, matrix: Mat, vector: &[f32], out: &mut [f32]) {
    assert!(vector.len() == matrix.cols && vector.len().is_multiple_of(16));
    for (row, out) in matrix.iter().zip(out) {
        let mut sums = simd.splat(0.0);
        for (x, y) in row.chunks_exact(S::LANES).zip(vector.chunks_exact(S::LANES)) {
            // SAFETY: both chunks have LANES values.
            unsafe { sums = simd.fma(sums, simd.load(y.as_ptr()), simd.load(x.as_ptr())) };
        }
        *out = simd.sum(sums);
    }
}
