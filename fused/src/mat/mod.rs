//! Matrices: slices with a shape.
//!
//! All bounds are checked when a matrix is made. So products compare shapes, and their loops check nothing.

mod buffer;
mod product;
mod tile;

use std::ops::Deref;

pub(crate) use buffer::{Buffer, buffers};
pub(crate) use product::{Start, dots, multiply};
pub(crate) use tile::{Map, map_tile};

/// A matrix in a slice: element (i, j) is `data[i · stride + j · step]`. All its elements are in the slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<D> {
    data: D,
    rows: usize,
    cols: usize,
    stride: usize,
    step: usize,
}

pub(crate) type Mat<'a> = Matrix<&'a [f32]>;

/// A matrix that can be written. Its step is 1.
pub(crate) type MatMut<'a> = Matrix<&'a mut [f32]>;

impl<D: Deref<Target = [f32]>> Matrix<D> {
    /// The first `rows` · `cols` elements.
    pub fn new(data: D, rows: usize, cols: usize) -> Self {
        Matrix::strided(data, rows, cols, cols)
    }

    /// Rows that start `stride` elements apart. They may overlap. Panics if the matrix has no elements, or if some are
    /// outside of the slice.
    pub fn strided(data: D, rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows > 0 && cols > 0, "a matrix has elements");
        let last_row = (rows - 1).checked_mul(stride).expect("a matrix lies in memory");
        assert!(cols <= data.len() && last_row <= data.len() - cols, "a matrix lies in its slice");
        Matrix { data, rows, cols, stride, step: 1 }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }
}

impl<'a> Mat<'a> {
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

    /// Each row as a slice. The matrix is not transposed.
    pub fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        assert!(self.step == 1);
        self.data.chunks(self.stride).take(self.rows).map(move |row| &row[..self.cols])
    }
}

impl<'a> MatMut<'a> {
    pub fn into_view(self) -> Mat<'a> {
        Mat { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride, step: 1 }
    }

    pub fn cols(&mut self, first: usize, cols: usize) -> MatMut<'_> {
        assert!(cols > 0 && cols <= self.cols && first <= self.cols - cols);
        MatMut { data: &mut self.data[first..], rows: self.rows, cols, stride: self.stride, step: 1 }
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
