//! Products of small matrices whose operands are in the CPU's caches.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};

use crate::cpu::{CpuLevel, Vector};

/// The left operand: element (i, k) is `data[i · row + k · column]`, so that transposing needs no copy.
#[derive(Clone, Copy)]
pub(super) struct Left<'a, T> {
    data: &'a [T],
    row: usize,
    column: usize,
}

impl<'a, T> Left<'a, T> {
    /// A matrix whose rows start `row` elements apart.
    pub fn rows(data: &'a [T], row: usize) -> Self {
        Left { data, row, column: 1 }
    }

    /// The transpose of a matrix whose rows start `row` elements apart.
    pub fn transposed(data: &'a [T], row: usize) -> Self {
        Left { data, row: 1, column: row }
    }
}

/// The right operand: element (k, j) is `data[k · row + j]`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a, T> {
    data: &'a [T],
    row: usize,
}

impl<'a, T> Right<'a, T> {
    /// A matrix whose rows start `row` elements apart.
    pub fn rows(data: &'a [T], row: usize) -> Self {
        Right { data, row }
    }
}

/// The result: element (i, j) is `data[i · row + j]`.
pub(super) struct Out<'a, T> {
    data: &'a mut [T],
    row: usize,
}

impl<'a, T> Out<'a, T> {
    /// A matrix whose rows start `row` elements apart.
    pub fn rows(data: &'a mut [T], row: usize) -> Self {
        Out { data, row }
    }
}

/// Initial value of the sums.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// The present content of the result.
    Out,
    /// The same row [n] for all rows of the result.
    Bias(&'a [f32]),
}

/// A kind of product. Elements of both types have the size of a float32; sums are float32.
pub(super) trait Kernel {
    type Operand;
    type Result: Copy;
    /// Columns that one element of the result holds.
    const COLUMNS: usize;

    /// # Safety
    /// The CPU must have the level. All accesses of the product must be in bounds.
    unsafe fn multiply(level: CpuLevel, product: Product, m: usize, n: usize);
}

/// Operands and results in float32.
struct Float32;

impl Kernel for Float32 {
    type Operand = f32;
    type Result = f32;
    const COLUMNS: usize = 1;

    unsafe fn multiply(level: CpuLevel, product: Product, m: usize, n: usize) {
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 => avx512(product, m, n),
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => avx2(product, m, n),
                _ => product.columns::<[f32; 4]>(m, n),
            }
        }
    }
}

/// [m, k] · [k, n] -> [m, n]; n is a multiple of 16.
pub(super) fn matmul(
    level: CpuLevel,
    sizes: (usize, usize, usize),
    left: Left<f32>,
    right: Right<f32>,
    out: Out<f32>,
    start: Start,
) {
    multiply::<Float32>(level, sizes, left, right, out, start);
}

/// As [`matmul`] with any kernel; k counts elements of the operands.
pub(super) fn multiply<K: Kernel>(
    level: CpuLevel,
    (m, n, k): (usize, usize, usize),
    left: Left<K::Operand>,
    right: Right<K::Operand>,
    out: Out<K::Result>,
    start: Start,
) {
    assert!(m > 0 && k > 0 && n > 0 && n.is_multiple_of(16));
    assert!((m - 1) * left.row + (k - 1) * left.column < left.data.len());
    assert!((k - 1) * right.row + n <= right.data.len());
    assert!((m - 1) * out.row + n / K::COLUMNS <= out.data.len());
    let (start, start_row) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Out => (out.data.as_ptr().cast(), out.row),
        Start::Bias(bias) => {
            assert!(bias.len() >= n);
            (bias.as_ptr(), 0)
        }
    };
    let product = Product {
        left: left.data.as_ptr().cast(),
        left_row: left.row,
        left_column: left.column,
        right: right.data.as_ptr().cast(),
        right_row: right.row,
        out: out.data.as_mut_ptr().cast(),
        out_row: out.row,
        start,
        start_row,
        k,
    };
    // SAFETY: the bounds are checked above, the level is one of this CPU.
    unsafe { K::multiply(level, product, m, n) }
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

/// [m, k] · [k] -> [m]; k is a multiple of 16.
pub(super) fn dots(level: CpuLevel, matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    assert!(vector.len().is_multiple_of(16) && out.len() >= matrix.len() / vector.len());
    // SAFETY: the bounds are checked above, the level is one of this CPU.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            CpuLevel::Avx512 => dots_avx512(matrix, vector, out),
            #[cfg(target_arch = "x86_64")]
            CpuLevel::Avx2 => dots_avx2(matrix, vector, out),
            _ => dots_of::<[f32; 4]>(matrix, vector, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn dots_avx512(matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    unsafe { dots_of::<__m512>(matrix, vector, out) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots_avx2(matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    unsafe { dots_of::<__m256>(matrix, vector, out) }
}

#[inline(always)]
unsafe fn dots_of<V: Vector>(matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    for (row, out) in matrix.chunks_exact(vector.len()).zip(out) {
        unsafe {
            let mut sums = V::splat(0.0);
            for i in (0..vector.len()).step_by(V::LANES) {
                let x = V::load(vector.as_ptr().add(i));
                sums = sums.fma(x, V::load(row.as_ptr().add(i)));
            }
            *out = sums.sum();
        }
    }
}

/// A product whose bounds have been checked.
#[derive(Clone, Copy)]
pub(super) struct Product {
    left: *const f32,
    left_row: usize,
    left_column: usize,
    right: *const f32,
    right_row: usize,
    out: *mut f32,
    out_row: usize,
    /// Null for [`Start::Zero`].
    start: *const f32,
    start_row: usize,
    k: usize,
}

impl Product {
    /// Computes all columns, one tile's width at a time.
    #[inline(always)]
    pub unsafe fn columns<V: Vector>(mut self, m: usize, n: usize) {
        let mut vectors = n / V::LANES;
        unsafe {
            while vectors > 0 {
                // A larger tile needs fewer loads; its sums must fit the registers. Rows of one register belong to a head:
                // tiles of ten tokens divide fifty.
                let width = match vectors.min(V::TILE) {
                    4 => self.rows::<V, 6, 4>(m),
                    3 => self.rows::<V, 8, 3>(m),
                    2 if V::TILE == 4 => self.rows::<V, 8, 2>(m),
                    2 => self.rows::<V, 6, 2>(m),
                    _ if V::TILE == 4 => self.rows::<V, 10, 1>(m),
                    _ => self.rows::<V, 6, 1>(m),
                };
                vectors -= width;
                self.right = self.right.add(width * V::LANES);
                self.out = self.out.add(width * V::FINISHED);
                if !self.start.is_null() {
                    self.start = self.start.add(width * V::LANES);
                }
            }
        }
    }

    /// Computes all rows of `WIDTH` registers, `HEIGHT` at a time. Returns `WIDTH`.
    #[inline(always)]
    unsafe fn rows<V: Vector, const HEIGHT: usize, const WIDTH: usize>(self, mut m: usize) -> usize {
        let mut tile = self;
        unsafe {
            while m >= HEIGHT {
                tile = tile.tile::<V, HEIGHT, WIDTH>();
                m -= HEIGHT;
            }
            // Twice for the eight or nine rows below a tile of ten.
            while m >= 4 {
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

    /// Computes `HEIGHT` rows of `WIDTH` registers. Returns the product of the rows below.
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
                    sum.finish(self.out.add(i * self.out_row + j * V::FINISHED));
                }
            }
            self.left = self.left.add(HEIGHT * self.left_row);
            self.out = self.out.add(HEIGHT * self.out_row);
        }
        self
    }
}
