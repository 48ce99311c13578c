//! 3 × 3 convolution and its gradients by Winograd's minimal filtering F(4 × 4, 3 × 3) (Lavin and Gray, arXiv 1509.09308),
//! with a quarter of the multiplications.
//!
//! A tile of 4 × 4 outputs depends on 6 × 6 inputs. With the maps B, G and A of a tile's inputs, weights and outputs, one
//! channel is Y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A. Over all channels, each of the 36 elementwise products becomes a matrix product,
//! [tiles, inputs] · [inputs, outputs]. The backward pass uses the transposed maps.

use super::grid::{Grid, TILE};
use super::maps::{Inputs, InputsBack, Outputs, OutputsBack, Weights, WeightsBack};
use crate::cpu::{Level, Simd, dispatch};
use crate::mat::{Buffer, Mat, MatMut, Start, map_tile, multiply};

/// Elements of a mapped tile.
const ELEMENTS: usize = 36;

/// Tiles that are multiplied at a time: fewer make products slow, more leave the caches.
const ROWS: usize = 32;

/// Columns of mapped weights that lie together, so that a product reads them from the L1 cache.
const PANEL: usize = 64;

/// Distance of two elements' matrices: one cache line more than their length, so that the 36 matrices don't share sets of
/// the L1 cache.
fn plane(length: usize) -> usize {
    length + 16
}

/// Mapped weights of one direction.
pub(super) struct Mapped {
    rows: usize,
    columns: usize,
    back: bool,
    /// 36 × panels × [rows, panel]
    weights: Buffer,
}

/// Weights of a layer: [inputs, outputs] for the forward pass, [outputs, inputs] for the backward pass.
pub(super) struct Winograd {
    pub forward: Mapped,
    pub backward: Mapped,
}

/// Memory of one thread, for a group of images.
#[derive(Default)]
pub(super) struct Workspace {
    /// 36 × [tiles, inputs]: mapped inputs, and their gradient in the backward pass.
    inputs: Buffer,
    /// 36 × [tiles, outputs]: outputs before their map, or their gradient.
    outputs: Buffer,
    /// 36 × [inputs, outputs]: gradient of the mapped weights.
    gradient: Buffer,
}

/// Number of images whose tiles are multiplied together.
pub(super) fn images_together(grid: Grid) -> usize {
    (ROWS / tiles(grid)).max(1)
}

/// Number of tiles of an image.
fn tiles(grid: Grid) -> usize {
    grid.tiles() * grid.tiles()
}

impl Mapped {
    fn new(rows: usize, columns: usize, back: bool) -> Self {
        Mapped { rows, columns, back, weights: Buffer::zeros(ELEMENTS * plane(rows * columns)) }
    }

    /// Columns of the panel that starts at column `first`; the last panel can be narrower.
    fn panel(&self, first: usize) -> usize {
        PANEL.min(self.columns - first)
    }

    /// Maps the weights [outputs, inputs, 3, 3].
    pub fn load(&mut self, level: Level, weights: &[f32]) {
        let (length, back) = (self.rows * self.columns, self.back);
        let inputs = if back { self.columns } else { self.rows };
        // 9 × panels × [rows, panel]
        let mut taps = Buffer::zeros(9 * length);
        for (i, weights) in weights.chunks_exact(9).enumerate() {
            let (input, output) = (i % inputs, i / inputs);
            let (row, column) = if back { (output, input) } else { (input, output) };
            let first = column / PANEL * PANEL;
            let at = first * self.rows + row * self.panel(first) + column - first;
            for (tap, weight) in weights.iter().enumerate() {
                taps[tap * length + at] = *weight;
            }
        }
        let to = plane(length);
        let (from, to) = ((&taps[..], (3 * length, length)), (&mut self.weights[..], (6 * to, to)));
        dispatch!(level, simd => map_tile::<_, Weights, 3, 6>(simd.float32(), from, to, length));
    }

    /// [m, rows] · [rows, columns] -> [m, columns] for one element of the tiles
    #[inline(always)]
    fn product<S: Simd>(&self, simd: S, element: usize, left: Mat, mut out: MatMut) {
        let panels = &self.weights[element * plane(self.rows * self.columns)..];
        for first in (0..self.columns).step_by(PANEL) {
            let panel = self.panel(first);
            let right = Mat::new(&panels[first * self.rows..], self.rows, panel);
            multiply(simd, left, right, Start::Zero, out.cols(first, panel));
        }
    }
}

impl Winograd {
    /// Weights of a layer whose channels are multiples of 16.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        Winograd { forward: Mapped::new(inputs, outputs, false), backward: Mapped::new(outputs, inputs, true) }
    }

    /// Numbers of input and output channels.
    fn channels(&self) -> (usize, usize) {
        (self.forward.rows, self.forward.columns)
    }

    /// Y = Aᵀ[Σ (G w Gᵀ) ⊙ (Bᵀ x B)]A, summed over the input channels: inputs -> outputs of some images on the grid
    #[inline(always)]
    pub fn convolve<S: Simd>(&self, simd: S, grid: Grid, input: &[f32], out: &mut [f32], workspace: &mut Workspace) {
        let (inputs, outputs) = self.channels();
        let tiles = self.map_inputs(simd, grid, input, workspace);
        let (from, to) = (plane(tiles * inputs), plane(tiles * outputs));
        let products = &mut workspace.outputs[..];
        for element in 0..ELEMENTS {
            let left = Mat::new(&workspace.inputs[element * from..], tiles, inputs);
            self.forward.product(simd, element, left, MatMut::new(&mut products[element * to..], tiles, outputs));
        }
        for (tile, at) in tile_positions(grid, tiles) {
            let mapped = (&products[tile * outputs..], (6 * to, to));
            let out = (&mut out[grid.inside(at) * outputs..], (grid.row() * outputs, outputs));
            map_tile::<S, Outputs, 6, 4>(simd, mapped, out, outputs);
        }
    }

    /// d(Bᵀ x B) = (A dY Aᵀ) ⊙ (G w Gᵀ), summed over the output channels, and dx = B d(…) Bᵀ; d(G w Gᵀ) = (A dY Aᵀ) ⊙ (Bᵀ x B),
    /// summed over the tiles: gradient `d` of the outputs of some images, zero outside the image -> of the inputs, and of
    /// the mapped weights in the workspace, added to `start`
    #[inline(always)]
    pub fn convolve_backward<S: Simd>(
        &self,
        simd: S,
        grid: Grid,
        (input, d): (&[f32], &[f32]),
        d_input: &mut [f32],
        start: Start,
        workspace: &mut Workspace,
    ) {
        let (inputs, outputs) = self.channels();
        let weights = plane(inputs * outputs);
        let tiles = self.map_inputs(simd, grid, input, workspace);
        let (to, from) = (plane(tiles * inputs), plane(tiles * outputs));
        for (tile, at) in tile_positions(grid, tiles) {
            let d = (&d[grid.inside(at) * outputs..], (grid.row() * outputs, outputs));
            let mapped = (&mut workspace.outputs[tile * outputs..], (6 * from, from));
            map_tile::<S, OutputsBack, 4, 6>(simd, d, mapped, outputs);
        }
        for element in 0..ELEMENTS {
            let d = Mat::new(&workspace.outputs[element * from..], tiles, outputs);
            let mapped = &mut workspace.inputs[element * to..];
            let gradient = MatMut::new(&mut workspace.gradient[element * weights..], inputs, outputs);
            multiply(simd, Mat::new(mapped, tiles, inputs).t(), d, start, gradient);
            self.backward.product(simd, element, d, MatMut::new(mapped, tiles, inputs));
        }
        d_input.fill(0.0);
        for (tile, at) in tile_positions(grid, tiles) {
            let mapped = (&workspace.inputs[tile * inputs..], (6 * to, to));
            let d_input = (&mut d_input[at * inputs..], (grid.row() * inputs, inputs));
            map_tile::<S, InputsBack, 6, 6>(simd, mapped, d_input, inputs);
        }
    }

    /// Bᵀ x B of all tiles of some images. Makes room in the workspace, and returns the number of tiles.
    #[inline(always)]
    fn map_inputs<S: Simd>(&self, simd: S, grid: Grid, input: &[f32], workspace: &mut Workspace) -> usize {
        let (inputs, outputs) = self.channels();
        let tiles = input.len() / (grid.positions() * inputs) * tiles(grid);
        let to = plane(tiles * inputs);
        workspace.inputs.room(ELEMENTS, to);
        workspace.outputs.room(ELEMENTS, plane(tiles * outputs));
        workspace.gradient.room(ELEMENTS, plane(inputs * outputs));
        for (tile, at) in tile_positions(grid, tiles) {
            let input = (&input[at * inputs..], (grid.row() * inputs, inputs));
            map_tile::<S, Inputs, 6, 6>(simd, input, (&mut workspace.inputs[tile * inputs..], (6 * to, to)), inputs);
        }
        tiles
    }

    /// dw = Gᵀ d(G w Gᵀ) G: gradient of the mapped weights in the workspace -> of the weights, 9 × [inputs, outputs]
    pub fn weight_gradient<S: Simd>(&self, simd: S, workspace: &Workspace, to: &mut [f32]) {
        let length = self.forward.rows * self.forward.columns;
        let (from, to) = ((&workspace.gradient[..], (6 * plane(length), plane(length))), (to, (3 * length, length)));
        map_tile::<S, WeightsBack, 6, 3>(simd, from, to, length);
    }
}

/// All tiles of some images: the tile's number, and the position of the first of its 6 × 6 inputs.
fn tile_positions(grid: Grid, tiles_in_all: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..tiles_in_all).map(move |tile| {
        let (image, tile_of_image) = (tile / tiles(grid), tile % tiles(grid));
        let (y, x) = (tile_of_image / grid.tiles(), tile_of_image % grid.tiles());
        (tile, image * grid.positions() + TILE * (y * grid.row() + x))
    })
}
