//! Aligned memory of matrices.

use std::ops::{Deref, DerefMut};

use super::{Mat, MatMut};

/// Bytes of a cache line and of the widest register.
const LINE: usize = 64;

/// A buffer whose first element begins a cache line: a register within one line is loaded at twice the speed.
#[derive(Default)]
pub(crate) struct Buffer<T = f32> {
    elements: Vec<T>,
    first: usize,
}

impl<T: Copy + Default> Buffer<T> {
    pub fn zeros(length: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let mut elements = vec![T::default(); length + spare];
        let first = elements.as_ptr().align_offset(LINE);
        assert!(first <= spare, "the elements can be aligned");
        elements.truncate(first + length);
        Buffer { elements, first }
    }
}

impl Buffer {
    /// The first `rows` · `cols` elements as a matrix.
    pub fn mat(&self, rows: usize, cols: usize) -> Mat<'_> {
        Mat::new(self, rows, cols)
    }

    pub fn mat_mut(&mut self, rows: usize, cols: usize) -> MatMut<'_> {
        MatMut::new(self, rows, cols)
    }

    /// As [`Buffer::mat_mut`]. Replaces a shorter buffer by zeros.
    pub fn room(&mut self, rows: usize, cols: usize) -> MatMut<'_> {
        if self.len() < rows * cols {
            *self = Buffer::zeros(rows * cols);
        }
        self.mat_mut(rows, cols)
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.elements[self.first..]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.elements[self.first..]
    }
}

/// Defines a struct of buffers, which begin with zeros, and the length of each.
macro_rules! buffers {
    ($(#[$doc:meta])* $name:ident($shape:ident: $type:ty) where $($size:ident = $value:expr),*;
     $($(#[$of_field:meta])* $field:ident: $length:expr,)* $(; $room:ident: $room_type:ty)?) => {
        $(#[$doc])*
        pub(super) struct $name {
            $($(#[$of_field])* pub $field: Buffer,)*
            $(pub $room: $room_type,)?
        }

        impl $name {
            fn new($shape: $type) -> Self {
                $(let $size = $value;)*
                $name { $($field: Buffer::zeros($length),)* $($room: Default::default())? }
            }
        }
    };
}
pub(crate) use buffers;
