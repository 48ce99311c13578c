//! The models on the hand-written CPU engine [`vitlab_fused`], which gives the results of the models' forward passes and of
//! libtorch's gradients in about a third of the time.
//!
//! This module copies parameters and images into the engine's slices, and its results into tensors. The models in
//! [`crate::model`] are the reference: `tests/fused.rs` compares loss, logits and all gradients with theirs.

mod cnn;

pub use cnn::FusedCnn;
pub use vitlab_fused::CpuLevel;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use vitlab_fused::{HeadTarget, ResolvedRollout, Shape, Transformer};

use crate::config::Precision;
use crate::device::on_one_thread;
use crate::distill::{HardDistillationLoss, KlReduction, SoftDistillationLoss, SoftTarget};
use crate::explain::{DiscardPer, Fusion, Normalisation, Query, Rollout, invalid_attention};
use crate::model::{HeadLogits, Model, MyDeiT, Structure, ViTConfig, VisionTransformer, check_images};
use crate::train::Batch;
use crate::{Error, Result};

/// A ViT or DeiT whose training steps, predictions and rollouts are computed by the CPU engine.
///
/// It shares the model's parameters and reads them anew in each call.
///
/// ```
/// use tch::{Device, Kind, Tensor, no_grad};
/// use vitlab::{Config, learner::fused::Fused, model::{Model, VisionTransformer}};
/// let config = Config { dropout: 0.0, ..Config::default() };
/// let model = VisionTransformer::new(&config, Device::Cpu)?;
/// let mut fused = Fused::vit(&model)?;
/// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let labels = Tensor::from_slice(&[1i64, 2, 3]);
/// let batch = fused.cross_entropy(&images, &labels)?;
/// let logits = model.predict(&images)?;
/// assert!((&batch.logits - &logits).abs().max().double_value(&[]) < 1e-5);
/// assert!((batch.loss - logits.cross_entropy_for_logits(&labels)).abs().double_value(&[]) < 1e-5);
/// assert_eq!(batch.gradient.unwrap().size(), [model.parameters()]);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub struct Fused {
    engine: Transformer,
    parameters: Parameters,
}

impl Fused {
    /// The engine of a ViT.
    ///
    /// # Errors
    /// A model on a GPU, with another structure than the homework's, or with heads whose width is not a multiple of 16.
    pub fn vit(model: &VisionTransformer) -> Result<Self> {
        Fused::new(&model.config, false, model.variables())
    }

    /// The engine of a DeiT student.
    ///
    /// # Errors
    /// As [`Fused::vit`].
    pub fn deit(model: &MyDeiT) -> Result<Self> {
        Fused::new(&model.config, true, model.variables())
    }

    fn new(config: &ViTConfig, distilled: bool, store: &VarStore) -> Result<Self> {
        if config.structure != Structure::default() {
            return Err(Error::argument(
                "the fused engine computes the homework's ViT and DeiT; use the model's own forward pass for others",
            ));
        }
        let parameters = Parameters::new(store)?;
        let shape = Shape {
            image_side: config.image_size as usize,
            patch_side: config.patch_size as usize,
            channels: config.n_channels as usize,
            embed: config.embed_dim as usize,
            heads: config.n_attention_heads as usize,
            hidden: (config.embed_dim * config.forward_mul) as usize,
            layers: config.n_layers as usize,
            classes: config.n_classes as usize,
            position_rows: config.position_rows as usize,
            distilled,
            dropout: config.dropout,
        };
        Ok(Fused { engine: Transformer::new(shape, threads())?, parameters })
    }

    /// Uses only the vector instructions of a CPU level, for tests and comparisons.
    ///
    /// # Errors
    /// A level that this CPU doesn't have.
    pub fn with_level(self, level: CpuLevel) -> Result<Self> {
        Ok(Fused { engine: self.engine.with_level(level)?, ..self })
    }

    /// Chooses the precision of the blocks' matrix products in predictions and rollouts. Training steps have their own.
    ///
    /// Bfloat16 has three digits instead of seven. Softmax, norms, GELU, sums and the rollout stay float32.
    ///
    /// # Errors
    /// Bfloat16 on a CPU without instructions for it.
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        Ok(Fused { engine: self.engine.with_precision(engine_precision(precision))?, ..self })
    }

    /// Chooses the precision of the blocks' matrix products in training steps. Parameters, norms, softmax, sums, loss and
    /// gradients stay float32.
    ///
    /// # Errors
    /// As [`Fused::with_precision`].
    pub fn with_training_precision(self, precision: Precision) -> Result<Self> {
        Ok(Fused { engine: self.engine.with_training_precision(engine_precision(precision))?, ..self })
    }

    /// Logits without dropout, as [`Model::predict`]: [B, C, I, I] -> [B, classes], for a DeiT the mean of both heads.
    ///
    /// # Errors
    /// Images of another shape than the model's.
    pub fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.heads(images).map(mean)
    }

    /// Logits of each head without dropout, [B, classes]; the class token's head comes first.
    ///
    /// # Errors
    /// Images of another shape than the model's.
    pub fn heads(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        let images = self.read_images(images)?;
        self.engine.load(self.parameters.read())?;
        let heads = self.engine.heads(&images)?;
        Ok(logits(&heads, self.engine.shape().classes))
    }

    /// The query's row of each image's rollout, float32 [B, S], and the logits of [`Fused::predict`]. The rows are those of
    /// [`explain::rollout`](crate::explain::rollout) and [`explain::row`](crate::explain::row) for the attention of these
    /// images; neither the attention nor the rollout's matrices are stored as a whole.
    ///
    /// # Errors
    /// Images of another shape than the model's, a query that the model doesn't have, and the errors of
    /// [`explain::rollout`](crate::explain::rollout).
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor, no_grad};
    /// use vitlab::explain::{Fusion, Query, Rollout, rollout, row};
    /// use vitlab::{Config, learner::fused::Fused, model::VisionTransformer};
    /// let model = VisionTransformer::new(&Config::default(), Device::Cpu)?;
    /// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
    /// let options = Rollout { fusion: Fusion::Max, ..Rollout::default() };
    /// let (ours, _) = Fused::vit(&model)?.rollout(&images, &options, Query::Class)?;
    /// let attention = no_grad(|| model.forward_layers(&images, false))?.1;
    /// let matrix = rollout(&Tensor::stack(&attention, 1), &options)?;
    /// assert_eq!(ours.size(), [3, 50]);
    /// assert!((ours - row(&matrix, Query::Class, 1)?).abs().max().double_value(&[]) < 1e-6);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn rollout(&mut self, images: &Tensor, options: &Rollout, query: Query) -> Result<(Tensor, Tensor)> {
        let images = self.read_images(images)?;
        let shape = *self.engine.shape();
        let resolved = ResolvedRollout {
            fusion: match options.fusion {
                Fusion::Mean => vitlab_fused::Fusion::Mean,
                Fusion::Max => vitlab_fused::Fusion::Max,
                Fusion::Min => vitlab_fused::Fusion::Min,
            },
            discard_ratio: options.discard_ratio,
            discard_per_row: options.discard_per == DiscardPer::Row,
            compat: options.normalisation == Normalisation::Compat,
            layers: options.layer_indices(shape.layers)?,
            query: query.index(shape.tokens() as i64, shape.prefix() as i64)? as usize,
        };
        self.engine.load(self.parameters.read())?;
        let (rows, heads) = self.engine.rollout(&images, &resolved)?;
        if !heads.iter().flatten().chain(&rows).all(|x| x.is_finite()) {
            return Err(invalid_attention());
        }
        Ok((matrix(&rows, shape.tokens()), mean(logits(&heads, shape.classes))))
    }

    /// Factors by which a training step on `batch` images multiplies at each dropout layer: after the embedding [B, S, E],
    /// then in each block after the attention and after the MLP [B, S, E], in the last block [B, prefix, E]. `seed` is the
    /// value that the step drew from libtorch's generator (`randint` below i64::MAX).
    pub fn dropout_factors(&self, seed: i64, batch: usize) -> Vec<Tensor> {
        let embed = self.engine.shape().embed as i64;
        let factors = self.engine.dropout_factors(seed as u64, batch);
        factors.iter().map(|factors| Tensor::from_slice(factors).view([batch as i64, -1, embed])).collect()
    }

    /// Loss, logits and gradient of a training batch with labels `[B]`. Dropout is drawn from libtorch's generator.
    ///
    /// # Errors
    /// Images of another shape than the model's, or a DeiT, which needs a target for both heads.
    pub fn cross_entropy(&mut self, images: &Tensor, labels: &Tensor) -> Result<Batch> {
        let target = target(&one_hot(labels, self.engine.shape().classes, 0.0), 1.0, 1.0);
        self.train(images, &[target], 0.0)
    }

    /// Loss, mean logits of the heads, and gradient with [`HardDistillationLoss`] and the teacher's logits [B, classes].
    ///
    /// # Errors
    /// Images of another shape than the model's, or a model with one head.
    pub fn hard_distillation(
        &mut self,
        loss: &HardDistillationLoss,
        images: &Tensor,
        teacher: &Tensor,
        labels: &Tensor,
    ) -> Result<Batch> {
        let classes = self.engine.shape().classes;
        let targets = [
            target(&one_hot(labels, classes, loss.label_smoothing), 0.5, 1.0),
            target(&one_hot(&teacher.argmax(-1, false), classes, 0.0), 0.5, 1.0),
        ];
        self.distil(images, &targets, 0.0)
    }

    /// As [`Fused::hard_distillation`], with [`SoftDistillationLoss`].
    ///
    /// # Errors
    /// As [`Fused::hard_distillation`].
    pub fn soft_distillation(
        &mut self,
        loss: &SoftDistillationLoss,
        images: &Tensor,
        teacher: &Tensor,
        labels: &Tensor,
    ) -> Result<Batch> {
        let classes = self.engine.shape().classes;
        let share = match loss.reduction {
            KlReduction::BatchMean => 1.0,
            KlReduction::ElementMean => 1.0 / classes as f64,
        };
        let weight = loss.lambda * share;
        let soft = (teacher / loss.tau).softmax(-1, Kind::Float);
        let targets = [
            target(&one_hot(labels, classes, loss.label_smoothing), 1.0 - loss.lambda, 1.0),
            target(&soft, weight, loss.tau),
        ];
        // KL divergence = cross-entropy − entropy of the teacher
        let entropy = -(&soft * soft.clamp_min(1e-30).log()).sum(Kind::Double) / soft.size()[0] as f64;
        self.distil(images, &targets, weight * loss.tau * loss.tau * entropy.double_value(&[]))
    }

    /// As [`Fused::cross_entropy`], with a target distribution for each head.
    ///
    /// # Errors
    /// Images of another shape than the model's, or another number of targets than heads.
    pub fn target_step(&mut self, images: &Tensor, targets: &[SoftTarget]) -> Result<Batch> {
        let targets: Vec<HeadTarget> = targets.iter().map(head_target).collect();
        self.train(images, &targets, 0.0)
    }

    fn distil(&mut self, images: &Tensor, targets: &[HeadTarget], entropy: f64) -> Result<Batch> {
        if !self.engine.shape().distilled {
            return Err(Error::argument("distillation needs a MyDeiT; this network has one head"));
        }
        self.train(images, targets, entropy)
    }

    /// A training step; `entropy` is subtracted from the loss.
    fn train(&mut self, images: &Tensor, targets: &[HeadTarget], entropy: f64) -> Result<Batch> {
        let images = self.read_images(images)?;
        let shape = *self.engine.shape();
        let seed = draw_seed(shape.dropout);
        self.engine.load(self.parameters.read())?;
        let step = self.engine.train(&images, targets, seed)?;
        Ok(Batch {
            loss: Tensor::from((step.loss - entropy) as f32),
            logits: mean(logits(&step.heads, shape.classes)),
            gradient: Some(vector(step.gradient)),
        })
    }

    fn read_images(&self, images: &Tensor) -> Result<Vec<f32>> {
        let shape = self.engine.shape();
        check_images(images, shape.channels as i64, shape.image_side as i64)?;
        Ok(values(images))
    }
}

/// The parameters of a model, in the order of their creation, which is also the engine's and the optimizer's.
struct Parameters {
    tensors: Vec<Tensor>,
    flat: Vec<f32>,
}

impl Parameters {
    fn new(store: &VarStore) -> Result<Self> {
        let tensors = store.trainable_variables();
        if !tensors.iter().all(|p| p.device() == Device::Cpu && p.kind() == Kind::Float) {
            return Err(Error::argument(
                "the fused engine computes on the CPU in float32; elsewhere use the model's own forward pass",
            ));
        }
        Ok(Parameters { flat: vec![0.0; tensors.iter().map(Tensor::numel).sum()], tensors })
    }

    /// The present values in one vector.
    fn read(&mut self) -> &[f32] {
        let mut start = 0;
        for parameter in &self.tensors {
            let length = parameter.numel();
            parameter.copy_data(&mut self.flat[start..start + length], length);
            start += length;
        }
        &self.flat
    }
}

fn engine_precision(precision: Precision) -> vitlab_fused::Precision {
    match precision {
        Precision::Float32 => vitlab_fused::Precision::Float32,
        Precision::Bfloat16 => vitlab_fused::Precision::Bfloat16,
    }
}

/// Number of threads that libtorch uses, and the engine too.
fn threads() -> usize {
    tch::get_num_threads().max(1) as usize
}

/// Mean logits of the heads.
fn mean(mut heads: Vec<Tensor>) -> Tensor {
    match heads.pop() {
        Some(dist) if !heads.is_empty() => HeadLogits { class: heads.remove(0), dist }.average(),
        class => class.expect("a network has a head"),
    }
}

fn target(probabilities: &Tensor, weight: f64, temperature: f64) -> HeadTarget {
    HeadTarget { probabilities: values(probabilities), weight: weight as f32, temperature: temperature as f32 }
}

fn head_target(soft: &SoftTarget) -> HeadTarget {
    target(&soft.probabilities, soft.weight, soft.temperature)
}

/// Labels `[B]` -> [B, classes], with `smoothing` spread over all classes
fn one_hot(labels: &Tensor, classes: usize, smoothing: f64) -> Tensor {
    labels.one_hot(classes as i64).to_kind(Kind::Float) * (1.0 - smoothing) + smoothing / classes as f64
}

/// Draws the seed of a step's dropout from libtorch's generator.
fn draw_seed(dropout: f64) -> u64 {
    match dropout {
        0.0 => 0,
        _ => Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]) as u64,
    }
}

/// The elements of a tensor in the order of its axes.
fn values(tensor: &Tensor) -> Vec<f32> {
    let mut values = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut values, tensor.numel());
    values
}

/// A long vector as a tensor. libtorch first fills it with zeros, and would start its threads for that.
fn vector(values: &[f32]) -> Tensor {
    on_one_thread(|| Tensor::from_slice(values))
}

/// Rows of `width` values as a tensor.
fn matrix(values: &[f32], width: usize) -> Tensor {
    Tensor::from_slice(values).view([(values.len() / width) as i64, width as i64])
}

/// Logits of each head as tensors [B, classes].
fn logits(heads: &[Vec<f32>], classes: usize) -> Vec<Tensor> {
    heads.iter().map(|head| matrix(head, classes)).collect()
}
