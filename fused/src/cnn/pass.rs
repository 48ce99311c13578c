//! The training step of [`crate::model::Cnn`] written out by hand.
//!
//! The norms need the whole batch at each layer. So a thread takes its images through one layer, the statistics of all are
//! put together, and the next layer begins with the norm, ReLU and pooling of the one before; likewise on the way back.

use std::ops::Range;

use tch::Tensor;

use super::aligned::Aligned;
use super::convolution::{Grid, Layer, Moments, Norm};
use super::group::{Target, Training, loss_gradient};
use super::matmul::{Left, Out, Right, Start, matmul};
use super::network::{Index, Place};
use super::random::Random;
use super::rows::{add, add_column_sums, transpose};
use super::vector::Instructions;
use super::winograd::Work;
use super::{PARTS, draw_seed, flatten, in_threads, numbers, one_hot, tensor};
use crate::config::Precision;
use crate::model::{Cnn, EPS, MOMENTUM, Model, check_images};
use crate::train::Batch;
use crate::{Error, Result};

/// Images of a prediction that a thread works on at a time.
const GROUP: usize = 16;

/// Images of a part at least, where there are so many: each part has a gradient of all weights to compute and to add.
const LEAST: usize = 8;

/// Images of each part of a batch but the last.
fn images_of_part(batch: usize) -> usize {
    batch.div_ceil(PARTS).max(LEAST)
}

/// Places of dropout.
const FEATURES: u64 = 0;
const HIDDEN: u64 = 1;

/// A teacher on the CPU whose training steps and predictions are computed by this module; like [`super::Fused`] it shares
/// the model's parameters, and a training step also moves the model's running statistics.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use vitlab::{Config, fused::FusedCnn, model::{Cnn, Model}};
/// let model = Cnn::new(&Config::default(), Device::Cpu)?;
/// let mut fused = FusedCnn::new(&model)?;
/// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let apart = fused.predict(&images)? - model.predict(&images)?;
/// assert!(apart.abs().max().double_value(&[]) < 1e-5);
/// let batch = fused.cross_entropy(&images, &Tensor::from_slice(&[1i64, 2, 3]))?;
/// assert_eq!(batch.gradient.unwrap().size(), [model.parameters()]);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub struct FusedCnn {
    network: Network,
    parameters: Vec<Tensor>,
    /// Running mean and variance of each norm.
    running: Vec<(Tensor, Tensor)>,
    instructions: Instructions,
    /// One per thread.
    work: Vec<Work>,
    parts: Vec<Part>,
}

/// Sizes, weights in the order in which products read them, and norms of the present batch.
struct Network {
    layers: Vec<Layer>,
    norms: Vec<Norm>,
    /// All parameters in the order of their creation.
    flat: Vec<f32>,
    fc1: Place,
    fc2: Place,
    /// [features, hidden]
    fc1_weights: Vec<f32>,
    /// [hidden, padded classes] and [padded classes]
    fc2_weights: Vec<f32>,
    fc2_bias: Vec<f32>,
    features: usize,
    hidden: usize,
    classes: usize,
    image: (usize, usize),
    dropout: f64,
}

impl Network {
    fn columns(&self) -> usize {
        self.classes.next_multiple_of(16)
    }

    fn numbers(&self) -> usize {
        self.image.0 * self.image.1 * self.image.1
    }

    fn last(&self) -> &Layer {
        self.layers.last().expect("a CNN has layers")
    }

    fn load(&mut self, parameters: &[Tensor], instructions: Instructions, threads: usize) {
        flatten(parameters, &mut self.flat);
        let (flat, columns) = (&self.flat, self.columns());
        let mut loads = Vec::new();
        for layer in &mut self.layers {
            let weights = &flat[layer.conv..][..9 * layer.inputs * layer.outputs];
            loads.extend(layer.load(weights));
        }
        // The last are the largest.
        loads.reverse();
        in_threads(&mut vec![(); threads], loads, |(), load| load.run(instructions));
        let (features, hidden) = (self.features, self.hidden);
        let (fc1, fc2) = (&flat[self.fc1.weight..], &flat[self.fc2.weight..]);
        transpose(fc1, (hidden, features), features, &mut self.fc1_weights, hidden);
        transpose(fc2, (self.classes, hidden), hidden, &mut self.fc2_weights, columns);
        let bias = &flat[self.fc2.bias..self.fc2.bias + self.classes];
        self.fc2_bias[..self.classes].copy_from_slice(bias);
    }

    /// The norm of a layer with these means and variances.
    fn norm(&self, layer: &Layer, mean: Vec<f32>, variance: &[f32]) -> Norm {
        let of = |start: usize| &self.flat[start..start + layer.outputs];
        let (weight, bias) = (of(layer.norm.weight), of(layer.norm.bias));
        Norm::new(mean, variance, EPS as f32, weight, bias)
    }
}

/// Images that one thread works on, with their activations.
#[derive(Default)]
struct Part {
    images: usize,
    /// Of each layer, and behind the last, image after image on the layer's grid.
    inputs: Vec<Aligned>,
    /// Outputs of each convolution, later their gradient.
    outputs: Vec<Aligned>,
    d_inputs: Vec<Aligned>,
    moments: Vec<Moments>,
    /// For each layer: sums of the gradient of the norm's output, and of the same times the standardised z.
    norm_sums: Vec<[Vec<f64>; 2]>,
    /// [images, features], in the order of the tensor [C, 3, 3]
    features: Vec<f32>,
    d_features: Vec<f32>,
    /// [images, hidden]
    hidden: Vec<f32>,
    d_hidden: Vec<f32>,
    /// [images, padded classes]
    logits: Vec<f32>,
    /// Of all parameters; a convolution's in the order of [`Layer::convolve_back`].
    gradient: Vec<f32>,
    loss: f64,
}

impl Part {
    /// Makes room for `images`.
    fn prepare(&mut self, network: &Network, images: usize) {
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
            self.hidden = vec![0.0; images * network.hidden];
            self.d_hidden = self.hidden.clone();
            self.logits = vec![0.0; images * network.columns()];
            self.gradient = vec![0.0; network.flat.len()];
        }
        self.loss = 0.0;
        self.moments = layers.iter().map(|l| Moments::new(l.outputs)).collect();
        let zeros = |l: &Layer| [0, 1].map(|_| vec![0.0; l.outputs]);
        self.norm_sums = layers.iter().map(zeros).collect();
    }
}

/// A stage of a step, between which the parts are put together.
#[derive(Clone, Copy)]
enum Stage<'a> {
    /// Images [.., C, I, I] to all layers' activations with known norms, and logits.
    Predict(&'a [f32]),
    /// One layer's convolution and moments; the first takes the images.
    Forward(usize, &'a [f32]),
    /// From the last layer to the loss and back to the sums of its norm; the number is of the part's first image.
    Head(&'a Training<'a>, usize),
    /// One layer's gradients, and the sums of the norm before.
    Backward(usize),
}

#[derive(Clone, Copy)]
struct Pass<'a> {
    instructions: Instructions,
    network: &'a Network,
}

/// Of image `i` in a part.
fn image(all: &[f32], i: usize, images: usize) -> &[f32] {
    let length = all.len() / images;
    &all[i * length..(i + 1) * length]
}

fn image_mut(all: &mut [f32], i: usize, images: usize) -> &mut [f32] {
    let length = all.len() / images;
    &mut all[i * length..(i + 1) * length]
}

/// Where a group of images lies that is `numbers` long for all images of a part.
fn range(group: &Range<usize>, numbers: usize, images: usize) -> Range<usize> {
    let length = numbers / images;
    group.start * length..group.end * length
}

impl Pass<'_> {
    levels!(Pass, run, body, (part: &mut Part, work: &mut Work, stage: Stage<'_>));

    #[inline(always)]
    fn body(&self, part: &mut Part, work: &mut Work, stage: Stage<'_>) {
        let layers = self.network.layers.len();
        match stage {
            Stage::Predict(images) => {
                for i in 0..part.images {
                    self.take(part, i, images);
                }
                for l in 0..layers {
                    for group in self.groups(part, l) {
                        self.convolve(part, &group, l, work);
                        for i in group {
                            self.activate(part, i, l);
                        }
                    }
                }
                self.scores(part, None);
            }
            Stage::Forward(l, images) => {
                for group in self.groups(part, l) {
                    for i in group.clone() {
                        match l.checked_sub(1) {
                            None => self.take(part, i, images),
                            Some(before) => self.activate(part, i, before),
                        }
                    }
                    self.convolve(part, &group, l, work);
                    for i in group {
                        let z = image(&part.outputs[l], i, part.images);
                        let layer = &self.network.layers[l];
                        layer.moments(z, &mut part.moments[l]);
                    }
                }
            }
            Stage::Head(training, first) => {
                for i in 0..part.images {
                    self.activate(part, i, layers - 1);
                }
                let seed = training.seed.wrapping_add(first as u64);
                self.scores(part, Some(seed));
                self.scores_backward(part, training, first, seed);
                for i in 0..part.images {
                    self.norm_sums(part, i, layers - 1);
                }
            }
            Stage::Backward(l) => {
                for group in self.groups(part, l) {
                    self.backward(part, &group, l, work);
                    if l > 0 {
                        for i in group {
                            self.norm_sums(part, i, l - 1);
                        }
                    }
                }
            }
        }
    }

    /// Images of a part that a layer convolves together.
    fn groups(&self, part: &Part, l: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (images, together) = (part.images, self.network.layers[l].together());
        (0..images).step_by(together).map(move |first| first..images.min(first + together))
    }

    /// [C, I, I] -> positions with their channels side by side
    #[inline(always)]
    fn take(&self, part: &mut Part, i: usize, images: &[f32]) {
        let (channels, side) = self.network.image;
        let grid = self.network.layers[0].grid;
        let from = &images[i * self.network.numbers()..];
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
    fn convolve(&self, part: &mut Part, group: &Range<usize>, l: usize, work: &mut Work) {
        let (input, z) = (&part.inputs[l], &mut part.outputs[l]);
        let input = &input[range(group, input.len(), part.images)];
        let group = range(group, z.len(), part.images);
        self.network.layers[l].convolve(self.instructions, input, &mut z[group], work);
    }

    #[inline(always)]
    fn activate(&self, part: &mut Part, i: usize, l: usize) {
        let z = image(&part.outputs[l], i, part.images);
        let next = image_mut(&mut part.inputs[l + 1], i, part.images);
        self.network.layers[l].activate(&self.network.norms[l], z, next);
    }

    #[inline(always)]
    fn norm_sums(&self, part: &mut Part, i: usize, l: usize) {
        let z = image(&part.outputs[l], i, part.images);
        let d_next = image(&part.d_inputs[l + 1], i, part.images);
        let [d_sums, along_sums] = &mut part.norm_sums[l];
        let norm = &self.network.norms[l];
        let sums = (&mut d_sums[..], &mut along_sums[..]);
        self.network.layers[l].norm_sums(norm, z, d_next, sums);
    }

    #[inline(always)]
    fn backward(&self, part: &mut Part, group: &Range<usize>, l: usize, work: &mut Work) {
        let (layer, norm) = (&self.network.layers[l], &self.network.norms[l]);
        for i in group.clone() {
            let z = image_mut(&mut part.outputs[l], i, part.images);
            let d_next = image(&part.d_inputs[l + 1], i, part.images);
            layer.norm_backward(norm, z, d_next);
        }
        let (input, d) = (&part.inputs[l], &part.outputs[l]);
        let inputs = range(group, input.len(), part.images);
        let outputs = range(group, d.len(), part.images);
        layer.convolve_back(
            self.instructions,
            (&input[inputs.clone()], &d[outputs]),
            (&mut part.gradient[layer.conv..][..9 * layer.inputs * layer.outputs], &mut part.d_inputs[l][inputs]),
            (group.start == 0, group.end == part.images),
            work,
        );
    }

    /// The linear layers, with dropout in training.
    #[inline(always)]
    fn scores(&self, part: &mut Part, dropout: Option<u64>) {
        let network = self.network;
        let (features, hidden, columns) = (network.features, network.hidden, network.columns());
        for i in 0..part.images {
            let from = image(&part.inputs[network.layers.len()], i, part.images);
            self.positions(|feature, at| part.features[i * features + feature] = from[at]);
        }
        if let Some(seed) = dropout {
            Random::new(seed, FEATURES).dropout(&mut part.features, network.dropout);
        }
        matmul(
            self.instructions,
            (part.images, hidden, features),
            Left::rows(&part.features, features),
            Right::rows(&network.fc1_weights, hidden),
            Out::rows(&mut part.hidden, hidden),
            Start::Bias(&network.flat[network.fc1.bias..network.fc1.bias + hidden]),
        );
        for x in &mut part.hidden {
            *x = if *x < 0.0 { 0.0 } else { *x };
        }
        if let Some(seed) = dropout {
            Random::new(seed, HIDDEN).dropout(&mut part.hidden, network.dropout);
        }
        matmul(
            self.instructions,
            (part.images, columns, hidden),
            Left::rows(&part.hidden, hidden),
            Right::rows(&network.fc2_weights, columns),
            Out::rows(&mut part.logits, columns),
            Start::Bias(&network.fc2_bias),
        );
    }

    /// For each feature in the order of the tensor [C, 3, 3]: its place in an image behind the last layer.
    #[inline(always)]
    fn positions(&self, mut each: impl FnMut(usize, usize)) {
        let last = self.network.last();
        let (grid, channels) = (last.next_grid(), last.outputs);
        for y in 0..grid.side {
            for x in 0..grid.side {
                for channel in 0..channels {
                    let feature = (channel * grid.side + y) * grid.side + x;
                    each(feature, grid.at(y, x) * channels + channel);
                }
            }
        }
    }

    #[inline(always)]
    fn scores_backward(&self, part: &mut Part, training: &Training, first: usize, seed: u64) {
        let network = self.network;
        let (images, classes, columns) = (part.images, network.classes, network.columns());
        let (features, hidden) = (network.features, network.hidden);
        let target = &training.targets[0];
        // The gradient takes the place of a copy: the logits are still to be read.
        let mut d_logits = part.logits.clone();
        let wanted = target.probabilities[first * classes..].chunks_exact(classes);
        for (z, t) in d_logits.chunks_exact_mut(columns).zip(wanted) {
            part.loss += loss_gradient(&mut z[..classes], t, target, training.batch);
            z[classes..].fill(0.0);
        }
        let gradient = &mut part.gradient;
        matmul(
            self.instructions,
            (classes, hidden, images),
            Left::transposed(&d_logits, columns),
            Right::rows(&part.hidden, hidden),
            Out::rows(&mut gradient[network.fc2.weight..], hidden),
            Start::Zero,
        );
        let bias = &mut gradient[network.fc2.bias..network.fc2.bias + classes];
        bias.fill(0.0);
        add_column_sums(&d_logits, columns, bias);
        matmul(
            self.instructions,
            (images, hidden, classes),
            Left::rows(&d_logits, columns),
            Right::rows(&network.flat[network.fc2.weight..], hidden),
            Out::rows(&mut part.d_hidden, hidden),
            Start::Zero,
        );
        Random::new(seed, HIDDEN).dropout(&mut part.d_hidden, network.dropout);
        for (d, x) in part.d_hidden.iter_mut().zip(&part.hidden) {
            *d = if *x > 0.0 { *d } else { 0.0 };
        }
        matmul(
            self.instructions,
            (hidden, features, images),
            Left::transposed(&part.d_hidden, hidden),
            Right::rows(&part.features, features),
            Out::rows(&mut gradient[network.fc1.weight..], features),
            Start::Zero,
        );
        let bias = &mut gradient[network.fc1.bias..network.fc1.bias + hidden];
        bias.fill(0.0);
        add_column_sums(&part.d_hidden, hidden, bias);
        matmul(
            self.instructions,
            (images, features, hidden),
            Left::rows(&part.d_hidden, hidden),
            Right::rows(&network.flat[network.fc1.weight..], features),
            Out::rows(&mut part.d_features, features),
            Start::Zero,
        );
        Random::new(seed, FEATURES).dropout(&mut part.d_features, network.dropout);
        for i in 0..images {
            let to = image_mut(&mut part.d_inputs[network.layers.len()], i, images);
            self.positions(|feature, at| to[at] = part.d_features[i * features + feature]);
        }
    }
}

impl FusedCnn {
    /// # Errors
    /// A model on a GPU, or one in bfloat16, whose products libtorch has.
    pub fn new(model: &Cnn) -> Result<Self> {
        if model.precision != Precision::Float32 {
            return Err(Error::argument(
                "the fused step of a CNN computes in float32; train in bfloat16 with the model's own forward pass",
            ));
        }
        let index = Index::new(model.variables())?;
        let mut layers = Vec::new();
        let mut running = Vec::new();
        let (mut inputs, mut side) = (model.image.0 as usize, model.image.1 as usize);
        for stage in &model.stages {
            for (i, block) in stage.iter().enumerate() {
                let (Some(weight), Some(bias)) = (&block.bn.ws, &block.bn.bs) else {
                    unreachable!("the norm was made with factors and shifts");
                };
                let outputs = block.conv.ws.size()[0] as usize;
                let pool = i + 1 == stage.len();
                let norm = index.place(weight, Some(bias));
                let conv = index.start(&block.conv.ws);
                layers.push(Layer::new((side, inputs, outputs), pool, conv, norm));
                let statistics = [&block.bn.running_mean, &block.bn.running_var];
                let [mean, variance] = statistics.map(Tensor::shallow_clone);
                running.push((mean, variance));
                inputs = outputs;
            }
            side /= 2;
        }
        let [classes, hidden] = [0, 1].map(|i| model.fc2.ws.size()[i] as usize);
        let features = inputs * side * side;
        let columns = classes.next_multiple_of(16);
        let network = Network {
            norms: vec![Norm::default(); layers.len()],
            layers,
            flat: vec![0.0; index.length],
            fc1: index.linear(&model.fc1),
            fc2: index.linear(&model.fc2),
            fc1_weights: vec![0.0; features * hidden],
            fc2_weights: vec![0.0; hidden * columns],
            fc2_bias: vec![0.0; columns],
            features,
            hidden,
            classes,
            image: (model.image.0 as usize, model.image.1 as usize),
            dropout: model.dropout,
        };
        let mut parts = Vec::new();
        parts.resize_with(PARTS, Part::default);
        let threads = tch::get_num_threads().max(1) as usize;
        let work = || {
            let layers = network.layers.iter();
            Work::new(layers.filter_map(Layer::winograd))
        };
        let work = (0..threads.min(PARTS)).map(|_| work()).collect();
        Ok(FusedCnn {
            network,
            parameters: index.parameters,
            running,
            instructions: Instructions::detect(),
            work,
            parts,
        })
    }

    /// As [`super::Fused::with_instructions`].
    ///
    /// # Errors
    /// When the processor doesn't have them.
    pub fn with_instructions(mut self, instructions: Instructions) -> Result<Self> {
        self.instructions = instructions.check()?;
        Ok(self)
    }

    /// Logits at inference, as [`Model::predict`]: [B, C, I, I] -> [B, classes].
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        let images = self.take(images)?;
        for l in 0..self.network.layers.len() {
            let [mean, variance] = [&self.running[l].0, &self.running[l].1].map(numbers);
            self.network.norms[l] = self.network.norm(&self.network.layers[l], mean, &variance);
        }
        let (network, classes) = (&self.network, self.network.classes);
        let mut logits = vec![0.0; images.len() / network.numbers() * classes];
        let pass = Pass { instructions: self.instructions, network };
        let images = images.chunks(GROUP * network.numbers());
        let jobs: Vec<_> = images.zip(logits.chunks_mut(GROUP * classes)).collect();
        let mut work: Vec<_> = self.parts.iter_mut().zip(&mut self.work).collect();
        in_threads(&mut work, jobs, |(part, work), (images, logits)| {
            part.prepare(network, logits.len() / classes);
            pass.run(part, work, Stage::Predict(images));
            take_logits(part, network, logits);
        });
        Ok(Tensor::from_slice(&logits).view([-1, classes as i64]))
    }

    /// Loss, logits and gradient of a training batch with labels [B]; dropout drawn from libtorch's generator.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn cross_entropy(&mut self, images: &Tensor, labels: &Tensor) -> Result<Batch> {
        let images = self.take(images)?;
        let (numbers, classes) = (self.network.numbers(), self.network.classes);
        let batch = images.len() / numbers;
        let targets =
            [Target { probabilities: super::numbers(&one_hot(labels, classes, 0.0)), weight: 1.0, temperature: 1.0 }];
        let training = Training { targets: &targets, seed: draw_seed(self.network.dropout), batch };
        let part = images_of_part(batch);
        let images: Vec<&[f32]> = images.chunks(part * numbers).collect();
        for (part, images) in self.parts.iter_mut().zip(&images) {
            part.prepare(&self.network, images.len() / numbers);
        }
        let layers = self.network.layers.len();
        for l in 0..layers {
            self.stage(images.len(), |i| Stage::Forward(l, images[i]));
            self.batch_norm(l, images.len());
        }
        self.stage(images.len(), |i| Stage::Head(&training, i * part));
        for l in (0..layers).rev() {
            self.norm_gradient(l, images.len());
            self.stage(images.len(), |_| Stage::Backward(l));
        }
        let mut logits = vec![0.0; batch * classes];
        for (part, logits) in self.parts.iter().zip(logits.chunks_mut(part * classes)) {
            take_logits(part, &self.network, logits);
        }
        let loss: f64 = self.parts[..images.len()].iter().map(|p| p.loss).sum();
        Ok(Batch {
            loss: Tensor::from(loss as f32),
            logits: Tensor::from_slice(&logits).view([-1, classes as i64]),
            gradient: Some(tensor(&self.gradient(images.len()))),
        })
    }

    /// What a training step on `batch` images multiplies by at the two places of dropout, given the number that it drew
    /// from libtorch's generator: the features [B, 1152] and the hidden layer [B, 256].
    pub fn dropout_factors(&self, seed: i64, batch: usize) -> [Tensor; 2] {
        let places = [(FEATURES, self.network.features), (HIDDEN, self.network.hidden)];
        places.map(|(place, width)| {
            let part = images_of_part(batch);
            let mut factors = vec![1.0; batch * width];
            for (i, factors) in factors.chunks_mut(part * width).enumerate() {
                let seed = (seed as u64).wrapping_add((i * part) as u64);
                Random::new(seed, place).dropout(factors, self.network.dropout);
            }
            Tensor::from_slice(&factors).view([batch as i64, width as i64])
        })
    }

    fn take(&mut self, images: &Tensor) -> Result<Vec<f32>> {
        let (channels, side) = self.network.image;
        check_images(images, channels as i64, side as i64)?;
        self.network.load(&self.parameters, self.instructions, self.work.len());
        Ok(numbers(images))
    }

    /// Does a stage for the first `parts` parts.
    fn stage<'a>(&mut self, parts: usize, stage: impl Fn(usize) -> Stage<'a>) {
        let pass = Pass { instructions: self.instructions, network: &self.network };
        let jobs = self.parts[..parts].iter_mut().enumerate();
        let jobs = jobs.map(|(i, part)| (part, stage(i))).collect();
        in_threads(&mut self.work, jobs, |work, (part, stage)| {
            pass.run(part, work, stage);
        });
    }

    /// Puts the parts' moments together: the layer's norm of this batch, and the running statistics.
    fn batch_norm(&mut self, l: usize, parts: usize) {
        let layer = &self.network.layers[l];
        let mut moments = Moments::new(layer.outputs);
        for part in &self.parts[..parts] {
            moments.add(&part.moments[l]);
        }
        let single = |numbers: &[f64], by: f64| -> Vec<f32> { numbers.iter().map(|x| (x / by) as f32).collect() };
        let mean = single(&moments.mean, 1.0);
        let variance = single(&moments.squares, moments.count);
        let (running_mean, running_var) = &self.running[l];
        let unbiased = single(&moments.squares, (moments.count - 1.0).max(1.0));
        for (running, batch) in [(running_mean, &mean), (running_var, &unbiased)] {
            let mut running = running.detach();
            let _ = running.lerp_(&Tensor::from_slice(batch), MOMENTUM);
        }
        self.network.norms[l] = self.network.norm(layer, mean, &variance);
    }

    /// Puts the parts' sums together: gradient of the norm's factors and shifts (into the first part's), and the means
    /// that the way back through the norm needs.
    fn norm_gradient(&mut self, l: usize, parts: usize) {
        let layer = &self.network.layers[l];
        let norm = &mut self.network.norms[l];
        let count = self.parts[..parts].iter().map(|p| p.moments[l].count);
        let count: f64 = count.sum();
        let sums = |which: usize| -> Vec<f64> {
            let parts = &self.parts[..parts];
            let channel = |c| parts.iter().map(|p| p.norm_sums[l][which][c]).sum();
            (0..layer.outputs).map(channel).collect()
        };
        let (d_sums, along_sums) = (sums(0), sums(1));
        norm.d_mean = d_sums.iter().map(|x| (x / count) as f32).collect();
        norm.d_along = along_sums.iter().map(|x| (x / count) as f32).collect();
        // The parts' own gradients have zeros there.
        let gradient = &mut self.parts[0].gradient;
        for c in 0..layer.outputs {
            gradient[layer.norm.weight + c] = along_sums[c] as f32;
            gradient[layer.norm.bias + c] = d_sums[c] as f32;
        }
    }

    /// The parts' sum, in libtorch's order.
    fn gradient(&mut self, parts: usize) -> Vec<f32> {
        let (first, others) = self.parts.split_first_mut().expect("there are parts");
        let total = &mut first.gradient;
        let threads = self.work.len();
        let length = total.len().div_ceil(threads);
        let jobs = total.chunks_mut(length).enumerate().collect();
        in_threads(&mut vec![(); threads], jobs, |(), (i, total)| {
            for other in &others[..parts - 1] {
                add(total, &other.gradient[i * length..]);
            }
        });
        let mut gradient = total.clone();
        for layer in &self.network.layers {
            let range = layer.conv..layer.conv + 9 * layer.inputs * layer.outputs;
            layer.unload(&total[range.clone()], &mut gradient[range]);
        }
        gradient
    }
}

/// Logits without the padding.
fn take_logits(part: &Part, network: &Network, to: &mut [f32]) {
    let rows = part.logits.chunks_exact(network.columns());
    for (to, logits) in to.chunks_exact_mut(network.classes).zip(rows) {
        to.copy_from_slice(&logits[..network.classes]);
    }
}
