//! Products of small matrices whose operands lie in the processor's caches.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use super::vector::{Instructions, Vector};

/// The left operand: element (i, k) is `data[i · row + k · column]`, so that a transposed matrix needs no copy.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    data: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Left<'a> {
    /// A matrix whose rows begin `row` numbers apart.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Left {
            data,
            row,
            column: 1,
        }
    }

    /// The transpose of such a matrix.
    pub fn transposed(data: &'a [f32], row: usize) -> Self {
        Left {
            data,
            row: 1,
            column: row,
        }
    }
}

/// The right operand: element (k, j) is `data[k · row + j]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    data: &'a [f32],
    row: usize,
}

impl<'a> Right<'a> {
    /// A matrix whose rows begin `row` numbers apart.
    pub fn rows(data: &'a [f32], row: usize) -> Self {
        Right { data, row }
    }
}

/// Where the product goes: element (i, j) is `data[i · row + j]`.
pub(super) struct Out<'a> {
    data: &'a mut [f32],
    row: usize,
}

impl<'a> Out<'a> {
    /// A matrix whose rows begin `row` numbers apart.
    pub fn rows(data: &'a mut [f32], row: usize) -> Self {
        Out { data, row }
    }
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// The numbers that are there.
    Out,
    /// The same row everywhere: [n]
    Bias(&'a [f32]),
}

/// [m, k] · [k, n] -> [m, n]; n is a multiple of 16.
pub(super) fn matmul(
    instructions: Instructions,
    (m, n, k): (usize, usize, usize),
    left: Left,
    right: Right,
    out: Out,
    start: Start,
) {
    assert!(m > 0 && k > 0 && n > 0 && n.is_multiple_of(16));
    assert!((m - 1) * left.row + (k - 1) * left.column < left.data.len());
    assert!((k - 1) * right.row + n <= right.data.len());
    assert!((m - 1) * out.row + n <= out.data.len());
    let (start, start_row) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Out => (out.data.as_ptr(), out.row),
        Start::Bias(bias) => {
            assert!(bias.len() >= n);
            (bias.as_ptr(), 0)
        }
    };
    let product = Product {
        left: left.data.as_ptr(),
        left_row: left.row,
        left_column: left.column,
        right: right.data.as_ptr(),
        right_row: right.row,
        out: out.data.as_mut_ptr(),
        out_row: out.row,
        start,
        start_row,
        k,
    };
    // SAFETY: the bounds were checked above, the level was detected.
    unsafe {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => avx512(product, m, n),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2(product, m, n),
            _ => product.columns::<[f32; 4]>(m, n),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(product: Product, m: usize, n: usize) {
    unsafe { product.columns::<__m512>(m, n) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(product: Product, m: usize, n: usize) {
    unsafe { product.columns::<__m256>(m, n) }
}

/// A product whose bounds are known to be good.
#[derive(Clone, Copy)]
struct Product {
    left: *const f32,
    left_row: usize,
    left_column: usize,
    right: *const f32,
    right_row: usize,
    out: *mut f32,
    out_row: usize,
    /// Null for zero.
    start: *const f32,
    start_row: usize,
    k: usize,
}

impl Product {
    /// All columns, as many vectors at a time as a tile has.
    #[inline(always)]
    unsafe fn columns<V: Vector>(mut self, m: usize, n: usize) {
        let mut vectors = n / V::LANES;
        unsafe {
            while vectors > 0 {
                // The larger the tile, the fewer loads for a product; accumulators must fit the registers, and the compiler
                // unrolls no more than eight rows.
                let width = match vectors.min(V::TILE) {
                    4 => self.rows::<V, 6, 4>(m),
                    3 => self.rows::<V, 8, 3>(m),
                    2 if V::TILE == 4 => self.rows::<V, 8, 2>(m),
                    2 => self.rows::<V, 6, 2>(m),
                    _ if V::TILE == 4 => self.rows::<V, 8, 1>(m),
                    _ => self.rows::<V, 6, 1>(m),
                };
                vectors -= width;
                self.right = self.right.add(width * V::LANES);
                self.out = self.out.add(width * V::LANES);
                if !self.start.is_null() {
                    self.start = self.start.add(width * V::LANES);
                }
            }
        }
    }

    /// All rows of `WIDTH` vectors, `HEIGHT` at a time; returns `WIDTH`.
    #[inline(always)]
    unsafe fn rows<V: Vector, const HEIGHT: usize, const WIDTH: usize>(
        self,
        mut m: usize,
    ) -> usize {
        let mut tile = self;
        unsafe {
            while m >= HEIGHT {
                tile = tile.tile::<V, HEIGHT, WIDTH>();
                m -= HEIGHT;
            }
            if m >= 4 {
                tile = tile.tile::<V, 4, WIDTH>();
                m -= 4;
            }
            if m >= 2 {
                tile = tile.tile::<V, 2, WIDTH>();
                m -= 2;
            }
            if m == 1 {
                tile.tile::<V, 1, WIDTH>();
            }
        }
        WIDTH
    }

    /// `HEIGHT` rows of `WIDTH` vectors, summed in registers; returns the product of the rows below.
    #[inline(always)]
    unsafe fn tile<V: Vector, const HEIGHT: usize, const WIDTH: usize>(mut self) -> Self {
        unsafe {
            let mut sums = [[V::splat(0.0); WIDTH]; HEIGHT];
            if !self.start.is_null() {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum = V::load(self.start.add(i * self.start_row + j * V::LANES));
                    }
                }
                self.start = self.start.add(HEIGHT * self.start_row);
            }
            let (mut left, mut right) = (self.left, self.right);
            for _ in 0..self.k {
                let mut columns = [V::splat(0.0); WIDTH];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = V::load(right.add(j * V::LANES));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = V::splat(*left.add(i * self.left_row));
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = sum.fma(x, column);
                    }
                }
                left = left.add(self.left_column);
                right = right.add(self.right_row);
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, sum) in row.iter().enumerate() {
                    sum.store(self.out.add(i * self.out_row + j * V::LANES));
                }
            }
            self.left = self.left.add(HEIGHT * self.left_row);
            self.out = self.out.add(HEIGHT * self.out_row);
        }
        self
    }
}
