//! Batch norm, ReLU and max pooling of a layer, forward and backward, for one image.

use std::iter::zip;

use super::layer::Layer;
use crate::layers::{EPS, Norm, add, lanes, lanes_mut};

/// Batch norm of a layer (arXiv 1502.03167), a value for each channel. Its statistics are the batch's in training and the
/// running ones in predictions.
#[derive(Default)]
pub(super) struct BatchNorm {
    pub parameters: Norm,
    pub mean: Vec<f32>,
    pub rstd: Vec<f32>,
    /// The norm is z · scale + shift.
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// Means over the batch and its positions: of the gradient of the norm's output, and of that gradient times the
    /// standardised z. Set by the backward pass.
    pub d_mean: Vec<f32>,
    pub d_along: Vec<f32>,
}

impl BatchNorm {
    /// Sets the statistics, and computes the norm from them and the flat vector of all parameters.
    pub fn set(&mut self, flat: &[f32], mean: &[f32], variance: &[f32]) {
        let (weight, bias) = (&flat[self.parameters.weight_at..], &flat[self.parameters.bias_at..]);
        self.mean = mean.to_vec();
        self.rstd = variance.iter().map(|v| 1.0 / (v + EPS).sqrt()).collect();
        self.scale = self.rstd.iter().zip(weight).map(|(r, w)| w * r).collect();
        self.shift = self.scale.iter().zip(mean).zip(bias).map(|((s, m), b)| b - m * s).collect();
    }
}

/// Mean and sum of squared deviations of each channel over `count` positions of some images.
pub(super) struct Moments {
    pub count: f64,
    pub channels: Vec<[f64; 2]>,
}

impl Moments {
    pub fn new(channels: usize) -> Self {
        Moments { count: 0.0, channels: vec![[0.0; 2]; channels] }
    }

    /// Combines the moments with those of other images (Chan, Golub and LeVeque 1983).
    pub fn add(&mut self, other: &Moments) {
        let count = self.count + other.count;
        for ([mean, squares], [other_mean, other_squares]) in self.channels.iter_mut().zip(&other.channels) {
            let apart = other_mean - *mean;
            *mean += apart * other.count / count;
            *squares += other_squares + apart * apart * self.count * other.count / count;
        }
        self.count = count;
    }
}

/// Calls a method of a layer for its pooling: of 4 positions, or of 1.
macro_rules! pooled {
    ($layer:ident.$method:ident($($argument:expr),*)) => {
        if $layer.pool { $layer.$method::<4>($($argument),*) } else { $layer.$method::<1>($($argument),*) }
    };
}
pub(super) use pooled;

impl Layer {
    /// Adds the moments of an image's convolution outputs z.
    #[inline(always)]
    pub fn moments(&self, z: &[f32], moments: &mut Moments) {
        let count = (self.grid.side * self.grid.side) as f32;
        let mut of_image = Moments { count: count.into(), ..Moments::new(0) };
        for first in (0..self.outputs).step_by(LANES) {
            let at = |(y, x)| self.grid.at(y, x) * self.outputs + first;
            let (mut mean, mut squared) = ([0.0; LANES], [0.0; LANES]);
            for position in squares(self.grid.side) {
                add(&mut mean, lanes::<LANES>(z, at(position)));
            }
            for mean in &mut mean {
                *mean /= count;
            }
            for position in squares(self.grid.side) {
                let z: &Lanes = lanes(z, at(position));
                for i in 0..LANES {
                    squared[i] += (z[i] - mean[i]) * (z[i] - mean[i]);
                }
            }
            of_image.channels.extend(zip(mean.map(f64::from), squared.map(f64::from)).map(<[f64; 2]>::from));
        }
        moments.add(&of_image);
    }

    /// Norm, ReLU and pooling: outputs z of the convolution -> inputs of the next layer
    #[inline(always)]
    pub fn activate<const POOL: usize>(&self, z: &[f32], next: &mut [f32]) {
        let to = self.next_grid();
        for first in (0..self.outputs).step_by(LANES) {
            let [scale, shift]: [&Lanes; 2] = [&self.norm.scale, &self.norm.shift].map(|x| lanes(x, first));
            for (y, x) in squares(to.side) {
                let mut highest = [f32::NEG_INFINITY; LANES];
                for at in self.pooled::<POOL>(y, x, first) {
                    let z: &Lanes = lanes(z, at);
                    for i in 0..LANES {
                        highest[i] = larger(highest[i], z[i] * scale[i] + shift[i]);
                    }
                }
                let next: &mut Lanes = lanes_mut(next, to.at(y, x) * self.outputs + first);
                for i in 0..LANES {
                    next[i] = if highest[i] < 0.0 { 0.0 } else { highest[i] };
                }
            }
        }
    }

    /// Offsets of the positions that a position of the next grid depends on: itself, or a square of four with pooling.
    #[inline(always)]
    fn pooled<const POOL: usize>(&self, y: usize, x: usize, channel: usize) -> [usize; POOL] {
        let step = if POOL == 4 { 2 } else { 1 };
        let at = |i| self.grid.at(step * y + i / 2, step * x + i % 2);
        std::array::from_fn(|i| at(i) * self.outputs + channel)
    }

    /// Adds up an image's positions: the gradient of the norm's output, and that gradient times the standardised z.
    #[inline(always)]
    pub fn norm_sums<const POOL: usize>(&self, z: &[f32], d_next: &[f32], totals: &mut [[f64; 2]]) {
        let (to, norm) = (self.next_grid(), &self.norm);
        for first in (0..self.outputs).step_by(LANES) {
            let [scale, shift, mean]: [&Lanes; 3] = [&norm.scale, &norm.shift, &norm.mean].map(|x| lanes(x, first));
            let (mut sums, mut along) = ([0.0; LANES], [0.0; LANES]);
            for (y, x) in squares(to.side) {
                let d_next = lanes(d_next, to.at(y, x) * self.outputs + first);
                let z = gather(z, self.pooled::<POOL>(y, x, first));
                let d = slopes(&z, scale, shift, d_next);
                for p in 0..POOL {
                    for i in 0..LANES {
                        sums[i] += d[p][i];
                        along[i] += d[p][i] * (z[p][i] - mean[i]);
                    }
                }
            }
            for i in 0..LANES {
                totals[first + i][0] += f64::from(sums[i]);
                totals[first + i][1] += f64::from(along[i] * norm.rstd[first + i]);
            }
        }
    }

    /// Replaces the outputs z of an image's convolution by their gradient, with zeros outside the image.
    #[inline(always)]
    pub fn norm_backward<const POOL: usize>(&self, z: &mut [f32], d_next: &[f32]) {
        let to = self.next_grid();
        // With an odd side, pooling ignores the last row and column.
        let pooled = to.side * if POOL == 4 { 2 } else { 1 };
        for first in (0..self.outputs).step_by(LANES) {
            let BatchNorm { mean, rstd, scale, shift, d_mean, d_along, .. } = &self.norm;
            let [mean, rstd, scale, shift, d_mean, d_along]: [&Lanes; 6] =
                [mean, rstd, scale, shift, d_mean, d_along].map(|x| lanes(x, first));
            let back = |z: &mut [f32], at: usize, d: &Lanes| {
                let z: &mut Lanes = lanes_mut(z, at);
                for i in 0..LANES {
                    let hat = (z[i] - mean[i]) * rstd[i];
                    z[i] = scale[i] * (d[i] - d_mean[i] - hat * d_along[i]);
                }
            };
            for (y, x) in squares(to.side) {
                let d_next = lanes(d_next, to.at(y, x) * self.outputs + first);
                let offsets = self.pooled::<POOL>(y, x, first);
                let d = slopes(&gather(z, offsets), scale, shift, d_next);
                for p in 0..POOL {
                    back(z, offsets[p], &d[p]);
                }
            }
            for (y, x) in squares(self.grid.side) {
                if y >= pooled || x >= pooled {
                    back(z, self.grid.at(y, x) * self.outputs + first, &[0.0; LANES]);
                }
            }
        }
        self.grid.clear(z, self.outputs);
    }
}

/// Channels that are computed together, in vector registers.
const LANES: usize = 32;

type Lanes = [f32; LANES];

/// Copies the lanes at each offset. A loop instead of `map`, because the compiler doesn't inline the closure.
#[inline(always)]
fn gather<const POOL: usize>(values: &[f32], at: [usize; POOL]) -> [Lanes; POOL] {
    let mut gathered = [[0.0; LANES]; POOL];
    for (gathered, at) in gathered.iter_mut().zip(at) {
        *gathered = *lanes(values, at);
    }
    gathered
}

/// Gradient of the maximum over pooled positions, after the ReLU -> gradient of the norm's output at each position
#[inline(always)]
fn slopes<const POOL: usize>(z: &[Lanes; POOL], scale: &Lanes, shift: &Lanes, d_highest: &Lanes) -> [Lanes; POOL] {
    let (mut affine, mut highest) = ([[0.0; LANES]; POOL], [f32::NEG_INFINITY; LANES]);
    for p in 0..POOL {
        for i in 0..LANES {
            affine[p][i] = z[p][i] * scale[i] + shift[i];
            highest[i] = larger(highest[i], affine[p][i]);
        }
    }
    let (mut d, mut left) = ([[0.0; LANES]; POOL], *d_highest);
    for i in 0..LANES {
        left[i] = if highest[i] > 0.0 { left[i] } else { 0.0 };
    }
    // If several are equal, the first gets the gradient, as in libtorch.
    for p in 0..POOL {
        for i in 0..LANES {
            let here = affine[p][i] == highest[i];
            d[p][i] = if here { left[i] } else { 0.0 };
            left[i] = if here { 0.0 } else { left[i] };
        }
    }
    d
}

/// All positions (y, x) of a square, row by row.
#[inline(always)]
pub(super) fn squares(side: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..side).flat_map(move |y| (0..side).map(move |x| (y, x)))
}

/// The larger value; NaN counts as larger, so that a diverging training is noticed.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b <= a { a } else { b }
}
