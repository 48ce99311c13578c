//! Products of small matrices whose operands are in the CPU's caches.

use crate::cpu::{CpuLevel, Operation, Register, Vector};

/// The left operand: element (i, k) is `data[i · row + k · column]`, so that transposing needs no copy.
#[derive(Clone, Copy)]
pub(super) struct Left<'a, T> {
    data: &'a [T],
    row: usize,
    column: usize,
}

/// A left operand whose rows start `row` elements apart.
pub(super) fn rows<T>(data: &[T], row: usize) -> Left<'_, T> {
    Left { data, row, column: 1 }
}

/// The transpose of a matrix whose rows start `row` elements apart, as a left operand.
pub(super) fn transposed<T>(data: &[T], row: usize) -> Left<'_, T> {
    Left { data, row: 1, column: row }
}

/// Initial value of the sums.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    Zero,
    /// The present content of the result.
    Present,
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
    unsafe fn multiply(level: CpuLevel, product: Product);
}

/// Operands and results in float32.
struct Float32;

impl Kernel for Float32 {
    type Operand = f32;
    type Result = f32;
    const COLUMNS: usize = 1;

    unsafe fn multiply(level: CpuLevel, product: Product) {
        unsafe { level.run(product) }
    }
}

/// [m, k] · [k, n] -> [m, n]; n is a multiple of 16. The right operand and the result are given with the distance of their
/// rows' starts.
pub(super) fn matmul(
    level: CpuLevel,
    sizes: (usize, usize, usize),
    left: Left<f32>,
    right: (&[f32], usize),
    out: (&mut [f32], usize),
    start: Start,
) {
    multiply::<Float32>(level, sizes, left, right, out, start);
}

/// As [`matmul`] with any kernel; k counts elements of the operands.
pub(super) fn multiply<K: Kernel>(
    level: CpuLevel,
    (m, n, k): (usize, usize, usize),
    left: Left<K::Operand>,
    (right, right_row): (&[K::Operand], usize),
    (out, out_row): (&mut [K::Result], usize),
    start: Start,
) {
    assert!(m > 0 && k > 0 && n > 0 && n.is_multiple_of(16));
    assert!((m - 1) * left.row + (k - 1) * left.column < left.data.len());
    assert!((k - 1) * right_row + n <= right.len());
    assert!((m - 1) * out_row + n / K::COLUMNS <= out.len());
    let (start, start_row) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Present => (out.as_ptr().cast(), out_row),
        Start::Bias(bias) => {
            assert!(bias.len() >= n);
            (bias.as_ptr(), 0)
        }
    };
    let (left_row, left_column, left) = (left.row, left.column, left.data.as_ptr().cast());
    let (right, out) = (right.as_ptr().cast(), out.as_mut_ptr().cast());
    // SAFETY: the bounds are checked above, the level is one of this CPU.
    unsafe {
        K::multiply(
            level,
            Product { m, n, k, left, left_row, left_column, right, right_row, out, out_row, start, start_row },
        )
    }
}

/// [m, k] · [k] -> [m]; k is a multiple of 16.
pub(super) fn dots(level: CpuLevel, matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    assert!(vector.len().is_multiple_of(16) && out.len() >= matrix.len() / vector.len());
    // SAFETY: the bounds are checked above, the level is one of this CPU.
    unsafe { level.run(Dots { matrix, vector, out }) }
}

struct Dots<'a> {
    matrix: &'a [f32],
    vector: &'a [f32],
    out: &'a mut [f32],
}

impl Operation for Dots<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for (row, out) in self.matrix.chunks_exact(self.vector.len()).zip(self.out) {
            unsafe {
                let mut sums = V::splat(0.0);
                for i in (0..self.vector.len()).step_by(V::LANES) {
                    let x = V::load(self.vector.as_ptr().add(i));
                    sums = sums.fma(x, V::load(row.as_ptr().add(i)));
                }
                *out = sums.sum();
            }
        }
    }
}

/// A product whose bounds have been checked.
#[derive(Clone, Copy)]
pub(super) struct Product {
    m: usize,
    n: usize,
    k: usize,
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
}

impl Operation for Product {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        unsafe { self.columns::<V>() }
    }
}

impl Product {
    /// Computes all columns, one tile's width at a time.
    #[inline(always)]
    pub unsafe fn columns<V: Register>(mut self) {
        let mut vectors = self.n / V::LANES;
        unsafe {
            while vectors > 0 {
                // A larger tile needs fewer loads; its sums must fit the registers. Rows of one register belong to a head:
                // tiles of ten tokens divide fifty.
                let width = match vectors.min(V::TILE) {
                    4 => self.rows::<V, 6, 4>(),
                    3 => self.rows::<V, 8, 3>(),
                    2 if V::TILE == 4 => self.rows::<V, 8, 2>(),
                    2 => self.rows::<V, 6, 2>(),
                    _ if V::TILE == 4 => self.rows::<V, 10, 1>(),
                    _ => self.rows::<V, 6, 1>(),
                };
                vectors -= width;
                self.right = self.right.add(width * V::LANES);
                self.out = self.out.add(width * V::STORED);
                if !self.start.is_null() {
                    self.start = self.start.add(width * V::LANES);
                }
            }
        }
    }

    /// Computes all rows of `WIDTH` registers, `HEIGHT` at a time. Returns `WIDTH`.
    #[inline(always)]
    unsafe fn rows<V: Register, const HEIGHT: usize, const WIDTH: usize>(self) -> usize {
        let (mut tile, mut m) = (self, self.m);
        unsafe {
            while m >= HEIGHT {
                tile = tile.tile::<V, HEIGHT, WIDTH>();
                m -= HEIGHT;
            }
            // Runs twice if eight or nine rows remain below a tile of ten.
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
    unsafe fn tile<V: Register, const HEIGHT: usize, const WIDTH: usize>(mut self) -> Self {
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
                    sum.store(self.out.add(i * self.out_row + j * V::STORED));
                }
            }
            self.left = self.left.add(HEIGHT * self.left_row);
            self.out = self.out.add(HEIGHT * self.out_row);
        }
        self
    }
}
