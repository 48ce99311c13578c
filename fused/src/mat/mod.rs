//! Matrices: slices with a shape.
//!
//! All bounds are checked when a matrix is made. So products compare shapes, and their loops check nothing.

mod buffer;
mod product;
mod tile;

pub(crate) use buffer::{Buffer, buffers};
pub(crate) use product::{Start, dots, multiply};
pub(crate) use tile::{Map, map_tile};

/// A matrix in a slice: element (i, j) is `data[i · stride + j · step]`. All its elements are in the slice.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
    step: usize,
}

/// A matrix that can be written: element (i, j) is `data[i · stride + j]`.
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Panics if a matrix has no elements, or if some are outside of `length` elements.
fn check(length: usize, rows: usize, cols: usize, stride: usize) {
    assert!(rows > 0 && cols > 0, "a matrix has elements");
    let last_row = (rows - 1).checked_mul(stride).expect("a matrix lies in memory");
    assert!(cols <= length && last_row <= length - cols, "a matrix lies in its slice");
}

impl<'a> Mat<'a> {
    /// The first `rows` · `cols` elements.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Mat::strided(data, rows, cols, cols)
    }

    /// Rows that start `stride` elements apart. They may overlap.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        Mat { data, rows, cols, stride, step: 1 }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Mat { data: self.data, rows: self.cols, cols: self.rows, stride: self.step, step: self.stride }
    }

    /// `rows` rows from row `first` on.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        assert!(rows > 0 && rows <= self.rows && first <= self.rows - rows);
        Mat { data: &self.data[first * self.stride..], rows, ..self }
    }

    /// `cols` columns from column `first` on.
    pub fn cols(self, first: usize, cols: usize) -> Self {
        self.t().rows(first, cols).t()
    }

    /// Rows and columns.
    pub fn shape(self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// Each row as a slice. The matrix is not transposed.
    pub fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        assert!(self.step == 1);
        self.data.chunks(self.stride).take(self.rows).map(move |row| &row[..self.cols])
    }
}

impl<'a> MatMut<'a> {
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        MatMut::strided(data, rows, cols, cols)
    }

    pub fn strided(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        assert!(cols <= stride, "rows that can be written don't overlap");
        MatMut { data, rows, cols, stride }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    pub fn into_view(self) -> Mat<'a> {
        Mat { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride, step: 1 }
    }

    pub fn cols(&mut self, first: usize, cols: usize) -> MatMut<'_> {
        assert!(cols > 0 && cols <= self.cols && first <= self.cols - cols);
        MatMut { data: &mut self.data[first..], rows: self.rows, cols, stride: self.stride }
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let cols = self.cols;
        self.data.chunks_mut(self.stride).take(self.rows).map(move |row| &mut row[..cols])
    }
}

/// Copies a matrix [rows, columns] to the transposed matrix [columns, width], padded with zeros beyond `rows`. The lines of 64
/// rows stay in the L1 cache until all columns have been read from them.
#[inline(always)]
pub(crate) fn transpose(x: Mat, mut out: MatMut) {
    assert!(x.step == 1);
    for first in (0..x.rows).step_by(64) {
        let rows = x.rows(first, 64.min(x.rows - first));
        for (column, out) in out.iter_mut().take(x.cols).enumerate() {
            for (out, x) in out[first..first + rows.rows].iter_mut().zip(rows.data[column..].chunks(x.stride)) {
                *out = x[0];
            }
            if first + 64 >= x.rows {
                out[x.rows..].fill(0.0);
            }
        }
    }
}
