//! 3 × 3 convolution and its gradients by Winograd's minimal filtering F(4 × 4, 3 × 3) (Lavin and Gray, arXiv 1509.09308):
//! a quarter of the multiplications.
//!
//! A tile of 4 × 4 outputs sees 6 × 6 inputs. With the three maps B, G and A of a tile's inputs, weights and outputs,
//! Y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A for one channel; over all channels each of the 36 elementwise products becomes a product of
//! matrices, [tiles, inputs] · [inputs, outputs]. The way back runs through the transposed maps.
//!
//! The maps are those of the points 0, ±1/√2, ±√2 and ∞. They halve the rounding of the usual 0, ±1, ±2 and ∞: gradients of
//! a step stay within 1e-5 of libtorch's.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m512};
use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::aligned::Aligned;
use super::convolution::Grid;
use super::matmul::{Left, Out, Right, Start, matmul};
use super::vector::{Instructions, Vector};

/// Outputs in a row of a tile.
pub(super) const TILE: usize = 4;

/// Elements of a mapped tile.
const ELEMENTS: usize = 36;

/// Tiles that are multiplied at a time, at least, where there are so many: few would make slow products, many leave the
/// caches.
const ROWS: usize = 32;

/// Columns of mapped weights that lie together, so that a product finds what it reads in the first cache.
const PANEL: usize = 64;

/// From one element's matrix to the next: a line more than its numbers, or all 36 would compete for the same places of the
/// first cache.
fn plane(numbers: usize) -> usize {
    numbers + 16
}

/// One layer's weights, mapped.
pub(super) struct Winograd {
    inputs: usize,
    outputs: usize,
    /// 36 × panels × [inputs, panel]
    forward: Aligned,
    /// 36 × panels × [outputs, panel], for the way back.
    back: Aligned,
}

/// What a thread needs for a group of images.
pub(super) struct Work {
    /// 36 × [tiles, inputs]: mapped inputs, later their gradient.
    inputs: Aligned,
    /// 36 × [tiles, outputs]: outputs before their map, or their gradient.
    outputs: Aligned,
    /// 36 × [inputs, outputs]
    gradient: Aligned,
}

impl Work {
    /// Large enough for each of the layers.
    pub fn new<'a>(layers: impl Iterator<Item = (Grid, &'a Winograd)>) -> Self {
        let mut most = [0; 3];
        for (grid, layer) in layers {
            let tiles = images_together(grid) * tiles(grid);
            let numbers = [tiles * layer.inputs, tiles * layer.outputs, layer.inputs * layer.outputs];
            for (most, numbers) in most.iter_mut().zip(numbers) {
                *most = (*most).max(ELEMENTS * plane(numbers));
            }
        }
        let [inputs, outputs, gradient] = most.map(Aligned::zeros);
        Work { inputs, outputs, gradient }
    }
}

/// Images whose tiles are multiplied together.
pub(super) fn images_together(grid: Grid) -> usize {
    (ROWS / tiles(grid)).max(1)
}

/// Tiles of an image.
fn tiles(grid: Grid) -> usize {
    grid.tiles() * grid.tiles()
}

impl Winograd {
    /// For numbers of channels that are multiples of 16.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let mapped = || Aligned::zeros(ELEMENTS * plane(inputs * outputs));
        Winograd { inputs, outputs, forward: mapped(), back: mapped() }
    }

    /// What takes over the weights [outputs, inputs, 3, 3], for each direction.
    pub fn loads<'a>(&'a mut self, weights: &'a [f32]) -> [Load<'a>; 2] {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let load = |mapped, back| Load { weights, inputs, outputs, back, mapped };
        [load(&mut self.forward[..], false), load(&mut self.back[..], true)]
    }

    /// Inputs -> outputs of the convolution, of some images on the grid.
    pub fn convolve(&self, instructions: Instructions, grid: Grid, input: &[f32], out: &mut [f32], work: &mut Work) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let rows = self.map_inputs(instructions, grid, input, work);
        let (from, to) = (plane(rows * inputs), plane(rows * outputs));
        for element in 0..ELEMENTS {
            product(
                instructions,
                (rows, outputs, inputs),
                &work.inputs[element * from..],
                &self.forward[element * plane(inputs * outputs)..],
                &mut work.outputs[element * to..],
            );
        }
        for (tile, at) in places(grid, rows) {
            map::<Outputs, 6, 4>(
                instructions,
                (&work.outputs[tile * outputs..], 6 * to, to),
                (&mut out[grid.inside(at) * outputs..], grid.row() * outputs, outputs),
                outputs,
            );
        }
    }

    /// Mapped inputs of some images; returns the number of their tiles.
    fn map_inputs(&self, instructions: Instructions, grid: Grid, input: &[f32], work: &mut Work) -> usize {
        let inputs = self.inputs;
        let rows = input.len() / (grid.positions() * inputs) * tiles(grid);
        let to = plane(rows * inputs);
        for (tile, at) in places(grid, rows) {
            map::<Inputs, 6, 6>(
                instructions,
                (&input[at * inputs..], grid.row() * inputs, inputs),
                (&mut work.inputs[tile * inputs..], 6 * to, to),
                inputs,
            );
        }
        rows
    }

    /// Gradient `d` of the outputs of some images, zero outside the image -> of the mapped weights, added to `start`, in the
    /// work memory, and of the inputs.
    pub fn back(
        &self,
        instructions: Instructions,
        grid: Grid,
        (input, d): (&[f32], &[f32]),
        d_input: &mut [f32],
        start: Start,
        work: &mut Work,
    ) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let weights = plane(inputs * outputs);
        let rows = self.map_inputs(instructions, grid, input, work);
        let (to, from) = (plane(rows * inputs), plane(rows * outputs));
        for (tile, at) in places(grid, rows) {
            map::<OutputsBack, 4, 6>(
                instructions,
                (&d[grid.inside(at) * outputs..], grid.row() * outputs, outputs),
                (&mut work.outputs[tile * outputs..], 6 * from, from),
                outputs,
            );
        }
        for element in 0..ELEMENTS {
            let d = &work.outputs[element * from..];
            let mapped = &mut work.inputs[element * to..];
            matmul(
                instructions,
                (inputs, outputs, rows),
                Left::transposed(mapped, inputs),
                Right::rows(d, outputs),
                Out::rows(&mut work.gradient[element * weights..], outputs),
                start,
            );
            let back = &self.back[element * weights..];
            product(instructions, (rows, inputs, outputs), d, back, mapped);
        }
        d_input.fill(0.0);
        for (tile, at) in places(grid, rows) {
            map::<InputsBack, 6, 6>(
                instructions,
                (&work.inputs[tile * inputs..], 6 * to, to),
                (&mut d_input[at * inputs..], grid.row() * inputs, inputs),
                inputs,
            );
        }
    }

    /// The gradient in the work memory -> of the weights, 9 × [inputs, outputs]
    pub fn weight_gradient(&self, instructions: Instructions, work: &Work, to: &mut [f32]) {
        let numbers = self.inputs * self.outputs;
        let from = plane(numbers);
        map::<WeightsBack, 6, 3>(instructions, (&work.gradient, 6 * from, from), (to, 3 * numbers, numbers), numbers);
    }
}

/// Weights of one direction that wait for their map.
pub(super) struct Load<'a> {
    weights: &'a [f32],
    inputs: usize,
    outputs: usize,
    back: bool,
    mapped: &'a mut [f32],
}

impl Load<'_> {
    pub fn run(self, instructions: Instructions) {
        let numbers = self.inputs * self.outputs;
        let (rows, columns) = match self.back {
            false => (self.inputs, self.outputs),
            true => (self.outputs, self.inputs),
        };
        // 9 × panels × [rows, panel]
        let mut taps = Aligned::zeros(9 * numbers);
        for (i, weights) in self.weights.chunks_exact(9).enumerate() {
            let (output, input) = (i / self.inputs, i % self.inputs);
            let (row, column) = match self.back {
                false => (input, output),
                true => (output, input),
            };
            let first = column / PANEL * PANEL;
            let at = first * rows + row * panel(columns, first) + column - first;
            for (tap, weight) in weights.iter().enumerate() {
                taps[tap * numbers + at] = *weight;
            }
        }
        let to = plane(numbers);
        map::<Weights, 3, 6>(instructions, (&taps, 3 * numbers, numbers), (self.mapped, 6 * to, to), numbers);
    }
}

/// Columns of the panel that begins with `first`; the last may be narrower.
fn panel(columns: usize, first: usize) -> usize {
    PANEL.min(columns - first)
}

/// [rows, k] · panels × [k, panel] -> [rows, columns]
fn product(
    instructions: Instructions,
    (rows, columns, k): (usize, usize, usize),
    left: &[f32],
    panels: &[f32],
    out: &mut [f32],
) {
    for first in (0..columns).step_by(PANEL) {
        let panel = panel(columns, first);
        matmul(
            instructions,
            (rows, panel, k),
            Left::rows(left, k),
            Right::rows(&panels[first * k..], panel),
            Out::rows(&mut out[first..], columns),
            Start::Zero,
        );
    }
}

/// All tiles of some images: number, and position of the first of the 6 × 6 inputs.
fn places(grid: Grid, tiles_in_all: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..tiles_in_all).map(move |tile| {
        let (image, tile_of_image) = (tile / tiles(grid), tile % tiles(grid));
        let (y, x) = (tile_of_image / grid.tiles(), tile_of_image % grid.tiles());
        (tile, image * grid.positions() + TILE * (y * grid.row() + x))
    })
}

/// A linear map of the rows and of the columns of a tile.
trait Map<const FROM: usize, const TO: usize> {
    /// Whether results are added to what is there.
    const ADD: bool = false;

    unsafe fn map<V: Vector>(x: [V; FROM]) -> [V; TO];
}

/// Bᵀ x
struct Inputs;

impl Map<6, 6> for Inputs {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 6] {
        unsafe {
            let near = x[4].fma(V::splat(-2.0), x[2]);
            let odd_near = x[3].fma(V::splat(-2.0), x[1]);
            let far = x[4].fma(V::splat(-0.5), x[2]);
            let odd_far = x[3].fma(V::splat(-0.5), x[1]);
            [
                x[0].add(x[4]).fma(V::splat(-2.5), x[2]),
                near.fma(V::splat(FRAC_1_SQRT_2), odd_near),
                near.fma(V::splat(-FRAC_1_SQRT_2), odd_near),
                far.fma(V::splat(SQRT_2), odd_far),
                far.fma(V::splat(-SQRT_2), odd_far),
                x[1].add(x[5]).fma(V::splat(-2.5), x[3]),
            ]
        }
    }
}

/// B x
struct InputsBack;

impl Map<6, 6> for InputsBack {
    const ADD: bool = true;

    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 6] {
        unsafe {
            let (near, odd_near) = (x[1].add(x[2]), x[1].sub(x[2]));
            let (far, odd_far) = (x[3].add(x[4]), x[3].sub(x[4]));
            let (a, b) = (V::splat(FRAC_1_SQRT_2), V::splat(SQRT_2));
            let odd = odd_near.fma(V::splat(0.5), odd_far);
            let even = near.fma(V::splat(0.25), far);
            let other = odd_near.fma(V::splat(2.0), odd_far);
            [
                x[0],
                x[5].sub(b.mul(odd)),
                V::splat(-2.0).mul(even).fma(V::splat(-2.5), x[0]),
                a.mul(other).fma(V::splat(-2.5), x[5]),
                x[0].add(near).add(far),
                x[5],
            ]
        }
    }
}

/// G x
struct Weights;

impl Map<3, 6> for Weights {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 3]) -> [V; 6] {
        unsafe {
            let even_near = V::splat(-1.0 / 1.5).mul(x[0].fma(V::splat(0.5), x[2]));
            let even_far = V::splat(1.0 / 6.0).mul(x[0].fma(V::splat(2.0), x[2]));
            [
                x[0],
                even_near.fma(V::splat(-FRAC_1_SQRT_2 / 1.5), x[1]),
                even_near.fma(V::splat(FRAC_1_SQRT_2 / 1.5), x[1]),
                even_far.fma(V::splat(SQRT_2 / 6.0), x[1]),
                even_far.fma(V::splat(-SQRT_2 / 6.0), x[1]),
                x[2],
            ]
        }
    }
}

/// Gᵀ x
struct WeightsBack;

impl Map<6, 3> for WeightsBack {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 3] {
        unsafe {
            let (near, odd_near) = (x[1].add(x[2]), x[1].sub(x[2]));
            let (far, odd_far) = (x[3].add(x[4]), x[3].sub(x[4]));
            let odd = V::splat(-FRAC_1_SQRT_2 / 1.5).mul(odd_near);
            [
                x[0].fma(V::splat(-1.0 / 1.5), near).fma(V::splat(1.0 / 6.0), far),
                odd.fma(V::splat(SQRT_2 / 6.0), odd_far),
                x[5].fma(V::splat(1.0 / 3.0), far.sub(near)),
            ]
        }
    }
}

/// Aᵀ x
struct Outputs;

impl Map<6, 4> for Outputs {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 6]) -> [V; 4] {
        unsafe {
            let (near, odd_near) = (x[1].add(x[2]), x[1].sub(x[2]));
            let (far, odd_far) = (x[3].add(x[4]), x[3].sub(x[4]));
            let odd = odd_near.fma(V::splat(2.0), odd_far);
            let even = near.fma(V::splat(4.0), far);
            let other = odd_near.fma(V::splat(8.0), odd_far);
            [
                x[0].add(near).add(far),
                V::splat(FRAC_1_SQRT_2).mul(odd),
                V::splat(0.5).mul(even),
                x[5].fma(V::splat(0.5 * FRAC_1_SQRT_2), other),
            ]
        }
    }
}

/// A x
struct OutputsBack;

impl Map<4, 6> for OutputsBack {
    #[inline(always)]
    unsafe fn map<V: Vector>(x: [V; 4]) -> [V; 6] {
        unsafe {
            let near = x[0].fma(V::splat(0.5), x[2]);
            let odd_near = x[1].fma(V::splat(0.5), x[3]);
            let far = x[0].fma(V::splat(2.0), x[2]);
            let odd_far = x[1].fma(V::splat(2.0), x[3]);
            [
                x[0],
                near.fma(V::splat(FRAC_1_SQRT_2), odd_near),
                near.fma(V::splat(-FRAC_1_SQRT_2), odd_near),
                far.fma(V::splat(SQRT_2), odd_far),
                far.fma(V::splat(-SQRT_2), odd_far),
                x[3],
            ]
        }
    }
}

/// Maps a tile of `FROM` × `FROM` elements, each a run of `numbers` numbers; from one element to the next below and to
/// the right are the two steps.
fn map<M: Map<FROM, TO>, const FROM: usize, const TO: usize>(
    instructions: Instructions,
    (from, from_row, from_column): (&[f32], usize, usize),
    (to, to_row, to_column): (&mut [f32], usize, usize),
    numbers: usize,
) {
    assert!(numbers.is_multiple_of(16));
    assert!((FROM - 1) * (from_row + from_column) + numbers <= from.len());
    assert!((TO - 1) * (to_row + to_column) + numbers <= to.len());
    let tile = Tile { from: from.as_ptr(), from_row, from_column, to: to.as_mut_ptr(), to_row, to_column, numbers };
    // SAFETY: the bounds were checked above, the level was detected.
    unsafe {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => avx512::<M, FROM, TO>(tile),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => avx2::<M, FROM, TO>(tile),
            _ => tile.map::<[f32; 4], M, FROM, TO>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<M: Map<FROM, TO>, const FROM: usize, const TO: usize>(tile: Tile) {
    unsafe { tile.map::<__m512, M, FROM, TO>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<M: Map<FROM, TO>, const FROM: usize, const TO: usize>(tile: Tile) {
    unsafe { tile.map::<__m256, M, FROM, TO>() }
}

/// A tile whose bounds are known to be good.
struct Tile {
    from: *const f32,
    from_row: usize,
    from_column: usize,
    to: *mut f32,
    to_row: usize,
    to_column: usize,
    numbers: usize,
}

impl Tile {
    #[inline(always)]
    unsafe fn map<V: Vector, M: Map<FROM, TO>, const FROM: usize, const TO: usize>(self) {
        unsafe {
            for first in (0..self.numbers).step_by(V::LANES) {
                let (from, to) = (self.from.add(first), self.to.add(first));
                let mut half = [[V::splat(0.0); FROM]; TO];
                for x in 0..FROM {
                    let mut column = [V::splat(0.0); FROM];
                    for (y, element) in column.iter_mut().enumerate() {
                        *element = V::load(from.add(y * self.from_row + x * self.from_column));
                    }
                    for (half, mapped) in half.iter_mut().zip(M::map(column)) {
                        half[x] = mapped;
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, mapped) in M::map(half).into_iter().enumerate() {
                        let to = to.add(y * self.to_row + x * self.to_column);
                        let sum = if M::ADD { V::load(to).add(mapped) } else { mapped };
                        sum.store(to);
                    }
                }
            }
        }
    }
}
