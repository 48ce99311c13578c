//! One layer of the network: a 3 × 3 convolution, forward and backward, followed by the operations of [`super::norm`].
//!
//! An image is a sequence of positions, row after row, padded with zeros. The channels of a position lie side by side.

use super::grid::Grid;
use super::norm::BatchNorm;
use super::winograd::{self, Mapped, Winograd, Workspace};
use crate::cpu::Simd;
use crate::layers::Cursor;
use crate::mat::{Mat, MatMut, Start, multiply};

/// Algorithm of a convolution.
enum Convolution {
    /// For few channels: a product per row of taps. A tap reads the same sequence of positions from another start. The
    /// weights are [9 · inputs, outputs].
    Direct(Vec<f32>),
    Winograd(Winograd),
}

pub(super) struct Layer {
    pub grid: Grid,
    pub inputs: usize,
    pub outputs: usize,
    pub pool: bool,
    /// Offset of the convolution's weight in the flat vector of all parameters.
    pub conv: usize,
    pub norm: BatchNorm,
    convolution: Convolution,
}

impl Layer {
    pub fn new(next: &mut Cursor, (side, inputs, outputs): (usize, usize, usize), pool: bool) -> Self {
        let convolution = if inputs.is_multiple_of(32) {
            Convolution::Winograd(Winograd::new(inputs, outputs))
        } else {
            Convolution::Direct(vec![0.0; 9 * inputs * outputs])
        };
        let conv = next.parameter(9 * inputs * outputs);
        let norm = BatchNorm { parameters: next.norm(outputs), ..BatchNorm::default() };
        Layer { grid: Grid { side }, inputs, outputs, pool, conv, norm, convolution }
    }

    /// Number of weights of the convolution.
    pub fn weights(&self) -> usize {
        9 * self.inputs * self.outputs
    }

    /// The grid of the layer's output, after pooling.
    pub fn next_grid(&self) -> Grid {
        Grid { side: self.grid.side / if self.pool { 2 } else { 1 } }
    }

    /// Copies the weights [outputs, inputs, 3, 3], or returns where they are to be mapped.
    pub fn load(&mut self, weights: &[f32]) -> Vec<&mut Mapped> {
        match &mut self.convolution {
            Convolution::Direct(to) => {
                for (i, weight) in weights.iter().enumerate() {
                    let (output, input, tap) = (i / 9 / self.inputs, i / 9 % self.inputs, i % 9);
                    to[(tap * self.inputs + input) * self.outputs + output] = *weight;
                }
                Vec::new()
            }
            Convolution::Winograd(Winograd { forward, backward }) => vec![forward, backward],
        }
    }

    /// Number of images that the layer convolves at a time.
    pub fn together(&self) -> usize {
        match self.convolution {
            Convolution::Direct(_) => 1,
            Convolution::Winograd(_) => winograd::images_together(self.grid),
        }
    }

    /// Weights in the order of [`Layer::convolve_backward`] -> [outputs, inputs, 3, 3], in place
    pub fn unload(&self, weights: &mut [f32]) {
        let from = weights.to_vec();
        for (i, taps) in weights.chunks_exact_mut(9).enumerate() {
            let (output, input) = (i / self.inputs, i % self.inputs);
            for (tap, weight) in taps.iter_mut().enumerate() {
                *weight = from[(tap * self.inputs + input) * self.outputs + output];
            }
        }
    }

    /// y = Σ w x over the inputs and taps of up to [`Layer::together`] images: inputs -> outputs, both on the layer's grid
    #[inline(always)]
    pub fn convolve<S: Simd>(&self, simd: S, input: &[f32], out: &mut [f32], workspace: &mut Workspace) {
        let (inputs, outputs, row) = (self.inputs, self.outputs, self.grid.row() * self.inputs);
        match &self.convolution {
            Convolution::Direct(weights) => {
                let out = &mut out[self.grid.at(0, 0) * outputs..];
                for (i, weights) in weights.chunks_exact(3 * inputs * outputs).enumerate() {
                    let start = if i == 0 { Start::Zero } else { Start::Present };
                    let taps = Mat::strided(&input[i * row..], self.grid.span(), 3 * inputs, inputs);
                    let out = MatMut::new(out, self.grid.span(), outputs);
                    multiply(simd, taps, Mat::new(weights, 3 * inputs, outputs), start, out);
                }
            }
            Convolution::Winograd(winograd) => winograd.convolve(simd, self.grid, input, out, workspace),
        }
    }

    /// dw = Σ d x over the positions, dx = Σ d w over the outputs and taps: gradient `d` of the outputs of these images, zero
    /// outside the image -> of the weights, 9 × [inputs, outputs], and of the inputs, except in a direct convolution. The
    /// gradient of the weights is the sum over all images of a part: `first` and `last` say whether the part's first and last
    /// images are among these.
    #[inline(always)]
    pub fn convolve_backward<S: Simd>(
        &self,
        simd: S,
        (input, d): (&[f32], &[f32]),
        (gradient, d_input): (&mut [f32], &mut [f32]),
        (first, last): (bool, bool),
        workspace: &mut Workspace,
    ) {
        let (inputs, outputs, row) = (self.inputs, self.outputs, self.grid.row() * self.inputs);
        let start = if first { Start::Zero } else { Start::Present };
        match &self.convolution {
            Convolution::Direct(_) => {
                let d = Mat::new(&d[self.grid.at(0, 0) * outputs..], self.grid.span(), outputs);
                for (i, gradient) in gradient.chunks_exact_mut(3 * inputs * outputs).enumerate() {
                    let taps = Mat::strided(&input[i * row..], self.grid.span(), 3 * inputs, inputs);
                    multiply(simd, taps.t(), d, start, MatMut::new(gradient, 3 * inputs, outputs));
                }
            }
            Convolution::Winograd(winograd) => {
                winograd.convolve_backward(simd, self.grid, (input, d), d_input, start, workspace);
                if last {
                    winograd.weight_gradient(simd, workspace, gradient);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{CpuLevel, dispatch};
    use crate::tests::{noise, wide};

    /// [B, C, I, I] -> on the grid
    fn on_grid(grid: Grid, images: &[f32], channels: usize) -> Vec<f32> {
        let mut values = vec![0.0; images.len() / (channels * grid.side * grid.side) * grid.positions() * channels];
        for (i, value) in images.iter().enumerate() {
            values[place(grid, i, channels)] = *value;
        }
        values
    }

    /// Index on the grid of element `i` of [B, C, I, I].
    fn place(grid: Grid, i: usize, channels: usize) -> usize {
        let (x, y, plane) = (i % grid.side, i / grid.side % grid.side, i / (grid.side * grid.side));
        (plane / channels * grid.positions() + grid.at(y, x)) * channels + plane % channels
    }

    fn assert_near(ours: impl Iterator<Item = f32>, expected: &[f64], what: &str) {
        let largest = expected.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
        for (ours, expected) in ours.zip(expected) {
            let apart = (f64::from(ours) - expected).abs() / largest;
            assert!(apart < 1e-5, "{what}: {apart:e} of the largest value apart");
        }
    }

    /// Outputs and gradients of the weights and inputs by their definition, for images and `d` [B, C, I, I].
    fn definition(side: usize, (inputs, outputs): (usize, usize), x: &[f64], w: &[f64], d: &[f64]) -> [Vec<f64>; 3] {
        let square = side * side;
        let (mut y, mut d_w, mut d_x) = (vec![0.0; d.len()], vec![0.0; w.len()], vec![0.0; x.len()]);
        for plane in 0..d.len() / square {
            let (image, output) = (plane / outputs, plane % outputs);
            for (input, tap) in (0..inputs).flat_map(|input| (0..9).map(move |tap| (input, tap))) {
                let weight = (output * inputs + input) * 9 + tap;
                let from = (image * inputs + input) * square;
                for row in 1_usize.saturating_sub(tap / 3)..side.min(side + 1 - tap / 3) {
                    for column in 1_usize.saturating_sub(tap % 3)..side.min(side + 1 - tap % 3) {
                        let at = plane * square + row * side + column;
                        let from = from + (row + tap / 3 - 1) * side + column + tap % 3 - 1;
                        y[at] += w[weight] * x[from];
                        d_w[weight] += d[at] * x[from];
                        d_x[from] += d[at] * w[weight];
                    }
                }
            }
        }
        [y, d_w, d_x]
    }

    /// On sides that are and are not multiples of a tile, with full and incomplete groups of images.
    #[test]
    fn a_convolution_equals_its_definition() {
        let cases = [(28, 1, 32), (9, 3, 64), (28, 32, 32), (14, 32, 64), (7, 64, 160), (3, 96, 32)];
        for (side, inputs, outputs) in cases {
            let mut layer = Layer::new(&mut Cursor::default(), (side, inputs, outputs), false);
            let (grid, n) = (layer.grid, 9);
            let images = noise(n * inputs * side * side, 1);
            let (weights, d) = (noise(9 * inputs * outputs, 2), noise(n * outputs * side * side, 3));
            let [y, d_w, d_x] = definition(side, (inputs, outputs), &wide(&images), &wide(&weights), &wide(&d));
            let (x, d) = (on_grid(grid, &images, inputs), on_grid(grid, &d, outputs));
            for level in CpuLevel::available() {
                let what = format!("{level:?}, {side} x {side}, {inputs} -> {outputs} channels");
                let token = level.level().unwrap();
                layer.load(&weights).into_iter().for_each(|mapped| mapped.load(token, &weights));
                let mut workspace = Workspace::default();
                let (mut z, mut d_input) = (vec![0.0; d.len()], vec![0.0; x.len()]);
                let mut gradient = vec![0.0; weights.len()];
                for first in (0..n).step_by(layer.together()) {
                    let end = n.min(first + layer.together());
                    let positions = first * grid.positions()..end * grid.positions();
                    let input = positions.start * inputs..positions.end * inputs;
                    let output = positions.start * outputs..positions.end * outputs;
                    let convolved = &mut z[output.clone()];
                    dispatch!(token, simd => layer.convolve(simd, &x[input.clone()], convolved, &mut workspace));
                    dispatch!(token, simd => layer.convolve_backward(
                        simd,
                        (&x[input.clone()], &d[output]),
                        (&mut gradient, &mut d_input[input]),
                        (first == 0, end == n),
                        &mut workspace,
                    ));
                }
                assert_near((0..y.len()).map(|i| z[place(grid, i, outputs)]), &y, &format!("{what}, outputs"));
                layer.unload(&mut gradient);
                assert_near(gradient.into_iter(), &d_w, &format!("{what}, weights"));
                if matches!(layer.convolution, Convolution::Winograd(_)) {
                    let ours = (0..d_x.len()).map(|i| d_input[place(grid, i, inputs)]);
                    assert_near(ours, &d_x, &format!("{what}, inputs"));
                }
            }
        }
    }
}
