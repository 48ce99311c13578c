//! The stages of a training step or prediction for one part of a batch.

use std::ops::Range;

use super::grid::Grid;
use super::layer::Layer;
use super::norm::{Moments, pooled, squares};
use super::parameters::CnnParameters;
use super::winograd::Workspace;
use crate::aligned::Aligned;
use crate::cpu::{CpuLevel, dispatch};
use crate::layers::add_column_sums;
use crate::layout::LayerOffsets;
use crate::loss::{Training, loss_gradient};
use crate::matmul::{Start, matmul, rows, transposed};
use crate::random::Random;

/// Numbers of the dropout layers: on the features, and on the hidden layer.
pub(super) const FEATURES: u64 = 0;
pub(super) const HIDDEN: u64 = 1;

/// Images of one job with their activations.
#[derive(Default)]
pub(super) struct Part {
    images: usize,
    /// Inputs of each layer, and the output of the last, image after image on the layer's grid.
    inputs: Vec<Aligned>,
    /// Outputs of each convolution, and their gradient in the backward pass.
    outputs: Vec<Aligned>,
    d_inputs: Vec<Aligned>,
    pub moments: Vec<Moments>,
    /// For each layer: sums of the gradient of the norm's output, and of that gradient times the standardised input.
    pub norm_sums: Vec<[Vec<f64>; 2]>,
    /// [images, features], in the order of a tensor [C, I, I].
    features: Vec<f32>,
    d_features: Vec<f32>,
    /// [images, hidden]
    hidden: Vec<f32>,
    d_hidden: Vec<f32>,
    /// [images, padded classes]
    logits: Vec<f32>,
    /// Gradient of all parameters; a convolution's is in the order of [`Layer::convolve_backward`].
    pub gradient: Vec<f32>,
    pub loss: f64,
}

impl Part {
    /// Allocates memory for `images` and resets all sums.
    pub fn prepare(&mut self, network: &CnnParameters, images: usize) {
        let layers = &network.layers;
        if self.images != images {
            self.images = images;
            let last = network.last();
            let grids = layers.iter().map(|l| (l.grid, l.inputs));
            let grids = grids.chain([(last.next_grid(), last.outputs)]);
            let room = |(grid, channels): (Grid, usize)| Aligned::zeros(images * grid.positions() * channels);
            self.inputs = grids.clone().map(room).collect();
            self.d_inputs = grids.map(room).collect();
            self.outputs = layers.iter().map(|l| room((l.grid, l.outputs))).collect();
            self.features = vec![0.0; images * network.features];
            self.d_features = self.features.clone();
            self.hidden = vec![0.0; images * network.shape.hidden];
            self.d_hidden = self.hidden.clone();
            self.logits = vec![0.0; images * network.columns()];
            self.gradient = vec![0.0; network.flat.len()];
        }
        self.loss = 0.0;
        self.moments = layers.iter().map(|l| Moments::new(l.outputs)).collect();
        self.norm_sums = layers.iter().map(|l| [0, 1].map(|_| vec![0.0; l.outputs])).collect();
    }

    /// Copies the logits without their padding: -> [images, classes].
    pub fn copy_logits(&self, network: &CnnParameters, to: &mut [f32]) {
        let classes = network.shape.classes;
        for (to, logits) in to.chunks_exact_mut(classes).zip(self.logits.chunks_exact(network.columns())) {
            to.copy_from_slice(&logits[..classes]);
        }
    }
}

/// A stage of a step. Between two stages the results of all parts are combined.
#[derive(Clone, Copy)]
pub(super) enum Stage<'a> {
    /// Images [images, C, I, I] -> logits, with known norms.
    Predict { images: &'a [f32] },
    /// One layer's convolution and moments, after the norm of the layer before. The first layer reads the images.
    Forward { layer: usize, images: &'a [f32] },
    /// From the last layer to the loss, and back to the sums of the last norm. `first` is the number of the part's first
    /// image in the batch.
    Head { training: &'a Training<'a>, first: usize },
    /// One layer's gradients, and the sums of the norm of the layer before.
    Backward { layer: usize },
}

/// A network at one CPU level.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub level: CpuLevel,
    pub network: &'a CnnParameters,
}

/// The elements of image `i` in those of all `images`.
fn image(all: &[f32], i: usize, images: usize) -> &[f32] {
    &all[range(&(i..i + 1), all.len(), images)]
}

fn image_mut(all: &mut [f32], i: usize, images: usize) -> &mut [f32] {
    let range = range(&(i..i + 1), all.len(), images);
    &mut all[range]
}

/// The elements of a group of images in `length` elements of all `images`.
fn range(group: &Range<usize>, length: usize, images: usize) -> Range<usize> {
    let length = length / images;
    group.start * length..group.end * length
}

impl Pass<'_> {
    dispatch!(Pass, run, body, (part: &mut Part, workspace: &mut Workspace, stage: Stage<'_>));

    #[inline(always)]
    fn body(&self, part: &mut Part, workspace: &mut Workspace, stage: Stage<'_>) {
        let layers = self.network.layers.len();
        match stage {
            Stage::Predict { images } => {
                for i in 0..part.images {
                    self.read_image(part, i, images);
                }
                for l in 0..layers {
                    for group in self.groups(part, l) {
                        self.convolve(part, &group, l, workspace);
                        for i in group {
                            self.activate(part, i, l);
                        }
                    }
                }
                self.logits(part, None);
            }
            Stage::Forward { layer: l, images } => {
                for group in self.groups(part, l) {
                    for i in group.clone() {
                        match l.checked_sub(1) {
                            None => self.read_image(part, i, images),
                            Some(before) => self.activate(part, i, before),
                        }
                    }
                    self.convolve(part, &group, l, workspace);
                    for i in group {
                        let z = image(&part.outputs[l], i, part.images);
                        self.network.layers[l].moments(z, &mut part.moments[l]);
                    }
                }
            }
            Stage::Head { training, first } => {
                for i in 0..part.images {
                    self.activate(part, i, layers - 1);
                }
                let seed = training.seed.wrapping_add(first as u64);
                self.logits(part, Some(seed));
                self.logits_backward(part, training, first, seed);
                for i in 0..part.images {
                    self.norm_sums(part, i, layers - 1);
                }
            }
            Stage::Backward { layer: l } => {
                for group in self.groups(part, l) {
                    self.convolve_backward(part, &group, l, workspace);
                    if l > 0 {
                        for i in group {
                            self.norm_sums(part, i, l - 1);
                        }
                    }
                }
            }
        }
    }

    /// Groups of images that a layer convolves together.
    fn groups(&self, part: &Part, l: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (images, together) = (part.images, self.network.layers[l].together());
        (0..images).step_by(together).map(move |first| first..images.min(first + together))
    }

    /// [C, I, I] -> positions on the first layer's grid, each with its channels side by side
    #[inline(always)]
    fn read_image(&self, part: &mut Part, i: usize, images: &[f32]) {
        let (channels, side) = (self.network.shape.channels, self.network.shape.image_side);
        let grid = self.network.layers[0].grid;
        let from = &images[i * self.network.shape.image_len()..];
        let to = image_mut(&mut part.inputs[0], i, part.images);
        for (row, from) in from.chunks_exact(side).take(channels * side).enumerate() {
            let (channel, y) = (row / side, row % side);
            let to = &mut to[grid.at(y, 0) * channels + channel..];
            for (to, from) in to.iter_mut().step_by(channels).zip(from) {
                *to = *from;
            }
        }
    }

    #[inline(always)]
    fn convolve(&self, part: &mut Part, group: &Range<usize>, l: usize, workspace: &mut Workspace) {
        let (input, z) = (&part.inputs[l], &mut part.outputs[l]);
        let input = &input[range(group, input.len(), part.images)];
        let group = range(group, z.len(), part.images);
        self.network.layers[l].convolve(self.level, input, &mut z[group], workspace);
    }

    /// Norm and convolution backward: gradient of the layer's output -> of its weights and input
    #[inline(always)]
    fn convolve_backward(&self, part: &mut Part, group: &Range<usize>, l: usize, workspace: &mut Workspace) {
        let (layer, norm) = (&self.network.layers[l], &self.network.norms[l]);
        for i in group.clone() {
            let z = image_mut(&mut part.outputs[l], i, part.images);
            let d_next = image(&part.d_inputs[l + 1], i, part.images);
            pooled!(layer.norm_backward(norm, z, d_next));
        }
        let (input, d) = (&part.inputs[l], &part.outputs[l]);
        let inputs = range(group, input.len(), part.images);
        let inputs_and_d = (&input[inputs.clone()], &d[range(group, d.len(), part.images)]);
        let gradient = &mut part.gradient[layer.conv..][..layer.weights()];
        let gradients = (gradient, &mut part.d_inputs[l][inputs]);
        let first_and_last = (group.start == 0, group.end == part.images);
        layer.convolve_backward(self.level, inputs_and_d, gradients, first_and_last, workspace);
    }

    /// Norm, ReLU and pooling of image `i`: output of layer `l` -> input of the next layer
    #[inline(always)]
    fn activate(&self, part: &mut Part, i: usize, l: usize) {
        let (layer, norm) = (&self.network.layers[l], &self.network.norms[l]);
        let z = image(&part.outputs[l], i, part.images);
        let next = image_mut(&mut part.inputs[l + 1], i, part.images);
        pooled!(layer.activate(norm, z, next));
    }

    #[inline(always)]
    fn norm_sums(&self, part: &mut Part, i: usize, l: usize) {
        let (layer, norm) = (&self.network.layers[l], &self.network.norms[l]);
        let z = image(&part.outputs[l], i, part.images);
        let d_next = image(&part.d_inputs[l + 1], i, part.images);
        pooled!(layer.norm_sums(norm, z, d_next, &mut part.norm_sums[l]));
    }

    /// Output of the last layer -> logits, through the linear layers. A training step has a seed for dropout.
    #[inline(always)]
    fn logits(&self, part: &mut Part, dropout: Option<u64>) {
        let network = self.network;
        let (features, hidden, columns) = (network.features, network.shape.hidden, network.columns());
        for i in 0..part.images {
            let from = image(&part.inputs[network.layers.len()], i, part.images);
            self.feature_positions(|feature, at| part.features[i * features + feature] = from[at]);
        }
        if let Some(seed) = dropout {
            Random::new(seed, FEATURES).dropout(&mut part.features, network.shape.dropout);
        }
        let (size, bias) = ((part.images, hidden, features), &network.flat[network.fc1.bias..][..hidden]);
        let (x, out) = (rows(&part.features, features), (&mut part.hidden[..], hidden));
        matmul(self.level, size, x, (&network.fc1_weights, hidden), out, Start::Bias(bias));
        for x in &mut part.hidden {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
        if let Some(seed) = dropout {
            Random::new(seed, HIDDEN).dropout(&mut part.hidden, network.shape.dropout);
        }
        let (size, bias) = ((part.images, columns, hidden), Start::Bias(&network.fc2_bias));
        let (x, out) = (rows(&part.hidden, hidden), (&mut part.logits[..], columns));
        matmul(self.level, size, x, (&network.fc2_weights, columns), out, bias);
    }

    /// Loss of the logits -> gradients of the linear layers' parameters, and of the last layer's output
    #[inline(always)]
    fn logits_backward(&self, part: &mut Part, training: &Training, first: usize, seed: u64) {
        let network = self.network;
        let (images, features) = (part.images, network.features);
        let (classes, columns, hidden) = (network.shape.classes, network.columns(), network.shape.hidden);
        let target = &training.targets[0];
        // The gradient is computed in a copy, because the caller reads the logits.
        let mut d_logits = part.logits.clone();
        let probabilities = target.probabilities[first * classes..].chunks_exact(classes);
        for (z, t) in d_logits.chunks_exact_mut(columns).zip(probabilities) {
            part.loss += loss_gradient(&mut z[..classes], t, target, training.batch);
            z[classes..].fill(0.0);
        }
        let (size, gradients) = ((images, hidden, classes), (&mut part.gradient[..], &mut part.d_hidden[..]));
        self.linear_backward(network.fc2, size, (&d_logits, columns), &part.hidden, gradients);
        Random::new(seed, HIDDEN).dropout(&mut part.d_hidden, network.shape.dropout);
        for (d, x) in part.d_hidden.iter_mut().zip(&part.hidden) {
            *d = if *x > 0.0 { *d } else { 0.0 };
        }
        let (size, gradients) = ((images, features, hidden), (&mut part.gradient[..], &mut part.d_features[..]));
        self.linear_backward(network.fc1, size, (&part.d_hidden, hidden), &part.features, gradients);
        Random::new(seed, FEATURES).dropout(&mut part.d_features, network.shape.dropout);
        for i in 0..images {
            let to = image_mut(&mut part.d_inputs[network.layers.len()], i, images);
            self.feature_positions(|feature, at| to[at] = part.d_features[i * features + feature]);
        }
    }

    /// Gradient `d` of a linear layer's output, in rows that start `row` elements apart -> gradients of its parameters and
    /// of its input `x`
    #[inline(always)]
    fn linear_backward(
        &self,
        layer: LayerOffsets,
        (images, inputs, outputs): (usize, usize, usize),
        (d, row): (&[f32], usize),
        x: &[f32],
        (gradient, d_x): (&mut [f32], &mut [f32]),
    ) {
        let d_weight = (&mut gradient[layer.weight..], inputs);
        matmul(self.level, (outputs, inputs, images), transposed(d, row), (x, inputs), d_weight, Start::Zero);
        let bias = &mut gradient[layer.bias..layer.bias + outputs];
        bias.fill(0.0);
        add_column_sums(d, row, bias);
        let weight = (&self.network.flat[layer.weight..], inputs);
        matmul(self.level, (images, inputs, outputs), rows(d, row), weight, (d_x, inputs), Start::Zero);
    }

    /// Calls `each` with every feature, in the order of the tensor [C, I, I], and its place in the last layer's output.
    #[inline(always)]
    fn feature_positions(&self, mut each: impl FnMut(usize, usize)) {
        let last: &Layer = self.network.last();
        let (grid, channels) = (last.next_grid(), last.outputs);
        for (y, x) in squares(grid.side) {
            for channel in 0..channels {
                let feature = (channel * grid.side + y) * grid.side + x;
                each(feature, grid.at(y, x) * channels + channel);
            }
        }
    }
}
