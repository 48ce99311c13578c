//! The convolutional teacher.
//!
//! A batch norm needs the whole batch. So each thread takes its images through one layer, the statistics of all threads are
//! combined, and the next layer starts with the norm, ReLU and pooling of the layer before. The backward pass does the same
//! in reverse.

mod grid;
mod layer;
mod maps;
mod norm;
mod pass;
mod shape;
mod winograd;

pub use shape::CnnShape;

use crate::Result;
use crate::cpu::{CpuLevel, Level, Simd, dispatch};
use crate::error::{batch_size, check_parameters};
use crate::loss::{HeadTarget, StepOutput, Training};
use crate::random::Random;
use crate::threads::{PARTS, add_parts, run_jobs};
use norm::Moments;
use pass::{FEATURES, HIDDEN, Part, Pass, Stage};
use shape::Network;
use winograd::Workspace;

/// Images that a thread predicts at a time.
const GROUP: usize = 16;

/// Minimum number of images in a part of a batch: each part computes a gradient of all weights.
const MIN_PART: usize = 8;

/// Images of each part of a batch except the last.
fn part_size(batch: usize) -> usize {
    batch.div_ceil(PARTS).max(MIN_PART)
}

/// Statistics of one batch norm, a value for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct NormStatistics {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// A convolutional network.
///
/// ```
/// use vitlab_fused::{Cnn, CnnShape, HeadTarget};
/// let stages = vec![vec![32], vec![64, 64], vec![128, 128]];
/// let shape = CnnShape { image_side: 28, channels: 1, stages, hidden: 256, classes: 10, dropout: 0.0 };
/// let mut cnn = Cnn::new(shape, 2)?;
/// assert_eq!(cnn.parameters(), 575_338);
/// cnn.load(&vec![0.0; cnn.parameters()])?;
/// let target = HeadTarget { probabilities: vec![0.1; 30], weight: 1.0, temperature: 1.0 };
/// let (step, statistics) = cnn.train(&vec![0.5; 3 * 28 * 28], &target, 0)?;
/// assert!((step.loss - 10f64.ln()).abs() < 1e-6);
/// assert_eq!(statistics[0].mean, [0.0; 32]);
/// # Ok::<(), vitlab_fused::Error>(())
/// ```
pub struct Cnn {
    network: Network,
    level: Level,
    /// One per thread.
    workspaces: Vec<Workspace>,
    parts: Vec<Part>,
}

impl Cnn {
    /// An engine on at most `threads` threads. It has no parameters before the first [`Cnn::load`].
    ///
    /// # Errors
    /// Sizes that don't fit each other.
    pub fn new(shape: CnnShape, threads: usize) -> Result<Self> {
        shape.check()?;
        Ok(Cnn {
            network: Network::new(shape),
            level: CpuLevel::detect().level()?,
            workspaces: (0..threads.clamp(1, PARTS)).map(|_| Workspace::default()).collect(),
            parts: (0..PARTS).map(|_| Part::default()).collect(),
        })
    }

    /// Uses only the vector instructions of `level`, for tests and comparisons, from the next [`Cnn::load`] on.
    ///
    /// # Errors
    /// A level that this CPU doesn't have.
    pub fn with_level(mut self, level: CpuLevel) -> Result<Self> {
        self.level = level.level()?;
        self.network.flat.fill(f32::NAN);
        Ok(self)
    }

    pub fn shape(&self) -> &CnnShape {
        &self.network.shape
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.network.flat.len()
    }

    /// Copies the flat vector of all parameters, if they differ from the present ones. It contains, for each convolution,
    /// its weight `[outputs, inputs, 3, 3]` and the norm's weight and bias; then bias `[hidden]` and weight `[hidden, features]`
    /// of the first linear layer, and bias `[classes]` and weight `[classes, hidden]` of the second.
    ///
    /// # Errors
    /// Another number of parameters than [`Cnn::parameters`].
    pub fn load(&mut self, parameters: &[f32]) -> Result<()> {
        check_parameters(parameters, self.network.flat.len())?;
        self.network.load(parameters, self.level, self.workspaces.len());
        Ok(())
    }

    /// Logits with the given statistics of the norms: images [B, C, I, I] -> [B, classes].
    ///
    /// # Errors
    /// Images of another size, or statistics that don't fit the norms.
    pub fn predict(&mut self, images: &[f32], statistics: &[NormStatistics]) -> Result<Vec<f32>> {
        let image_len = self.network.shape.image_len();
        let batch = batch_size(images, image_len)?;
        self.network.set_norms(statistics)?;
        let (network, level, classes) = (&self.network, self.level, self.network.shape.classes);
        let mut logits = vec![0.0; batch * classes];
        let jobs = images.chunks(GROUP * image_len).zip(logits.chunks_mut(GROUP * classes)).collect();
        let mut workspaces: Vec<_> = self.parts.iter_mut().zip(&mut self.workspaces).collect();
        run_jobs(&mut workspaces, jobs, |(part, workspace), (images, logits)| {
            part.prepare(network, logits.len() / classes);
            let pass = Pass { network, part, workspace, stage: Stage::Predict { images } };
            dispatch!(level, simd => simd.float32().run(pass));
            logits.copy_from_slice(&part.logits);
        });
        Ok(logits)
    }

    /// Loss, logits and gradient of a training batch, with dropout drawn from `seed`; and the batch's mean and unbiased
    /// variance at each norm, for running statistics.
    ///
    /// # Errors
    /// No images or images of another size; a target that doesn't fit the images and classes.
    pub fn train(
        &mut self,
        images: &[f32],
        target: &HeadTarget,
        seed: u64,
    ) -> Result<(StepOutput<'_>, Vec<NormStatistics>)> {
        let (image_len, classes) = (self.network.shape.image_len(), self.network.shape.classes);
        let batch = batch_size(images, image_len)?;
        let training = Training::new(std::slice::from_ref(target), seed, batch, 1, classes)?;
        let part = part_size(batch);
        let images: Vec<&[f32]> = images.chunks(part * image_len).collect();
        for (part, images) in self.parts.iter_mut().zip(&images) {
            part.prepare(&self.network, images.len() / image_len);
        }
        let (layers, parts) = (self.network.layers.len(), images.len());
        let mut statistics = Vec::new();
        for layer in 0..layers {
            self.stage(parts, |i| Stage::Forward { layer, images: images[i] });
            statistics.push(self.batch_norm(layer, parts));
        }
        self.stage(parts, |i| Stage::Head { training: training.part(i * part) });
        for layer in (0..layers).rev() {
            self.norm_gradient(layer, parts);
            self.stage(parts, |_| Stage::Backward { layer });
        }
        let parts = &mut self.parts[..parts];
        add_parts(parts.iter_mut().map(|part| &mut part.gradient), self.workspaces.len());
        for layer in &self.network.layers {
            layer.unload(&mut parts[0].gradient[layer.conv..][..layer.weights()]);
        }
        let heads = vec![parts.iter().flat_map(|part| &part.logits).copied().collect()];
        let loss = parts.iter().map(|part| part.loss).sum();
        Ok((StepOutput { loss, heads, gradient: &parts[0].gradient }, statistics))
    }

    /// Factors by which a training step with `seed` multiplies the features [B, features] and the hidden layer
    /// [B, hidden].
    pub fn dropout_factors(&self, seed: u64, batch: usize) -> [Vec<f32>; 2] {
        let shape = &self.network.shape;
        [(FEATURES, self.network.features), (HIDDEN, shape.hidden)]
            .map(|(layer, width)| Random::factors((seed, layer), (batch, part_size(batch), width), shape.dropout))
    }

    /// Runs a stage for the first `parts` parts.
    fn stage<'a>(&mut self, parts: usize, stage: impl Fn(usize) -> Stage<'a>) {
        let (network, level) = (&self.network, self.level);
        let jobs = self.parts[..parts].iter_mut().enumerate();
        let jobs = jobs.map(|(i, part)| (part, stage(i))).collect();
        run_jobs(&mut self.workspaces, jobs, |workspace, (part, stage)| {
            let pass = Pass { network, part, workspace, stage };
            dispatch!(level, simd => simd.float32().run(pass));
        });
    }

    /// Combines the parts' moments to the norm of layer `l`. Returns the mean and the unbiased variance.
    fn batch_norm(&mut self, l: usize, parts: usize) -> NormStatistics {
        let mut moments = Moments::new(self.network.layers[l].outputs);
        for part in &self.parts[..parts] {
            moments.add(&part.moments[l]);
        }
        let divided = |i: usize, by: f64| -> Vec<f32> { moments.channels.iter().map(|c| (c[i] / by) as f32).collect() };
        let (mean, variance) = (divided(0, 1.0), divided(1, moments.count));
        let unbiased = divided(1, (moments.count - 1.0).max(1.0));
        self.network.layers[l].norm.set(&self.network.flat, &mean, &variance);
        NormStatistics { mean, variance: unbiased }
    }

    /// Combines the parts' sums to the gradient of the norm's weight and bias, which goes into the first part's gradient,
    /// and to the means that the backward pass through the norm needs.
    fn norm_gradient(&mut self, l: usize, parts: usize) {
        let norm = &mut self.network.layers[l].norm;
        let count: f64 = self.parts[..parts].iter().map(|p| p.moments[l].count).sum();
        let sum = |i: usize, c: usize| self.parts[..parts].iter().map(|p| p.norm_sums[l][c][i]).sum::<f64>();
        let [d_sums, along_sums] = [0, 1].map(|i| (0..norm.parameters.width).map(|c| sum(i, c)).collect::<Vec<_>>());
        norm.d_mean = d_sums.iter().map(|x| (x / count) as f32).collect();
        norm.d_along = along_sums.iter().map(|x| (x / count) as f32).collect();
        // The other parts have zeros in these elements.
        let gradient = &mut self.parts[0].gradient;
        for c in 0..norm.parameters.width {
            gradient[norm.parameters.weight_at + c] = along_sums[c] as f32;
            gradient[norm.parameters.bias_at + c] = d_sums[c] as f32;
        }
    }
}
