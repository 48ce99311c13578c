//! Matrices, and their products, whose operands are in the CPU's caches.
//!
//! All bounds are checked when a matrix is made. So products compare shapes, and their loops check nothing.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[cfg(target_arch = "x86_64")]
use crate::cpu::Bfloat16;
use crate::cpu::{Operation, Simd};

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
        Buffer::filled(T::default(), length)
    }

    pub fn filled(value: T, length: usize) -> Self {
        let spare = LINE / size_of::<T>();
        let mut elements = vec![value; length + spare];
        let first = elements.as_ptr().align_offset(LINE);
        assert!(first <= spare, "the elements can be aligned");
        elements.truncate(first + length);
        Buffer { elements, first }
    }

    /// The first `rows` · `cols` elements as a matrix.
    pub fn mat(&self, rows: usize, cols: usize) -> Mat<'_, T> {
        Mat::new(self, rows, cols)
    }

    pub fn mat_mut(&mut self, rows: usize, cols: usize) -> MatMut<'_, T> {
        MatMut::new(self, rows, cols)
    }

    /// As [`Buffer::mat_mut`]. Replaces a shorter buffer by zeros.
    pub fn room(&mut self, rows: usize, cols: usize) -> MatMut<'_, T> {
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
     $($(#[$of_field:meta])* $field:ident: $length:expr,)* $(; $room:ident)?) => {
        $(#[$doc])*
        struct $name {
            $($(#[$of_field])* $field: Buffer,)*
            $($room: Room,)?
        }

        impl $name {
            fn new($shape: $type) -> Self {
                $(let $size = $value;)*
                $name { $($field: Buffer::zeros($length),)* $($room: Room::default())? }
            }
        }
    };
}
pub(crate) use buffers;

/// A matrix in a slice: element (i, j) is `data[i · stride + j · step]`. All its elements are in the slice.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T = f32> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
    step: usize,
}

/// A matrix that can be written: element (i, j) is `data[i · stride + j]`.
pub(crate) struct MatMut<'a, T = f32> {
    data: &'a mut [T],
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

impl<'a, T> Mat<'a, T> {
    /// The first `rows` · `cols` elements.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Mat::strided(data, rows, cols, cols)
    }

    /// Rows that start `stride` elements apart. They may overlap.
    pub fn strided(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
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
    pub fn iter(self) -> impl Iterator<Item = &'a [T]> {
        assert!(self.step == 1);
        self.data.chunks(self.stride).take(self.rows).map(move |row| &row[..self.cols])
    }
}

impl<'a, T> MatMut<'a, T> {
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        MatMut::strided(data, rows, cols, cols)
    }

    pub fn strided(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        assert!(cols <= stride, "rows that can be written don't overlap");
        MatMut { data, rows, cols, stride }
    }

    pub fn view(&self) -> Mat<'_, T> {
        Mat { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride, step: 1 }
    }

    pub fn into_view(self) -> Mat<'a, T> {
        Mat { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride, step: 1 }
    }

    pub fn cols(&mut self, first: usize, cols: usize) -> MatMut<'_, T> {
        assert!(cols > 0 && cols <= self.cols && first <= self.cols - cols);
        MatMut { data: &mut self.data[first..], rows: self.rows, cols, stride: self.stride }
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        let cols = self.cols;
        self.data.chunks_mut(self.stride).take(self.rows).map(move |row| &mut row[..cols])
    }
}

/// Two bfloat16 neighbours along the summed axis of a product; the first is the lower half.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pair(pub u32);

/// Both forms of a buffer of operands. Only the one that the level multiplies has elements.
#[derive(Default)]
pub(crate) struct Operands {
    pub float32: Buffer,
    pub pairs: Buffer<Pair>,
}

/// Memory of operands between their rounding and their product, and of a head of attention.
#[derive(Default)]
pub(crate) struct Room {
    /// [E/H, padded queries]: the queries of a head, or the gradient of its output, transposed.
    pub transposed: Operands,
    /// [S, padded queries]
    pub d_map: Buffer,
    pub pairs: [Buffer<Pair>; 8],
}

/// Operand of a product, of 32 bits: a float32 value, or a pair of bfloat16 values. Sums are float32.
pub(crate) trait Operand<S: Simd>: Copy + Default {
    /// Whether operands have three digits, so that functions between products may be as short.
    const SHORT: bool;

    /// sum + a · b
    fn fma(simd: S, sum: S::Register, a: Self, b: S::Register) -> S::Register;

    /// Number of operands of `n` values.
    fn count(n: usize) -> usize;

    /// Rounds a matrix to a left operand, summed along its rows: [m, k] -> [m, count(k)].
    fn along<'a>(simd: S, x: Mat<'a>, room: &'a mut Buffer<Pair>) -> Mat<'a, Self>;

    /// Rounds a matrix to a right operand, summed down its columns: [k, n] -> [count(k), n]. Transposed, it is a left one.
    fn down<'a>(simd: S, x: Mat<'a>, room: &'a mut Buffer<Pair>) -> Mat<'a, Self>;

    fn buffer(operands: &Operands) -> &Buffer<Self>;
    fn buffer_mut(operands: &mut Operands) -> &mut Buffer<Self>;
}

impl<S: Simd> Operand<S> for f32 {
    const SHORT: bool = false;

    #[inline(always)]
    fn fma(simd: S, sum: S::Register, a: f32, b: S::Register) -> S::Register {
        simd.plus(sum, a, b)
    }

    #[inline(always)]
    fn count(n: usize) -> usize {
        n
    }

    #[inline(always)]
    fn along<'a>(_: S, x: Mat<'a>, _: &'a mut Buffer<Pair>) -> Mat<'a> {
        x
    }

    #[inline(always)]
    fn down<'a>(_: S, x: Mat<'a>, _: &'a mut Buffer<Pair>) -> Mat<'a> {
        x
    }

    fn buffer(operands: &Operands) -> &Buffer {
        &operands.float32
    }

    fn buffer_mut(operands: &mut Operands) -> &mut Buffer {
        &mut operands.float32
    }
}

#[cfg(target_arch = "x86_64")]
impl Operand<Bfloat16> for Pair {
    const SHORT: bool = true;

    #[inline(always)]
    fn fma(simd: Bfloat16, sum: Register, a: Pair, b: Register) -> Register {
        simd.dot(sum, a, b)
    }

    #[inline(always)]
    fn count(n: usize) -> usize {
        n.div_ceil(2)
    }

    #[inline(always)]
    fn along<'a>(simd: Bfloat16, x: Mat<'a>, room: &'a mut Buffer<Pair>) -> Mat<'a, Pair> {
        assert!(x.step == 1 && x.cols.is_multiple_of(16));
        let mut out = room.room(x.rows, x.cols / 2);
        for (row, out) in x.iter().zip(out.iter_mut()) {
            for (values, out) in row.chunks(32).zip(out.chunks_mut(16)) {
                // SAFETY: `values` and `out` are 32 values and 16 pairs, or half as many at the end of a row.
                unsafe {
                    if let Some(values) = values.first_chunk::<32>() {
                        let [first, second] = [0, 16].map(|i| simd.load(values.as_ptr().add(i)));
                        simd.store(simd.pair_neighbours(first, second), out.as_mut_ptr().cast());
                    } else {
                        let pairs = simd.pair_neighbours(simd.load(values.as_ptr()), simd.splat(0.0));
                        let mut both = [0.0; 16];
                        simd.store(pairs, both.as_mut_ptr());
                        out.iter_mut().zip(both).for_each(|(out, both)| *out = Pair(both.to_bits()));
                    }
                }
            }
        }
        out.into_view()
    }

    #[inline(always)]
    fn down<'a>(simd: Bfloat16, x: Mat<'a>, room: &'a mut Buffer<Pair>) -> Mat<'a, Pair> {
        assert!(x.step == 1 && x.cols.is_multiple_of(16));
        let mut out = room.room(x.rows.div_ceil(2), x.cols);
        for (i, out) in out.iter_mut().enumerate() {
            let first = &x.data[2 * i * x.stride..][..x.cols];
            let second = if 2 * i + 1 < x.rows { &x.data[(2 * i + 1) * x.stride..][..x.cols] } else { &[] };
            for j in (0..x.cols).step_by(16) {
                // SAFETY: the slices have at least 16 values from j on, except an absent second row.
                unsafe {
                    let zero = simd.splat(0.0);
                    let second = if second.is_empty() { zero } else { simd.load(second.as_ptr().add(j)) };
                    let pairs = simd.pair_rows(simd.load(first.as_ptr().add(j)), second);
                    simd.store(pairs, out.as_mut_ptr().add(j).cast());
                }
            }
        }
        out.into_view()
    }

    fn buffer(operands: &Operands) -> &Buffer<Pair> {
        &operands.pairs
    }

    fn buffer_mut(operands: &mut Operands) -> &mut Buffer<Pair> {
        &mut operands.pairs
    }
}

#[cfg(target_arch = "x86_64")]
type Register = <Bfloat16 as Simd>::Register;

/// Initial value of the sums of a product.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// The present content of the result.
    Present,
    /// The same row `[n]` for all rows of the result.
    Bias(&'a [f32]),
}

/// out = start + left · right: [m, k] · [k, n] -> [m, n]; n is a multiple of 16. The left matrix can be transposed.
pub(crate) fn multiply<S: Simd, O: Operand<S>>(simd: S, left: Mat<O>, right: Mat<O>, start: Start, out: MatMut) {
    let (m, n, k) = (out.rows, out.cols, left.cols);
    assert!(left.rows == m && right.cols == n && right.rows == k && right.step == 1 && n.is_multiple_of(16));
    // The present content is read through the pointer that writes the result: another would end with the first write.
    let result = out.data.as_mut_ptr();
    let (start, start_stride) = match start {
        Start::Zero => (std::ptr::null(), 0),
        Start::Present => (result.cast_const(), out.stride),
        Start::Bias(bias) => (bias[..n].as_ptr(), 0),
    };
    // The operation's loops rely on these shapes, and on all elements of the matrices being in their slices.
    simd.run(Product {
        simd,
        m,
        n,
        k,
        left: left.data.as_ptr(),
        left_stride: left.stride,
        left_step: left.step,
        right: right.data.as_ptr().cast(),
        right_stride: right.stride,
        out: result,
        out_stride: out.stride,
        start,
        start_stride,
    });
}

/// A product whose bounds have been checked.
#[derive(Clone, Copy)]
struct Product<S, O> {
    simd: S,
    m: usize,
    n: usize,
    k: usize,
    left: *const O,
    left_stride: usize,
    left_step: usize,
    /// Float32 values or pairs, which a register loads alike.
    right: *const f32,
    right_stride: usize,
    out: *mut f32,
    out_stride: usize,
    /// Null for [`Start::Zero`].
    start: *const f32,
    start_stride: usize,
}

impl<S: Simd, O: Operand<S>> Operation<S> for Product<S, O> {
    type Output = ();

    #[inline(always)]
    fn call(self, _: S) {
        // SAFETY: `multiply` has checked the bounds, and it alone makes products; n is a multiple of all LANES.
        unsafe { self.columns(self.n / S::LANES) }
    }
}

/// # Safety
/// The operands and the result must be valid for all elements that the method computes.
impl<S: Simd, O: Operand<S>> Product<S, O> {
    /// Computes all columns, `registers` wide, one tile's width at a time.
    #[inline(always)]
    unsafe fn columns(mut self, mut registers: usize) {
        while registers > 0 {
            // A larger tile needs fewer loads; its sums must fit the registers. Rows of one register belong to a head:
            // tiles of ten tokens divide fifty.
            // SAFETY: the tile is at most as wide as the columns that are left.
            unsafe {
                let width = match registers.min(S::TILE) {
                    4 => self.rows::<6, 4>(),
                    3 => self.rows::<8, 3>(),
                    2 if S::TILE == 4 => self.rows::<8, 2>(),
                    2 => self.rows::<6, 2>(),
                    _ if S::TILE == 4 => self.rows::<10, 1>(),
                    _ => self.rows::<6, 1>(),
                };
                registers -= width;
                self.right = self.right.wrapping_add(width * S::LANES);
                self.out = self.out.wrapping_add(width * S::LANES);
                if !self.start.is_null() {
                    self.start = self.start.wrapping_add(width * S::LANES);
                }
            }
        }
    }

    /// Computes all rows of `WIDTH` registers, `HEIGHT` at a time. Returns `WIDTH`.
    #[inline(always)]
    unsafe fn rows<const HEIGHT: usize, const WIDTH: usize>(self) -> usize {
        let (mut tile, mut m) = (self, self.m);
        // SAFETY: the tiles have m rows in all.
        unsafe {
            while m >= HEIGHT {
                tile = tile.tile::<HEIGHT, WIDTH>();
                m -= HEIGHT;
            }
            // Runs twice if eight or nine rows remain below a tile of ten.
            while m >= 4 {
                tile = tile.tile::<4, WIDTH>();
                m -= 4;
            }
            if m >= 2 {
                tile = tile.tile::<2, WIDTH>();
                m -= 2;
            }
            if m == 1 {
                tile.tile::<1, WIDTH>();
            }
        }
        WIDTH
    }

    /// Computes `HEIGHT` rows of `WIDTH` registers. Returns the product of the rows below.
    #[inline(always)]
    unsafe fn tile<const HEIGHT: usize, const WIDTH: usize>(mut self) -> Self {
        let simd = self.simd;
        // SAFETY: the tile is inside the result.
        unsafe {
            let mut sums = [[simd.splat(0.0); WIDTH]; HEIGHT];
            if !self.start.is_null() {
                for (i, row) in sums.iter_mut().enumerate() {
                    for (j, sum) in row.iter_mut().enumerate() {
                        *sum = simd.load(self.start.add(i * self.start_stride + j * S::LANES));
                    }
                }
                self.start = self.start.wrapping_add(HEIGHT * self.start_stride);
            }
            let (mut left, mut right) = (self.left, self.right);
            for _ in 0..self.k {
                let mut columns = [simd.splat(0.0); WIDTH];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = simd.load(right.add(j * S::LANES));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = *left.add(i * self.left_stride);
                    for (sum, column) in row.iter_mut().zip(columns) {
                        *sum = O::fma(simd, *sum, x, column);
                    }
                }
                left = left.wrapping_add(self.left_step);
                right = right.wrapping_add(self.right_stride);
            }
            for (i, row) in sums.iter().enumerate() {
                for (j, sum) in row.iter().enumerate() {
                    simd.store(*sum, self.out.add(i * self.out_stride + j * S::LANES));
                }
            }
            self.left = self.left.wrapping_add(HEIGHT * self.left_stride);
            self.out = self.out.wrapping_add(HEIGHT * self.out_stride);
        }
        self
    }
}

/// [m, k] · [k] -> [m]; k is a multiple of 16.
pub(crate) fn dots<S: Simd>(simd: S, matrix: Mat, vector: &[f32], out: &mut [f32]) {
    assert!(vector.len() == matrix.cols && vector.len().is_multiple_of(16));
    simd.run(Dots { matrix, vector, out });
}

struct Dots<'a> {
    matrix: Mat<'a>,
    vector: &'a [f32],
    out: &'a mut [f32],
}

impl<S: Simd> Operation<S> for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self, simd: S) {
        for (row, out) in self.matrix.iter().zip(self.out) {
            let mut sums = simd.splat(0.0);
            for (x, y) in row.chunks_exact(S::LANES).zip(self.vector.chunks_exact(S::LANES)) {
                // SAFETY: both chunks have LANES values.
                unsafe { sums = simd.fma(sums, simd.load(y.as_ptr()), simd.load(x.as_ptr())) };
            }
            *out = simd.sum(sums);
        }
    }
}

/// Copies a matrix [rows, columns] to the transposed matrix [columns, width], padded with zeros beyond `rows`. The lines of 64
/// rows stay in the L1 cache until all columns have been read from them.
#[inline(always)]
pub(crate) fn transpose<T: Copy + Default>(x: Mat<T>, mut out: MatMut<T>) {
    assert!(x.step == 1);
    for first in (0..x.rows).step_by(64) {
        let rows = x.rows(first, 64.min(x.rows - first));
        for (column, out) in out.iter_mut().take(x.cols).enumerate() {
            for (out, x) in out[first..first + rows.rows].iter_mut().zip(rows.data[column..].chunks(x.stride)) {
                *out = x[0];
            }
            if first + 64 >= x.rows {
                out[x.rows..].fill(T::default());
            }
        }
    }
}

/// A linear map of a tile's rows and columns, from `FROM` to `TO` elements.
pub(crate) trait Map<const FROM: usize, const TO: usize> {
    /// Adds the results to the present content.
    const ADD: bool = false;

    fn map<S: Simd>(simd: S, x: [S::Register; FROM]) -> [S::Register; TO];
}

/// Maps the rows and columns of a tile of `FROM` × `FROM` elements. An element is a run of `channels` values, a multiple of
/// 16; the next element of a column starts `strides.0` values further, the next of a row `strides.1` values.
pub(crate) fn map_tile<S: Simd, M: Map<FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    (from, from_strides): (&[f32], (usize, usize)),
    (to, to_strides): (&mut [f32], (usize, usize)),
    channels: usize,
) {
    assert!(channels.is_multiple_of(16));
    for (length, side, strides) in [(from.len(), FROM, from_strides), (to.len(), TO, to_strides)] {
        let last = strides.0.checked_add(strides.1).and_then(|step| step.checked_mul(side - 1));
        assert!(last.and_then(|last| last.checked_add(channels)).is_some_and(|end| end <= length));
    }
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    simd.run(Tile::<M, FROM, TO> { from, from_strides, to, to_strides, channels, map: PhantomData });
}

/// A tile whose bounds have been checked.
struct Tile<M, const FROM: usize, const TO: usize> {
    from: *const f32,
    from_strides: (usize, usize),
    to: *mut f32,
    to_strides: (usize, usize),
    channels: usize,
    map: PhantomData<M>,
}

impl<S: Simd, M: Map<FROM, TO>, const FROM: usize, const TO: usize> Operation<S> for Tile<M, FROM, TO> {
    type Output = ();

    #[inline(always)]
    fn call(self, simd: S) {
        let (from_strides, to_strides) = (self.from_strides, self.to_strides);
        for first in (0..self.channels).step_by(S::LANES) {
            // SAFETY: `map_tile` has checked that the last elements are in their slices; LANES divides the number of channels.
            unsafe {
                let (from, to) = (self.from.add(first), self.to.add(first));
                let mut half = [[simd.splat(0.0); FROM]; TO];
                for x in 0..FROM {
                    let mut column = [simd.splat(0.0); FROM];
                    for (y, element) in column.iter_mut().enumerate() {
                        *element = simd.load(from.add(y * from_strides.0 + x * from_strides.1));
                    }
                    for (half, mapped) in half.iter_mut().zip(M::map(simd, column)) {
                        half[x] = mapped;
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, mapped) in M::map(simd, half).into_iter().enumerate() {
                        let to = to.add(y * to_strides.0 + x * to_strides.1);
                        simd.store(if M::ADD { simd.add(simd.load(to), mapped) } else { mapped }, to);
                    }
                }
            }
        }
    }
}
