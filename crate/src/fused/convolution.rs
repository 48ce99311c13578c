//! One layer of the teacher, forward and backward, image by image: 3 × 3 convolution, batch norm, ReLU, max pooling.
//!
//! An image is a sequence of positions, row after row, with one zero behind each row and zeros before and after it all:
//! what a tap of the convolution sees is then the same sequence from another position on, and a convolution is nine
//! matrix products without a copy. The channels of a position lie side by side.

use super::matmul::{Left, Out, Right, Start, matmul};
use super::network::Place;
use super::vector::Instructions;

/// Columns of a weight matrix that lie together, so that a tap's weights fit the first cache.
const PANEL: usize = 64;

/// Weights that a product reads at once in one panel: as many rows as fit the first cache.
const DEPTH: usize = 128;

/// A square image with its zeros.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub side: usize,
}

impl Grid {
    fn row(self) -> usize {
        self.side + 1
    }

    /// Positions with all zeros around.
    pub fn positions(self) -> usize {
        self.row() * self.row() + self.side + 2
    }

    /// From the first position of the image to the last.
    fn span(self) -> usize {
        self.side * self.row() - 1
    }

    pub fn at(self, y: usize, x: usize) -> usize {
        (y + 1) * self.row() + x + 1
    }
}

/// Batch norm of a layer: of the batch in training, remembered at inference; a number for each channel.
#[derive(Clone, Default)]
pub(super) struct Norm {
    pub mean: Vec<f32>,
    pub rstd: Vec<f32>,
    /// The norm is z · scale + shift.
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// Means over the batch and its positions of the gradient of the norm's output, and of the same times the
    /// standardised z: known when the way back has come here.
    pub d_mean: Vec<f32>,
    pub d_along: Vec<f32>,
}

impl Norm {
    pub fn new(mean: Vec<f32>, variance: &[f32], eps: f32, weight: &[f32], bias: &[f32]) -> Self {
        let rstd: Vec<f32> = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        let scale: Vec<f32> = weight.iter().zip(&rstd).map(|(w, r)| w * r).collect();
        let shift = bias.iter().zip(mean.iter().zip(&scale));
        Norm {
            shift: shift.map(|(b, (m, s))| b - m * s).collect(),
            scale,
            mean,
            rstd,
            ..Norm::default()
        }
    }
}

/// Mean and sum of squared deviations of each channel over the positions of some images.
#[derive(Clone)]
pub(super) struct Moments {
    pub count: f64,
    pub mean: Vec<f64>,
    pub squares: Vec<f64>,
}

impl Moments {
    pub fn new(channels: usize) -> Self {
        Moments {
            count: 0.0,
            mean: vec![0.0; channels],
            squares: vec![0.0; channels],
        }
    }

    /// Takes in the moments of others (Chan, Golub and LeVeque 1983).
    pub fn add(&mut self, other: &Moments) {
        let count = self.count + other.count;
        let channels = self.mean.iter_mut().zip(&mut self.squares);
        let others = other.mean.iter().zip(&other.squares);
        for ((mean, squares), (other_mean, other_squares)) in channels.zip(others) {
            let apart = other_mean - *mean;
            *mean += apart * other.count / count;
            *squares += other_squares + apart * apart * self.count * other.count / count;
        }
        self.count = count;
    }
}

pub(super) struct Layer {
    pub grid: Grid,
    pub inputs: usize,
    pub outputs: usize,
    pub pool: bool,
    /// Where the convolution's weights begin in the flat vector of all parameters, and the norm's.
    pub conv: usize,
    pub norm: Place,
    /// Panels × [9 · inputs, panel]
    forward: Vec<f32>,
    /// The same for the way back, from the outputs to the inputs.
    back: Vec<f32>,
}

impl Layer {
    pub fn new(
        (side, inputs, outputs): (usize, usize, usize),
        pool: bool,
        conv: usize,
        norm: Place,
    ) -> Self {
        Layer {
            grid: Grid { side },
            inputs,
            outputs,
            pool,
            conv,
            norm,
            forward: vec![0.0; 9 * inputs * outputs],
            back: vec![0.0; 9 * inputs * outputs],
        }
    }

    /// What the layer makes of its grid.
    pub fn next_grid(&self) -> Grid {
        Grid {
            side: self.grid.side / if self.pool { 2 } else { 1 },
        }
    }

    /// Takes over the weights [outputs, inputs, 3, 3].
    pub fn load(&mut self, weights: &[f32]) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let place = |row: usize, column: usize, rows: usize, columns: usize| {
            let panel = columns.min(PANEL);
            (column / panel * rows + row) * panel + column % panel
        };
        for (i, taps) in weights.chunks_exact(9).enumerate() {
            let (to, from) = (i / inputs, i % inputs);
            for (tap, weight) in taps.iter().enumerate() {
                self.forward[place(tap * inputs + from, to, 9 * inputs, outputs)] = *weight;
                self.back[place((8 - tap) * outputs + to, from, 9 * outputs, inputs)] = *weight;
            }
        }
    }

    /// A gradient as [`Layer::weight_gradient`] gives it -> [outputs, inputs, 3, 3]
    pub fn unload(&self, gradient: &[f32], to: &mut [f32]) {
        for (i, taps) in to.chunks_exact_mut(9).enumerate() {
            let (output, input) = (i / self.inputs, i % self.inputs);
            for (tap, to) in taps.iter_mut().enumerate() {
                *to = gradient[(tap * self.inputs + input) * self.outputs + output];
            }
        }
    }

    /// Inputs -> outputs of the convolution, both on the layer's grid.
    pub fn convolve(&self, instructions: Instructions, input: &[f32], out: &mut [f32]) {
        let sizes = (self.inputs, self.outputs);
        convolve(instructions, self.grid, sizes, &self.forward, input, out);
    }

    /// Gradient of the convolution's outputs, zero where the grid is -> of its inputs.
    pub fn convolve_back(&self, instructions: Instructions, d: &[f32], d_input: &mut [f32]) {
        let sizes = (self.outputs, self.inputs);
        convolve(instructions, self.grid, sizes, &self.back, d, d_input);
    }

    /// Gradient of the weights, [9 · inputs, outputs], of an image, added to `start`.
    pub fn weight_gradient(
        &self,
        instructions: Instructions,
        input: &[f32],
        d: &[f32],
        gradient: &mut [f32],
        start: Start,
    ) {
        let (row, inputs, outputs) = (self.grid.row(), self.inputs, self.outputs);
        let three = 3 * inputs * outputs;
        for (i, gradient) in gradient.chunks_exact_mut(three).enumerate() {
            matmul(
                instructions,
                (3 * inputs, outputs, self.grid.span()),
                Left::transposed(&input[i * row * inputs..], inputs),
                Right::rows(&d[self.grid.at(0, 0) * outputs..], outputs),
                Out::rows(gradient, outputs),
                start,
            );
        }
    }

    /// Adds the moments of one image's outputs of the convolution.
    #[inline(always)]
    pub fn moments(&self, z: &[f32], moments: &mut Moments) {
        let count = (self.grid.side * self.grid.side) as f32;
        let mut of_image = Moments::new(self.outputs);
        of_image.count = count.into();
        for first in (0..self.outputs).step_by(LANES) {
            let at = |(y, x)| self.grid.at(y, x) * self.outputs + first;
            let mut mean = [0.0; LANES];
            for place in squares(self.grid.side) {
                let z = lanes(z, at(place));
                for i in 0..LANES {
                    mean[i] += z[i];
                }
            }
            for mean in &mut mean {
                *mean /= count;
            }
            let mut squared = [0.0; LANES];
            for place in squares(self.grid.side) {
                let z = lanes(z, at(place));
                for i in 0..LANES {
                    squared[i] += (z[i] - mean[i]) * (z[i] - mean[i]);
                }
            }
            for i in 0..LANES {
                of_image.mean[first + i] = mean[i].into();
                of_image.squares[first + i] = squared[i].into();
            }
        }
        moments.add(&of_image);
    }

    /// Norm, ReLU and pooling: outputs of the convolution -> inputs of the next layer.
    #[inline(always)]
    pub fn activate(&self, norm: &Norm, z: &[f32], next: &mut [f32]) {
        if self.pool {
            self.activate_seen::<4>(norm, z, next);
        } else {
            self.activate_seen::<1>(norm, z, next);
        }
    }

    #[inline(always)]
    fn activate_seen<const SEEN: usize>(&self, norm: &Norm, z: &[f32], next: &mut [f32]) {
        let to = self.next_grid();
        for first in (0..self.outputs).step_by(LANES) {
            let (scale, shift) = (lanes(&norm.scale, first), lanes(&norm.shift, first));
            for (y, x) in squares(to.side) {
                let mut highest = [f32::NEG_INFINITY; LANES];
                for at in self.seen::<SEEN>(y, x, first) {
                    let z = lanes(z, at);
                    for i in 0..LANES {
                        highest[i] = larger(highest[i], z[i] * scale[i] + shift[i]);
                    }
                }
                let next = lanes_mut(next, to.at(y, x) * self.outputs + first);
                for i in 0..LANES {
                    next[i] = if highest[i] < 0.0 { 0.0 } else { highest[i] };
                }
            }
        }
    }

    /// Where the numbers lie that a place of the next grid looks at: of itself, or with pooling of a square of four.
    #[inline(always)]
    fn seen<const SEEN: usize>(&self, y: usize, x: usize, channel: usize) -> [usize; SEEN] {
        let step = if SEEN == 4 { 2 } else { 1 };
        let at = |i| self.grid.at(step * y + i / 2, step * x + i % 2);
        std::array::from_fn(|i| at(i) * self.outputs + channel)
    }

    /// Of one image: sums over its positions of the gradient of the norm's output, and of the same times the
    /// standardised z; adds to `d` and `along`.
    #[inline(always)]
    pub fn norm_sums(
        &self,
        norm: &Norm,
        z: &[f32],
        d_next: &[f32],
        (d, along): (&mut [f64], &mut [f64]),
    ) {
        if self.pool {
            self.norm_sums_seen::<4>(norm, z, d_next, (d, along));
        } else {
            self.norm_sums_seen::<1>(norm, z, d_next, (d, along));
        }
    }

    #[inline(always)]
    fn norm_sums_seen<const SEEN: usize>(
        &self,
        norm: &Norm,
        z: &[f32],
        d_next: &[f32],
        (d_sums, along_sums): (&mut [f64], &mut [f64]),
    ) {
        let to = self.next_grid();
        for first in (0..self.outputs).step_by(LANES) {
            let (scale, shift) = (lanes(&norm.scale, first), lanes(&norm.shift, first));
            let mean = lanes(&norm.mean, first);
            let (mut sums, mut along) = ([0.0; LANES], [0.0; LANES]);
            for (y, x) in squares(to.side) {
                let d_next = lanes(d_next, to.at(y, x) * self.outputs + first);
                let z = self.seen::<SEEN>(y, x, first).map(|at| *lanes(z, at));
                let d = slopes(&z, scale, shift, d_next);
                for seen in 0..SEEN {
                    for i in 0..LANES {
                        sums[i] += d[seen][i];
                        along[i] += d[seen][i] * (z[seen][i] - mean[i]);
                    }
                }
            }
            for i in 0..LANES {
                d_sums[first + i] += f64::from(sums[i]);
                along_sums[first + i] += f64::from(along[i] * norm.rstd[first + i]);
            }
        }
    }

    /// Of one image: outputs z of the convolution become their gradient, with zeros where the grid has them.
    #[inline(always)]
    pub fn norm_backward(&self, norm: &Norm, z: &mut [f32], d_next: &[f32]) {
        if self.pool {
            self.norm_backward_seen::<4>(norm, z, d_next);
        } else {
            self.norm_backward_seen::<1>(norm, z, d_next);
        }
        for y in 1..self.grid.side {
            z[(self.grid.at(y, 0) - 1) * self.outputs..][..self.outputs].fill(0.0);
        }
    }

    #[inline(always)]
    fn norm_backward_seen<const SEEN: usize>(&self, norm: &Norm, z: &mut [f32], d_next: &[f32]) {
        let to = self.next_grid();
        // Beyond these lie the last row and column of an odd side, which no pooled position looks at.
        let reached = to.side * if SEEN == 4 { 2 } else { 1 };
        for first in (0..self.outputs).step_by(LANES) {
            let of = |numbers| lanes(numbers, first);
            let (scale, shift, mean) = (of(&norm.scale), of(&norm.shift), of(&norm.mean));
            let (rstd, d_mean, d_along) = (of(&norm.rstd), of(&norm.d_mean), of(&norm.d_along));
            let back = |z: &mut [f32], at: usize, d: &Lanes| {
                let z = lanes_mut(z, at);
                for i in 0..LANES {
                    let hat = (z[i] - mean[i]) * rstd[i];
                    z[i] = scale[i] * (d[i] - d_mean[i] - hat * d_along[i]);
                }
            };
            for (y, x) in squares(to.side) {
                let d_next = lanes(d_next, to.at(y, x) * self.outputs + first);
                let places = self.seen::<SEEN>(y, x, first);
                let d = slopes(&places.map(|at| *lanes(z, at)), scale, shift, d_next);
                for seen in 0..SEEN {
                    back(z, places[seen], &d[seen]);
                }
            }
            for (y, x) in squares(self.grid.side) {
                if y >= reached || x >= reached {
                    back(z, self.grid.at(y, x) * self.outputs + first, &[0.0; LANES]);
                }
            }
        }
    }
}

/// Channels that are worked on together: the compiler makes vectors of them.
const LANES: usize = 32;

type Lanes = [f32; LANES];

#[inline(always)]
fn lanes(numbers: &[f32], at: usize) -> &Lanes {
    numbers[at..].first_chunk().expect("whole lanes")
}

#[inline(always)]
fn lanes_mut(numbers: &mut [f32], at: usize) -> &mut Lanes {
    numbers[at..].first_chunk_mut().expect("whole lanes")
}

/// Gradient of the highest of some positions after the ReLU -> of what the norm makes of each z.
#[inline(always)]
fn slopes<const SEEN: usize>(
    z: &[Lanes; SEEN],
    scale: &Lanes,
    shift: &Lanes,
    d_highest: &Lanes,
) -> [Lanes; SEEN] {
    let (mut affine, mut highest) = ([[0.0; LANES]; SEEN], [f32::NEG_INFINITY; LANES]);
    for seen in 0..SEEN {
        for i in 0..LANES {
            affine[seen][i] = z[seen][i] * scale[i] + shift[i];
            highest[i] = larger(highest[i], affine[seen][i]);
        }
    }
    let (mut d, mut left) = ([[0.0; LANES]; SEEN], *d_highest);
    for i in 0..LANES {
        left[i] = if highest[i] > 0.0 { left[i] } else { 0.0 };
    }
    // Where several are the highest, the first counts, as in libtorch.
    for seen in 0..SEEN {
        for i in 0..LANES {
            let here = affine[seen][i] == highest[i];
            d[seen][i] = if here { left[i] } else { 0.0 };
            left[i] = if here { 0.0 } else { left[i] };
        }
    }
    d
}

/// All places of a square of `side`, row by row.
#[inline(always)]
fn squares(side: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..side).flat_map(move |y| (0..side).map(move |x| (y, x)))
}

/// NaN counts as larger, so that a training that diverges is seen.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b <= a { a } else { b }
}

fn convolve(
    instructions: Instructions,
    grid: Grid,
    (inputs, outputs): (usize, usize),
    weights: &[f32],
    input: &[f32],
    out: &mut [f32],
) {
    let panel = outputs.min(PANEL);
    // Taps side by side are one product.
    let taps = if 3 * inputs <= DEPTH { 3 } else { 1 };
    let first = grid.at(0, 0) * outputs;
    for (column, weights) in weights.chunks_exact(9 * inputs * panel).enumerate() {
        for (i, weights) in weights.chunks_exact(taps * inputs * panel).enumerate() {
            let tap = i * taps;
            let from = tap / 3 * grid.row() + tap % 3;
            matmul(
                instructions,
                (grid.span(), panel, taps * inputs),
                Left::rows(&input[from * inputs..], inputs),
                Right::rows(weights, panel),
                Out::rows(&mut out[first + column * panel..], outputs),
                if i == 0 { Start::Zero } else { Start::Out },
            );
        }
    }
}
