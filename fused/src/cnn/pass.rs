//! The stages of a training step or prediction for one part of a batch.

use std::ops::Range;

use super::grid::Grid;
use super::norm::{Moments, pooled};
use super::shape::Network;
use super::winograd::Workspace;
use crate::cpu::{Operation, Simd};
use crate::loss::Training;
use crate::mat::{Buffer, Start};
use crate::random::Random;

/// Numbers of the dropout layers: on the features, and on the hidden layer.
pub(super) const FEATURES: u64 = 0;
pub(super) const HIDDEN: u64 = 1;

/// Images of one job with their activations.
#[derive(Default)]
pub(super) struct Part {
    images: usize,
    /// Inputs of each layer, and the output of the last, image after image on the layer's grid.
    inputs: Vec<Buffer>,
    /// Outputs of each convolution, and their gradient in the backward pass.
    outputs: Vec<Buffer>,
    d_inputs: Vec<Buffer>,
    pub moments: Vec<Moments>,
    /// For each layer and channel: sums of the gradient of the norm's output, and of that gradient times the standardised
    /// input.
    pub norm_sums: Vec<Vec<[f64; 2]>>,
    /// [images, features], in the order of a tensor [C, I, I].
    features: Buffer,
    d_features: Buffer,
    /// [images, hidden]
    hidden: Buffer,
    d_hidden: Buffer,
    /// [images, padded classes], and their gradient in the backward pass.
    padded_logits: Buffer,
    /// [images, classes]
    pub logits: Vec<f32>,
    /// Gradient of all parameters; a convolution's is in the order of [`Layer::convolve_backward`].
    pub gradient: Vec<f32>,
    pub loss: f64,
}

impl Part {
    /// Allocates memory for `images` and resets all sums.
    pub fn prepare(&mut self, network: &Network, images: usize) {
        let layers = &network.layers;
        if self.images != images {
            self.images = images;
            let last = network.last();
            let grids = layers.iter().map(|l| (l.grid, l.inputs));
            let grids = grids.chain([(last.next_grid(), last.outputs)]);
            let room = |(grid, channels): (Grid, usize)| Buffer::zeros(images * grid.positions() * channels);
            self.inputs = grids.clone().map(room).collect();
            self.d_inputs = grids.map(room).collect();
            self.outputs = layers.iter().map(|l| room((l.grid, l.outputs))).collect();
            let rows = |width: usize| Buffer::zeros(images * width);
            (self.features, self.d_features) = (rows(network.features), rows(network.features));
            (self.hidden, self.d_hidden) = (rows(network.shape.hidden), rows(network.shape.hidden));
            self.padded_logits = rows(network.fc2.columns());
            self.gradient = vec![0.0; network.flat.len()];
        }
        self.loss = 0.0;
        self.moments = layers.iter().map(|l| Moments::new(l.outputs)).collect();
        self.norm_sums = layers.iter().map(|l| vec![[0.0; 2]; l.outputs]).collect();
    }
}

/// A stage of a step. Between two stages the results of all parts are combined.
#[derive(Clone, Copy)]
pub(super) enum Stage<'a> {
    /// Images [images, C, I, I] -> logits, with known norms.
    Predict { images: &'a [f32] },
    /// One layer's convolution and moments, after the norm of the layer before. The first layer reads the images.
    Forward { layer: usize, images: &'a [f32] },
    /// From the last layer to the loss, and back to the sums of the last norm.
    Head { training: Training<'a> },
    /// One layer's gradients, and the sums of the norm of the layer before.
    Backward { layer: usize },
}

/// A stage of one part at one CPU level.
pub(super) struct Pass<'a, 'b> {
    pub network: &'a Network,
    pub part: &'a mut Part,
    pub workspace: &'a mut Workspace,
    pub stage: Stage<'b>,
}

/// The elements of some images in those of all `images`.
fn of<'a>(all: &'a [f32], some: &Range<usize>, images: usize) -> &'a [f32] {
    let length = all.len() / images;
    &all[some.start * length..some.end * length]
}

fn of_mut<'a>(all: &'a mut [f32], some: &Range<usize>, images: usize) -> &'a mut [f32] {
    let length = all.len() / images;
    &mut all[some.start * length..some.end * length]
}

impl<S: Simd> Operation<S> for Pass<'_, '_> {
    #[inline(always)]
    fn call(mut self, simd: S) {
        let (layers, images) = (self.network.layers.len(), self.part.images);
        match self.stage {
            Stage::Predict { images: pixels } => {
                for l in 0..layers {
                    for group in self.groups(l) {
                        self.convolve(simd, &group, l, pixels);
                    }
                }
                self.activate(0..images, layers - 1);
                self.logits(simd, None);
            }
            Stage::Forward { layer: l, images: pixels } => {
                for group in self.groups(l) {
                    self.convolve(simd, &group, l, pixels);
                    for i in group {
                        let z = of(&self.part.outputs[l], &(i..i + 1), images);
                        self.network.layers[l].moments(z, &mut self.part.moments[l]);
                    }
                }
            }
            Stage::Head { training } => {
                self.activate(0..images, layers - 1);
                self.logits(simd, Some(training.seed(0)));
                self.logits_backward(simd, training);
                self.norm_sums(0..images, layers - 1);
            }
            Stage::Backward { layer: l } => {
                for group in self.groups(l) {
                    self.convolve_backward(simd, &group, l);
                    if l > 0 {
                        self.norm_sums(group, l - 1);
                    }
                }
            }
        }
    }
}

impl Pass<'_, '_> {
    /// Groups of images that a layer convolves together.
    fn groups(&self, l: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (images, together) = (self.part.images, self.network.layers[l].together());
        (0..images).step_by(together).map(move |first| first..images.min(first + together))
    }

    /// [C, I, I] -> positions on the first layer's grid, each with its channels side by side
    #[inline(always)]
    fn read_images(&mut self, group: Range<usize>, pixels: &[f32]) {
        let (channels, side) = (self.network.shape.channels, self.network.shape.image_side);
        let grid = self.network.layers[0].grid;
        for i in group {
            let from = &pixels[i * self.network.shape.image_len()..];
            let to = of_mut(&mut self.part.inputs[0], &(i..i + 1), self.part.images);
            for (row, from) in from.chunks_exact(side).take(channels * side).enumerate() {
                let (channel, y) = (row / side, row % side);
                let to = &mut to[grid.at(y, 0) * channels + channel..];
                for (to, from) in to.iter_mut().step_by(channels).zip(from) {
                    *to = *from;
                }
            }
        }
    }

    /// Convolution of a group in layer `l`, after the norm of the layer before: images or z of the layer before -> z
    #[inline(always)]
    fn convolve<S: Simd>(&mut self, simd: S, group: &Range<usize>, l: usize, pixels: &[f32]) {
        match l.checked_sub(1) {
            None => self.read_images(group.clone(), pixels),
            Some(before) => self.activate(group.clone(), before),
        }
        let (part, workspace) = (&mut *self.part, &mut *self.workspace);
        let (x, z) = (of(&part.inputs[l], group, part.images), of_mut(&mut part.outputs[l], group, part.images));
        self.network.layers[l].convolve(simd, x, z, workspace);
    }

    /// Norm and convolution backward: gradient of the layer's output -> of its weights and inputs
    #[inline(always)]
    fn convolve_backward<S: Simd>(&mut self, simd: S, group: &Range<usize>, l: usize) {
        let (layer, part) = (&self.network.layers[l], &mut *self.part);
        for i in group.clone().map(|i| i..i + 1) {
            let z = of_mut(&mut part.outputs[l], &i, part.images);
            pooled!(layer.norm_backward(z, of(&part.d_inputs[l + 1], &i, part.images)));
        }
        let x_and_d = (of(&part.inputs[l], group, part.images), of(&part.outputs[l], group, part.images));
        let gradient = &mut part.gradient[layer.conv..][..layer.weights()];
        let gradients = (gradient, of_mut(&mut part.d_inputs[l], group, part.images));
        let first_and_last = (group.start == 0, group.end == part.images);
        layer.convolve_backward(simd, x_and_d, gradients, first_and_last, self.workspace);
    }

    /// Norm, ReLU and pooling: z of layer `l` -> inputs of the next layer
    #[inline(always)]
    fn activate(&mut self, group: Range<usize>, l: usize) {
        let (layer, part) = (&self.network.layers[l], &mut *self.part);
        for i in group.map(|i| i..i + 1) {
            let next = of_mut(&mut part.inputs[l + 1], &i, part.images);
            pooled!(layer.activate(of(&part.outputs[l], &i, part.images), next));
        }
    }

    /// The sums over positions that the norm's backward pass needs, from the gradient of the layer's output
    #[inline(always)]
    fn norm_sums(&mut self, group: Range<usize>, l: usize) {
        let (layer, part) = (&self.network.layers[l], &mut *self.part);
        for i in group.map(|i| i..i + 1) {
            let d_next = of(&part.d_inputs[l + 1], &i, part.images);
            pooled!(layer.norm_sums(of(&part.outputs[l], &i, part.images), d_next, &mut part.norm_sums[l]));
        }
    }

    /// z = dropout(ReLU(dropout(features) W₁ᵀ + b₁)) W₂ᵀ + b₂: output of the last layer -> logits. A training step has a seed.
    #[inline(always)]
    fn logits<S: Simd>(&mut self, simd: S, seed: Option<u64>) {
        let (network, part) = (self.network, &mut *self.part);
        let (images, features, hidden) = (part.images, network.features, network.shape.hidden);
        for i in 0..images {
            let from = of(&part.inputs[network.layers.len()], &(i..i + 1), images);
            network.feature_positions(|feature, at| part.features[i * features + feature] = from[at]);
        }
        let dropout = |layer: u64, x: &mut [f32]| {
            if let Some(seed) = seed {
                Random::new(seed, layer).dropout(x, network.shape.dropout);
            }
        };
        dropout(FEATURES, &mut part.features);
        network.fc1.forward(simd, part.features.mat(images, features), part.hidden.mat_mut(images, hidden));
        for x in part.hidden.iter_mut() {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
        dropout(HIDDEN, &mut part.hidden);
        let columns = network.fc2.columns();
        network.fc2.forward(simd, part.hidden.mat(images, hidden), part.padded_logits.mat_mut(images, columns));
        let logits = part.padded_logits.chunks_exact(columns).flat_map(|z| &z[..network.shape.classes]);
        part.logits = logits.copied().collect();
    }

    /// d z = the loss's gradient, and back through the linear layers, ReLU and dropout -> gradients of the linear layers'
    /// parameters, and of the last layer's output
    #[inline(always)]
    fn logits_backward<S: Simd>(&mut self, simd: S, training: Training) {
        let (network, part) = (self.network, &mut *self.part);
        let (images, features, hidden) = (part.images, network.features, network.shape.hidden);
        let (classes, columns, seed) = (network.shape.classes, network.fc2.columns(), training.seed(0));
        let logits = part.padded_logits.chunks_exact_mut(columns).map(|z| &mut z[..classes]);
        training.gradient(0, 0, logits, &mut part.loss);
        let mut room = Default::default();
        let d_logits = part.padded_logits.mat(images, columns).cols(0, classes);
        let (x_and_d, d_x) = ((part.hidden.mat(images, hidden), d_logits), part.d_hidden.mat_mut(images, hidden));
        network.fc2.backward(simd, x_and_d, (Start::Zero, &mut part.gradient), (Start::Zero, d_x), &mut room);
        Random::new(seed, HIDDEN).dropout(&mut part.d_hidden, network.shape.dropout);
        for (d, x) in part.d_hidden.iter_mut().zip(part.hidden.iter()) {
            *d = if *x > 0.0 { *d } else { 0.0 };
        }
        let x_and_d = (part.features.mat(images, features), part.d_hidden.mat(images, hidden));
        let d_x = (Start::Zero, part.d_features.mat_mut(images, features));
        network.fc1.backward(simd, x_and_d, (Start::Zero, &mut part.gradient), d_x, &mut room);
        Random::new(seed, FEATURES).dropout(&mut part.d_features, network.shape.dropout);
        for i in 0..images {
            let to = of_mut(&mut part.d_inputs[network.layers.len()], &(i..i + 1), images);
            network.feature_positions(|feature, at| to[at] = part.d_features[i * features + feature]);
        }
    }
}
