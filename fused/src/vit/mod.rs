//! Vision Transformer and DeiT student.

mod block;
mod ends;
mod pass;
mod rollout;
mod shape;

pub use rollout::{Fusion, ResolvedRollout};
pub use shape::Shape;

use crate::cpu::{CpuLevel, Level, Simd, dispatch};
use crate::error::{batch_size, check_parameters};
use crate::loss::{HeadTarget, StepOutput, Training};
use crate::random::Random;
use crate::threads::{PARTS, add_parts, run_jobs};
use crate::{Error, Result};
use pass::{GROUP, Job, Output, Workspace, dropout_layer};
use shape::Network;

/// Number format of the operands of the blocks' matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Float32,
    /// Three digits instead of seven. Parameters, sums, softmax, norms, GELU, gradients and the rollout stay float32.
    /// Processors differ: the product takes 2.6 times as long as float32's on an Intel Emerald Rapids, for twice the
    /// multiplications.
    Bfloat16,
}

/// A Vision Transformer or DeiT student.
///
/// ```
/// use vitlab_fused::{HeadTarget, Shape, Transformer};
/// let shape = Shape {
///     image_side: 28, patch_side: 4, channels: 1, embed: 64, heads: 4, hidden: 128, layers: 6, classes: 10,
///     position_rows: 50, distilled: false, dropout: 0.0,
/// };
/// assert_eq!(shape.parameters(), 210_122);
/// let mut vit = Transformer::new(shape, 2)?;
/// vit.load(&vec![0.0; shape.parameters()])?;
/// let images = vec![0.5; 3 * shape.image_len()];
/// assert_eq!(vit.heads(&images)?, [vec![0.0; 30]]); // three images, ten classes
/// let probabilities = vec![0.1; 30];
/// let step = vit.train(&images, &[HeadTarget { probabilities, weight: 1.0, temperature: 1.0 }], 0)?;
/// assert!((step.loss - 10f64.ln()).abs() < 1e-6);
/// assert_eq!(step.gradient.len(), 210_122);
/// # Ok::<(), vitlab_fused::Error>(())
/// ```
pub struct Transformer {
    network: Network,
    level: Level,
    /// The level, or the level with bfloat16 products.
    predictions: Level,
    training: Level,
    /// One per thread.
    workspaces: Vec<Workspace>,
    /// [`PARTS`] × [parameters]
    gradients: Vec<Vec<f32>>,
}

impl Transformer {
    /// An engine on at most `threads` threads. It has no parameters before the first [`Transformer::load`].
    ///
    /// # Errors
    /// Sizes that don't fit each other, or heads whose width is not a multiple of 16.
    pub fn new(shape: Shape, threads: usize) -> Result<Self> {
        shape.check()?;
        let level = CpuLevel::detect().level()?;
        Ok(Transformer {
            network: Network::new(shape),
            level,
            predictions: level,
            training: level,
            workspaces: (0..threads.clamp(1, PARTS)).map(|_| Workspace::new(&shape)).collect(),
            gradients: vec![Vec::new(); PARTS],
        })
    }

    /// Uses only the vector instructions of `level`, for tests and comparisons.
    ///
    /// # Errors
    /// A level that this CPU doesn't have.
    pub fn with_level(mut self, level: CpuLevel) -> Result<Self> {
        self.level = level.level()?;
        self.with_precision(Precision::Float32)?.with_training_precision(Precision::Float32)
    }

    /// Chooses the precision of predictions and rollouts.
    ///
    /// # Errors
    /// Bfloat16 on a CPU without AVX512-BF16.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self> {
        self.predictions = self.level_of(precision)?;
        Ok(self)
    }

    /// Chooses the precision of training steps. Parameters, norms, softmax, sums, loss and gradients stay float32.
    ///
    /// # Errors
    /// Bfloat16 on a CPU without AVX512-BF16.
    pub fn with_training_precision(mut self, precision: Precision) -> Result<Self> {
        self.training = self.level_of(precision)?;
        Ok(self)
    }

    fn level_of(&self, precision: Precision) -> Result<Level> {
        match precision {
            Precision::Float32 => Ok(self.level),
            Precision::Bfloat16 => self
                .level
                .with_bfloat16()
                .ok_or_else(|| Error("this processor has no bfloat16 instructions (AVX512-BF16); use float32".into())),
        }
    }

    pub fn shape(&self) -> &Shape {
        &self.network.shape
    }

    /// Copies the flat vector of all parameters, if they differ from the present ones. It begins with the patch
    /// projection `[E, C, P, P]`, position embedding `[position_rows, E]`, class token `[E]` and distillation token `[E]`. Then
    /// come, for each block, norm, queries, keys, values, output projection [E, E], norm, first [F, E] and second [E, F]
    /// layer of the MLP; then the last norm, the class head's hidden layer [E, E] and output layer [classes, E], and the
    /// distillation head [classes, E]. The bias of a projection or linear layer precedes its weight; the bias of a norm
    /// follows it.
    ///
    /// # Errors
    /// Another number of parameters than [`Shape::parameters`].
    pub fn load(&mut self, parameters: &[f32]) -> Result<()> {
        check_parameters(parameters, self.network.flat.len())?;
        self.network.load(parameters);
        Ok(())
    }

    /// Logits of each head without dropout: images [B, C, I, I] -> heads × [B, classes].
    ///
    /// # Errors
    /// Images of another size.
    pub fn heads(&mut self, images: &[f32]) -> Result<Vec<Vec<f32>>> {
        batch_size(images, self.network.shape.image_len())?;
        Ok(self.run((images, GROUP), None, None).heads)
    }

    /// The query token's row of each image's attention rollout, [B, S], and the logits of [`Transformer::heads`].
    ///
    /// NaN in any attention entry spreads to every row of the product, except when only one head of the last layer has
    /// it and another head's entry is fused in its place. Then the logits are NaN.
    ///
    /// # Errors
    /// Images of another size; a layer, query or discard ratio out of range.
    pub fn rollout(&mut self, images: &[f32], rollout: &ResolvedRollout) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
        rollout.check(&self.network.shape)?;
        batch_size(images, self.network.shape.image_len())?;
        let output = self.run((images, GROUP), Some(rollout), None);
        Ok((output.rows, output.heads))
    }

    /// Loss, logits and gradient of a training batch, with dropout drawn from `seed`. Each head has a target.
    ///
    /// # Errors
    /// No images or images of another size; targets that don't fit the heads, images and classes.
    pub fn train(&mut self, images: &[f32], targets: &[HeadTarget], seed: u64) -> Result<StepOutput<'_>> {
        let shape = self.network.shape;
        let batch = batch_size(images, shape.image_len())?;
        let training = Training::new(targets, seed, batch, shape.prefix(), shape.classes)?;
        let part = batch.div_ceil(PARTS).next_multiple_of(GROUP);
        let output = self.run((images, part), None, Some(training));
        add_parts(self.gradients.iter_mut().take(batch.div_ceil(part)), self.workspaces.len());
        Ok(StepOutput { loss: output.loss, heads: output.heads, gradient: &self.gradients[0] })
    }

    /// Runs a job for each `part` images. A training step has one for each gradient at most.
    fn run(
        &mut self,
        (images, part): (&[f32], usize),
        rollout: Option<&ResolvedRollout>,
        training: Option<Training>,
    ) -> Output {
        let level = if training.is_some() { self.training } else { self.predictions };
        self.network.arrange(level);
        let (network, images) = (&self.network, images.chunks(part * self.network.shape.image_len()));
        let mut all = Output { heads: vec![Vec::new(); network.shape.prefix()], ..Output::default() };
        let mut outputs = vec![all.clone(); images.len()];
        let mut gradients = self.gradients.iter_mut();
        let mut training = |i: usize| Some((training?.part(i * part), gradients.next()?));
        let jobs = images.zip(&mut outputs).enumerate().map(|(i, job)| (job, training(i))).collect();
        run_jobs(&mut self.workspaces, jobs, |workspace, ((images, output), training)| {
            let job = Job { network, workspace, images, output, rollout, training };
            dispatch!(level, simd => simd.run(job));
        });
        for output in outputs {
            all.heads.iter_mut().zip(output.heads).for_each(|(all, head)| all.extend(head));
            all.rows.extend(output.rows);
            all.loss += output.loss;
        }
        all
    }

    /// Factors by which a training step with `seed` multiplies at each dropout layer: after the embedding [B, S, E], then
    /// in each block after the attention and after the MLP [B, S, E]. The last block computes only the prefix tokens:
    /// [B, prefix, E].
    pub fn dropout_factors(&self, seed: u64, batch: usize) -> Vec<Vec<f32>> {
        let shape = &self.network.shape;
        let dropout_layers = dropout_layer(shape.layers);
        let factors = |layer: u64| {
            let tokens = if layer + 2 < dropout_layers { shape.tokens() } else { shape.prefix() };
            Random::factors((seed, layer), (batch, GROUP, tokens * shape.embed), shape.dropout)
        };
        (0..dropout_layers).map(factors).collect()
    }
}
