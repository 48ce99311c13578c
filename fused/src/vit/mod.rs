//! Vision Transformer and DeiT student.

mod block;
mod ends;
mod pass;
mod rollout;
mod shape;

pub use rollout::{Fusion, ResolvedRollout};
pub use shape::Shape;

use std::iter::{from_fn, repeat_with};

use crate::cpu::{CpuLevel, Level, Simd, dispatch};
use crate::error::{batch_size, check_parameters};
use crate::loss::{HeadTarget, StepOutput, Training};
use crate::random::Random;
use crate::threads::{PARTS, add_parts, run_jobs};
use crate::{Error, Result};
use pass::{GROUP, Job, Task, Workspace, dropout_layer};
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
        Ok(self.predict(images, None)?.1)
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
        self.predict(images, Some(rollout))
    }

    /// Rows of the rollout, if there is one, and logits.
    fn predict(&mut self, images: &[f32], rollout: Option<&ResolvedRollout>) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
        let shape = self.network.shape;
        let width = if rollout.is_some() { shape.tokens() } else { 0 };
        let mut rows = vec![0.0; batch_size(images, shape.image_len())? * width];
        let rows_of_groups = rows.chunks_mut((GROUP * width).max(1)).chain(repeat_with(Default::default));
        let tasks = rows_of_groups.map(|rows| Task::Predict(rollout.map(|rollout| (rollout, rows))));
        let heads = run(&mut self.network, &mut self.workspaces, self.predictions, (images, GROUP), tasks);
        Ok((rows, heads))
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
        let mut losses = vec![0.0; batch.div_ceil(part)];
        let tasks = self.gradients.iter_mut().zip(&mut losses).enumerate().map(|(i, (gradient, loss))| Task::Train {
            training: &training,
            first: i * part,
            loss,
            gradient,
        });
        let heads = run(&mut self.network, &mut self.workspaces, self.training, (images, part), tasks);
        let (gradient, others) = self.gradients.split_first_mut().expect("a batch has parts");
        let others: Vec<&[f32]> = others[..losses.len() - 1].iter().map(|other| &other[..]).collect();
        add_parts(gradient, &others, self.workspaces.len());
        Ok(StepOutput { loss: losses.iter().sum(), heads, gradient })
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

/// Runs a task for each `part` images, on the threads' workspaces. Returns the logits of each head, [B, classes].
fn run<'a>(
    network: &mut Network,
    workspaces: &mut [Workspace],
    level: Level,
    (images, part): (&[f32], usize),
    tasks: impl Iterator<Item = Task<'a>>,
) -> Vec<Vec<f32>> {
    network.arrange(level);
    let (network, image_len, classes) = (&*network, network.shape.image_len(), network.shape.classes);
    let mut heads = vec![vec![0.0; images.len() / image_len * classes]; network.shape.prefix()];
    let mut logits: Vec<_> = heads.iter_mut().map(|head| head.chunks_mut(part * classes)).collect();
    let logits = from_fn(|| logits.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>());
    let jobs = images.chunks(part * image_len).zip(logits).zip(tasks).collect();
    run_jobs(workspaces, jobs, |workspace, ((images, logits), task)| {
        let job = Job { network, workspace, images, logits, task };
        dispatch!(level, simd => simd.run(job));
    });
    heads
}
