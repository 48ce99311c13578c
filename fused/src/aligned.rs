//! Buffers aligned to cache lines: a vector register within one line is loaded at twice the speed.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line and of the widest vector register.
const LINE: usize = 64;

/// A buffer whose first element begins a cache line.
#[derive(Default)]
pub(super) struct Aligned<T = f32> {
    elements: Vec<T>,
    first: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub fn zeros(length: usize) -> Self {
        Aligned::filled(T::default(), length)
    }

    pub fn filled(value: T, length: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let mut elements = vec![value; length + spare];
        let first = elements.as_ptr().align_offset(LINE);
        assert!(first <= spare, "the elements can be aligned");
        elements.truncate(first + length);
        Aligned { elements, first }
    }

    /// The first `length` elements. Replaces a shorter buffer by zeros.
    #[inline]
    pub fn room(&mut self, length: usize) -> &mut [T] {
        if self.len() < length {
            *self = Aligned::zeros(length);
        }
        &mut self[..length]
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.elements[self.first..]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.elements[self.first..]
    }
}
