//! Numbers that begin at a cache line: a vector that lies in one line is read at twice the speed.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line, and of the longest vector.
const LINE: usize = 64;

/// A buffer of float32 numbers.
#[derive(Default)]
pub(super) struct Aligned {
    numbers: Vec<f32>,
    first: usize,
}

impl Aligned {
    pub fn zeros(length: usize) -> Self {
        let spare = LINE / size_of::<f32>();
        let mut numbers = vec![0.0; length + spare];
        let first = numbers.as_ptr().align_offset(LINE);
        assert!(first <= spare, "float32 numbers can be aligned");
        numbers.truncate(first + length);
        Aligned { numbers, first }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[self.first..]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.first..]
    }
}
