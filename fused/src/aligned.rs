//! Numbers that begin at a cache line: a vector that lies in one line is read at twice the speed.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the longest vector.
const LINE: usize = 64;

/// A buffer of float32 numbers, or of others.
#[derive(Default)]
pub(super) struct Aligned<T = f32> {
    numbers: Vec<T>,
    first: usize,
}

impl<T: Copy + Default> Aligned<T> {
    pub fn zeros(length: usize) -> Self {
        Aligned::filled(T::default(), length)
    }

    pub fn filled(number: T, length: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let mut numbers = vec![number; length + spare];
        let first = numbers.as_ptr().align_offset(LINE);
        assert!(first <= spare, "numbers can be aligned");
        numbers.truncate(first + length);
        Aligned { numbers, first }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.numbers[self.first..]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.numbers[self.first..]
    }
}
