//! One layer of the teacher, forward and backward, for some images: 3 × 3 convolution, batch norm, ReLU, max pooling.
//!
//! An image is a sequence of positions, row after row, with zeros around. The channels of a position lie side by side.

use super::matmul::{Left, Out, Right, Start, matmul};
use super::network::Place;
use super::vector::Instructions;
use super::winograd::{self, TILE, Winograd};

/// A square image with its zeros: one line of them around as many whole tiles as cover it.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub side: usize,
}

impl Grid {
    /// In a row.
    pub fn tiles(self) -> usize {
        self.side.div_ceil(TILE)
    }

    /// Positions from one row to the next.
    pub fn row(self) -> usize {
        TILE * self.tiles() + 2
    }

    /// Positions with all zeros around.
    pub fn positions(self) -> usize {
        self.row() * self.row()
    }

    /// From the first position of the image to the last.
    fn span(self) -> usize {
        (self.side - 1) * self.row() + self.side
    }

    /// One row below and one column to the right of a position.
    pub fn inside(self, position: usize) -> usize {
        position + self.row() + 1
    }

    pub fn at(self, y: usize, x: usize) -> usize {
        self.inside(y * self.row() + x)
    }

    /// Makes what lies outside the image, but within the tiles or between the rows, zero.
    fn clear(self, numbers: &mut [f32], channels: usize) {
        for y in 0..self.side {
            numbers[self.at(y, self.side) * channels..self.at(y + 1, 0) * channels].fill(0.0);
        }
        let below = self.at(self.side, 0)..self.at(TILE * self.tiles(), 0);
        numbers[below.start * channels..below.end * channels].fill(0.0);
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
        Norm { shift: shift.map(|(b, (m, s))| b - m * s).collect(), scale, mean, rstd, ..Norm::default() }
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
        Moments { count: 0.0, mean: vec![0.0; channels], squares: vec![0.0; channels] }
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

/// How a layer convolves.
enum Convolution {
    /// The first layer, whose channels are few, as products without a copy: what a tap sees is the same sequence of
    /// positions from another one on. Its weights are [9 · inputs, outputs].
    Direct(Vec<f32>),
    Winograd(Winograd),
}

pub(super) struct Layer {
    pub grid: Grid,
    pub inputs: usize,
    pub outputs: usize,
    pub pool: bool,
    /// Where the convolution's weights begin in the flat vector of all parameters, and the norm's.
    pub conv: usize,
    pub norm: Place,
    convolution: Convolution,
}

impl Layer {
    pub fn new((side, inputs, outputs): (usize, usize, usize), pool: bool, conv: usize, norm: Place) -> Self {
        let convolution = if inputs.is_multiple_of(LANES) {
            Convolution::Winograd(Winograd::new(inputs, outputs))
        } else {
            Convolution::Direct(vec![0.0; 9 * inputs * outputs])
        };
        Layer { grid: Grid { side }, inputs, outputs, pool, conv, norm, convolution }
    }

    /// What the layer makes of its grid.
    pub fn next_grid(&self) -> Grid {
        Grid { side: self.grid.side / if self.pool { 2 } else { 1 } }
    }

    pub fn winograd(&self) -> Option<(Grid, &Winograd)> {
        match &self.convolution {
            Convolution::Direct(_) => None,
            Convolution::Winograd(winograd) => Some((self.grid, winograd)),
        }
    }

    /// Takes over the weights [outputs, inputs, 3, 3], when what is returned has been run.
    pub fn load<'a>(&'a mut self, weights: &'a [f32]) -> Vec<winograd::Load<'a>> {
        match &mut self.convolution {
            Convolution::Direct(to) => {
                for (i, taps) in weights.chunks_exact(9).enumerate() {
                    let (output, input) = (i / self.inputs, i % self.inputs);
                    for (tap, weight) in taps.iter().enumerate() {
                        to[(tap * self.inputs + input) * self.outputs + output] = *weight;
                    }
                }
                Vec::new()
            }
            Convolution::Winograd(winograd) => winograd.loads(weights).into(),
        }
    }

    /// Images that are best convolved together.
    pub fn together(&self) -> usize {
        self.winograd().map_or(1, |(grid, _)| winograd::images_together(grid))
    }

    /// A gradient in the order of [`Layer::convolve_back`] -> [outputs, inputs, 3, 3]
    pub fn unload(&self, gradient: &[f32], to: &mut [f32]) {
        for (i, taps) in to.chunks_exact_mut(9).enumerate() {
            let (output, input) = (i / self.inputs, i % self.inputs);
            for (tap, to) in taps.iter_mut().enumerate() {
                *to = gradient[(tap * self.inputs + input) * self.outputs + output];
            }
        }
    }

    /// Inputs -> outputs of the convolution of some images, both on the layer's grid.
    pub fn convolve(&self, instructions: Instructions, input: &[f32], out: &mut [f32], work: &mut winograd::Work) {
        match &self.convolution {
            Convolution::Direct(weights) => {
                let positions = self.grid.positions();
                let images = input.chunks_exact(positions * self.inputs);
                for (input, out) in images.zip(out.chunks_exact_mut(positions * self.outputs)) {
                    self.convolve_direct(instructions, weights, input, out);
                }
            }
            Convolution::Winograd(winograd) => {
                winograd.convolve(instructions, self.grid, input, out, work);
            }
        }
    }

    /// Gradient `d` of the convolution's outputs of some images, zero outside the image -> of the weights, 9 × [inputs,
    /// outputs], and, but for the first layer, of the inputs. The gradient of the weights is the sum over all images of a
    /// part: it begins with the part's first and is there after its last.
    pub fn convolve_back(
        &self,
        instructions: Instructions,
        (input, d): (&[f32], &[f32]),
        (gradient, d_input): (&mut [f32], &mut [f32]),
        (first, last): (bool, bool),
        work: &mut winograd::Work,
    ) {
        let start = if first { Start::Zero } else { Start::Out };
        match &self.convolution {
            Convolution::Direct(_) => {
                let positions = self.grid.positions();
                let images = input.chunks_exact(positions * self.inputs);
                for (i, image) in images.zip(d.chunks_exact(positions * self.outputs)).enumerate() {
                    let start = if i == 0 { start } else { Start::Out };
                    self.weight_gradient_direct(instructions, image, gradient, start);
                }
            }
            Convolution::Winograd(winograd) => {
                winograd.back(instructions, self.grid, (input, d), d_input, start, work);
                if last {
                    winograd.weight_gradient(instructions, work, gradient);
                }
            }
        }
    }

    /// Of one image.
    fn convolve_direct(&self, instructions: Instructions, weights: &[f32], input: &[f32], out: &mut [f32]) {
        let (row, inputs, outputs) = (self.grid.row(), self.inputs, self.outputs);
        let three = 3 * inputs * outputs;
        for (i, weights) in weights.chunks_exact(three).enumerate() {
            matmul(
                instructions,
                (self.grid.span(), outputs, 3 * inputs),
                Left::rows(&input[i * row * inputs..], inputs),
                Right::rows(weights, outputs),
                Out::rows(&mut out[self.grid.at(0, 0) * outputs..], outputs),
                if i == 0 { Start::Zero } else { Start::Out },
            );
        }
    }

    /// Of one image, added to `start`.
    fn weight_gradient_direct(
        &self,
        instructions: Instructions,
        (input, d): (&[f32], &[f32]),
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
    pub fn norm_sums(&self, norm: &Norm, z: &[f32], d_next: &[f32], (d, along): (&mut [f64], &mut [f64])) {
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
                let z = gather(z, self.seen::<SEEN>(y, x, first));
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

    /// Of one image: outputs z of the convolution become their gradient, with zeros outside the image.
    #[inline(always)]
    pub fn norm_backward(&self, norm: &Norm, z: &mut [f32], d_next: &[f32]) {
        if self.pool {
            self.norm_backward_seen::<4>(norm, z, d_next);
        } else {
            self.norm_backward_seen::<1>(norm, z, d_next);
        }
        self.grid.clear(z, self.outputs);
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
                let d = slopes(&gather(z, places), scale, shift, d_next);
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

/// A loop and not `map`, which the compiler doesn't take into the caller.
#[inline(always)]
fn gather<const SEEN: usize>(numbers: &[f32], at: [usize; SEEN]) -> [Lanes; SEEN] {
    let mut gathered = [[0.0; LANES]; SEEN];
    for (gathered, at) in gathered.iter_mut().zip(at) {
        *gathered = *lanes(numbers, at);
    }
    gathered
}

/// Gradient of the highest of some positions after the ReLU -> of what the norm makes of each z.
#[inline(always)]
fn slopes<const SEEN: usize>(z: &[Lanes; SEEN], scale: &Lanes, shift: &Lanes, d_highest: &Lanes) -> [Lanes; SEEN] {
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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    /// [B, C, I, I] -> on the grid
    fn on_grid(grid: Grid, images: &Tensor) -> Vec<f32> {
        let (side, row) = (grid.side as i64, grid.row() as i64);
        let beyond = row - 1 - side;
        let padded = images.constant_pad_nd([1, beyond, 1, beyond]);
        let numbers = padded.permute([0, 2, 3, 1]).contiguous().to_kind(Kind::Float);
        Vec::try_from(numbers.view(-1)).unwrap()
    }

    /// The way back.
    fn off_grid(grid: Grid, numbers: &[f32], channels: usize) -> Tensor {
        let (side, row) = (grid.side as i64, grid.row() as i64);
        let all = Tensor::from_slice(numbers).view([-1, row, row, channels as i64]);
        let inside = all.narrow(1, 1, side).narrow(2, 1, side);
        inside.permute([0, 3, 1, 2]).to_kind(Kind::Double)
    }

    fn assert_near(ours: &Tensor, expected: &Tensor, what: &str) {
        let apart = (ours - expected).abs().max() / expected.abs().max();
        let apart = apart.double_value(&[]);
        assert!(apart < 1e-5, "{what}: {apart:e} of the largest value apart");
    }

    /// Outputs and gradients against libtorch's in double precision, on sides with and without a rest of a tile, with
    /// groups that are full and not.
    #[test]
    fn a_convolution_equals_libtorchs() {
        let levels = [Instructions::Portable, Instructions::Avx2, Instructions::Avx512];
        let cases = [(28, 1, 32), (9, 3, 64), (28, 32, 32), (14, 32, 64), (7, 64, 160), (3, 96, 32)];
        for (side, inputs, outputs) in cases {
            let place = Place { weight: 0, bias: 0 };
            let mut layer = Layer::new((side, inputs, outputs), false, 0, place);
            let (n, options) = (9, (Kind::Float, Device::Cpu));
            let [b, i, o, s] = [n, inputs, outputs, side].map(|x| x as i64);
            let x = Tensor::randn([b, i, s, s], options).to_kind(Kind::Double).set_requires_grad(true);
            let w = Tensor::randn([o, i, 3, 3], options).to_kind(Kind::Double).set_requires_grad(true);
            let d = Tensor::randn([b, o, s, s], options).to_kind(Kind::Double);
            let y = x.conv2d(&w, None::<Tensor>, 1, 1, 1, 1);
            let gradients = Tensor::run_backward(&[(&y * &d).sum(Kind::Double)], &[&x, &w], false, false);
            let weights: Vec<f32> = Vec::try_from(w.detach().view(-1).to_kind(Kind::Float)).unwrap();
            let (x, d) = (on_grid(layer.grid, &x.detach()), on_grid(layer.grid, &d));
            for level in levels.into_iter().filter(|level| level.check().is_ok()) {
                let what = format!("{level:?}, {side} x {side}, {inputs} -> {outputs} channels");
                layer.load(&weights).into_iter().for_each(|load| load.run(level));
                let mut work = winograd::Work::new(layer.winograd().into_iter());
                let (mut z, mut d_x) = (vec![0.0; d.len()], vec![0.0; x.len()]);
                let mut gradient = vec![0.0; weights.len()];
                for first in (0..n).step_by(layer.together()) {
                    let end = n.min(first + layer.together());
                    let positions = first * layer.grid.positions()..end * layer.grid.positions();
                    let input = positions.start * inputs..positions.end * inputs;
                    let output = positions.start * outputs..positions.end * outputs;
                    layer.convolve(level, &x[input.clone()], &mut z[output.clone()], &mut work);
                    layer.convolve_back(
                        level,
                        (&x[input.clone()], &d[output]),
                        (&mut gradient, &mut d_x[input]),
                        (first == 0, end == n),
                        &mut work,
                    );
                }
                assert_near(&off_grid(layer.grid, &z, outputs), &y.detach(), &format!("{what}, outputs"));
                let mut unloaded = vec![0.0; weights.len()];
                layer.unload(&gradient, &mut unloaded);
                let ours = Tensor::from_slice(&unloaded).view([o, i, 3, 3]);
                assert_near(&ours, &gradients[1], &format!("{what}, weights"));
                if layer.winograd().is_some() {
                    let ours = off_grid(layer.grid, &d_x, inputs);
                    assert_near(&ours, &gradients[0], &format!("{what}, inputs"));
                }
            }
        }
    }
}
