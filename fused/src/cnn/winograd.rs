//! 3 × 3 convolution and its gradients by Winograd's minimal filtering F(4 × 4, 3 × 3) (Lavin and Gray, arXiv 1509.09308),
//! with a quarter of the multiplications.
//!
//! A tile of 4 × 4 outputs depends on 6 × 6 inputs. With the maps B, G and A of a tile's inputs, weights and outputs, one
//! channel is Y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A. Over all channels, each of the 36 elementwise products becomes a matrix product,
//! [tiles, inputs] · [inputs, outputs]. The backward pass uses the transposed maps.
//!
//! The maps belong to the points 0, ±1/√2, ±√2 and ∞. Their rounding errors are half of those of the usual points 0, ±1, ±2
//! and ∞, and gradients of a step agree with libtorch's to 1e-5.

use super::grid::{Grid, TILE};
use super::tile::{Inputs, InputsBack, Outputs, OutputsBack, Weights, WeightsBack, map};
use crate::aligned::Aligned;
use crate::cpu::CpuLevel;
use crate::matmul::{Start, matmul, rows, transposed};

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

/// Mapped weights of a layer.
pub(super) struct Winograd {
    inputs: usize,
    outputs: usize,
    /// 36 × panels × [inputs, panel]
    forward: Aligned,
    /// 36 × panels × [outputs, panel], for the backward pass.
    backward: Aligned,
}

/// Memory of one thread, for a group of images.
#[derive(Default)]
pub(super) struct Workspace {
    /// 36 × [tiles, inputs]: mapped inputs, and their gradient in the backward pass.
    inputs: Aligned,
    /// 36 × [tiles, outputs]: outputs before their map, or their gradient.
    outputs: Aligned,
    /// 36 × [inputs, outputs]: gradient of the mapped weights.
    gradient: Aligned,
}

/// Number of images whose tiles are multiplied together.
pub(super) fn images_together(grid: Grid) -> usize {
    (ROWS / tiles(grid)).max(1)
}

/// Number of tiles of an image.
fn tiles(grid: Grid) -> usize {
    grid.tiles() * grid.tiles()
}

impl Winograd {
    /// Weights of a layer whose channels are multiples of 16.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let mapped = || Aligned::zeros(ELEMENTS * plane(inputs * outputs));
        Winograd { inputs, outputs, forward: mapped(), backward: mapped() }
    }

    /// Jobs that map the weights [outputs, inputs, 3, 3] for the forward and the backward pass.
    pub fn loads<'a>(&'a mut self, weights: &'a [f32]) -> [Load<'a>; 2] {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let load = |mapped, back| Load { weights, inputs, outputs, back, mapped };
        [load(&mut self.forward[..], false), load(&mut self.backward[..], true)]
    }

    /// Inputs -> outputs of the convolution of some images on the grid
    pub fn convolve(&self, level: CpuLevel, grid: Grid, input: &[f32], out: &mut [f32], workspace: &mut Workspace) {
        let (inputs, outputs, weights) = (self.inputs, self.outputs, plane(self.inputs * self.outputs));
        let tiles = self.map_inputs(level, grid, input, workspace);
        let (from, to) = (plane(tiles * inputs), plane(tiles * outputs));
        let products = workspace.outputs.room(ELEMENTS * to);
        for element in 0..ELEMENTS {
            let (left, weights) = (&workspace.inputs[element * from..], &self.forward[element * weights..]);
            product(level, (tiles, outputs, inputs), left, weights, &mut products[element * to..]);
        }
        for (tile, at) in tile_positions(grid, tiles) {
            let mapped = (&products[tile * outputs..], 6 * to, to);
            let out = (&mut out[grid.inside(at) * outputs..], grid.row() * outputs, outputs);
            map::<Outputs, 6, 4>(level, mapped, out, outputs);
        }
    }

    /// Maps the inputs of some images. Returns the number of tiles.
    fn map_inputs(&self, level: CpuLevel, grid: Grid, input: &[f32], workspace: &mut Workspace) -> usize {
        let inputs = self.inputs;
        let tiles = input.len() / (grid.positions() * inputs) * tiles(grid);
        let to = plane(tiles * inputs);
        let mapped = workspace.inputs.room(ELEMENTS * to);
        for (tile, at) in tile_positions(grid, tiles) {
            let input = (&input[at * inputs..], grid.row() * inputs, inputs);
            map::<Inputs, 6, 6>(level, input, (&mut mapped[tile * inputs..], 6 * to, to), inputs);
        }
        tiles
    }

    /// Gradient `d` of the outputs of some images, zero outside the image -> gradient of the inputs, and of the mapped
    /// weights in the workspace, added to `start`
    pub fn convolve_backward(
        &self,
        level: CpuLevel,
        grid: Grid,
        (input, d): (&[f32], &[f32]),
        d_input: &mut [f32],
        start: Start,
        workspace: &mut Workspace,
    ) {
        let (inputs, outputs, weights) = (self.inputs, self.outputs, plane(self.inputs * self.outputs));
        let tiles = self.map_inputs(level, grid, input, workspace);
        let (to, from) = (plane(tiles * inputs), plane(tiles * outputs));
        let mapped_d = workspace.outputs.room(ELEMENTS * from);
        for (tile, at) in tile_positions(grid, tiles) {
            let d = (&d[grid.inside(at) * outputs..], grid.row() * outputs, outputs);
            map::<OutputsBack, 4, 6>(level, d, (&mut mapped_d[tile * outputs..], 6 * from, from), outputs);
        }
        let gradients = workspace.gradient.room(ELEMENTS * weights);
        for element in 0..ELEMENTS {
            let (d, mapped) = (&mapped_d[element * from..], &mut workspace.inputs[element * to..]);
            let gradient = (&mut gradients[element * weights..], outputs);
            matmul(level, (inputs, outputs, tiles), transposed(mapped, inputs), (d, outputs), gradient, start);
            product(level, (tiles, inputs, outputs), d, &self.backward[element * weights..], mapped);
        }
        d_input.fill(0.0);
        for (tile, at) in tile_positions(grid, tiles) {
            let d_input = (&mut d_input[at * inputs..], grid.row() * inputs, inputs);
            map::<InputsBack, 6, 6>(level, (&workspace.inputs[tile * inputs..], 6 * to, to), d_input, inputs);
        }
    }

    /// Gradient of the mapped weights in the workspace -> gradient of the weights, 9 × [inputs, outputs]
    pub fn weight_gradient(&self, level: CpuLevel, workspace: &Workspace, to: &mut [f32]) {
        let length = self.inputs * self.outputs;
        let from = plane(length);
        map::<WeightsBack, 6, 3>(level, (&workspace.gradient, 6 * from, from), (to, 3 * length, length), length);
    }
}

/// Job that maps the weights for one direction.
pub(super) struct Load<'a> {
    weights: &'a [f32],
    inputs: usize,
    outputs: usize,
    back: bool,
    mapped: &'a mut [f32],
}

impl Load<'_> {
    pub fn run(self, level: CpuLevel) {
        let length = self.inputs * self.outputs;
        let forward_or_back = |pair: (usize, usize)| if self.back { (pair.1, pair.0) } else { pair };
        let (rows, columns) = forward_or_back((self.inputs, self.outputs));
        // 9 × panels × [rows, panel]
        let mut taps = Aligned::zeros(9 * length);
        for (i, weights) in self.weights.chunks_exact(9).enumerate() {
            let (row, column) = forward_or_back((i % self.inputs, i / self.inputs));
            let first = column / PANEL * PANEL;
            let at = first * rows + row * panel(columns, first) + column - first;
            for (tap, weight) in weights.iter().enumerate() {
                taps[tap * length + at] = *weight;
            }
        }
        let to = plane(length);
        map::<Weights, 3, 6>(level, (&taps, 3 * length, length), (self.mapped, 6 * to, to), length);
    }
}

/// Columns of the panel that starts at column `first`; the last panel can be narrower.
fn panel(columns: usize, first: usize) -> usize {
    PANEL.min(columns - first)
}

/// [m, k] · panels × [k, panel] -> [m, columns]
fn product(level: CpuLevel, (m, columns, k): (usize, usize, usize), left: &[f32], panels: &[f32], out: &mut [f32]) {
    for first in (0..columns).step_by(PANEL) {
        let panel = panel(columns, first);
        let (right, out) = ((&panels[first * k..], panel), (&mut out[first..], columns));
        matmul(level, (m, panel, k), rows(left, k), right, out, Start::Zero);
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
