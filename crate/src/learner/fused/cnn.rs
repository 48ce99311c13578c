//! The teacher on the CPU engine.

use tch::Tensor;
use vitlab_fused::{CnnShape, CpuLevel, NormStatistics};

use super::{Parameters, draw_seed, head_target, matrix, threads, values, vector};
use crate::config::Precision;
use crate::distill::SoftTarget;
use crate::model::{Cnn, MOMENTUM, Model, check_images};
use crate::train::Batch;
use crate::{Error, Result};

/// A CNN whose training steps and predictions are computed by the CPU engine. Like [`super::Fused`], it shares the model's
/// parameters; a training step also updates the model's running statistics.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use vitlab::{Config, learner::fused::FusedCnn, model::{Cnn, Model}};
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
    engine: vitlab_fused::Cnn,
    parameters: Parameters,
    /// Running mean and variance of each norm.
    running: Vec<[Tensor; 2]>,
}

impl FusedCnn {
    /// # Errors
    /// A model on a GPU, or a model in bfloat16, whose products libtorch computes.
    pub fn new(model: &Cnn) -> Result<Self> {
        if model.precision != Precision::Float32 {
            return Err(Error::argument(
                "the fused engine computes a CNN in float32; train in bfloat16 with the model's own forward pass",
            ));
        }
        let parameters = Parameters::new(model.variables())?;
        let outputs = |weight: &Tensor| weight.size()[0] as usize;
        let shape = CnnShape {
            image_side: model.image.1 as usize,
            channels: model.image.0 as usize,
            stages: model.stages.iter().map(|stage| stage.iter().map(|b| outputs(&b.conv.ws)).collect()).collect(),
            hidden: outputs(&model.fc1.ws),
            classes: outputs(&model.fc2.ws),
            dropout: model.dropout,
        };
        let norms = model.stages.iter().flatten().map(|block| &block.bn);
        let running = norms.map(|bn| [&bn.running_mean, &bn.running_var].map(Tensor::shallow_clone));
        Ok(FusedCnn { engine: vitlab_fused::Cnn::new(shape, threads())?, parameters, running: running.collect() })
    }

    /// As [`super::Fused::with_level`].
    ///
    /// # Errors
    /// A level that this CPU doesn't have.
    pub fn with_level(self, level: CpuLevel) -> Result<Self> {
        Ok(FusedCnn { engine: self.engine.with_level(level)?, ..self })
    }

    /// Logits without dropout and with the running statistics, as [`Model::predict`]: [B, C, I, I] -> [B, classes].
    ///
    /// # Errors
    /// Images of another shape than the model's.
    pub fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        let images = self.read_images(images)?;
        self.engine.load(self.parameters.read())?;
        let statistics = self
            .running
            .iter()
            .map(|[mean, variance]| NormStatistics { mean: values(mean), variance: values(variance) });
        let logits = self.engine.predict(&images, &statistics.collect::<Vec<_>>())?;
        Ok(matrix(&logits, self.engine.shape().classes))
    }

    /// Loss, logits and gradient of a training batch with labels `[B]`. Dropout is drawn from libtorch's generator.
    ///
    /// # Errors
    /// Images of another shape than the model's.
    pub fn cross_entropy(&mut self, images: &Tensor, labels: &Tensor) -> Result<Batch> {
        self.target_step(images, &SoftTarget::labels(labels, self.engine.shape().classes as i64, 0.0, 1.0))
    }

    /// As [`FusedCnn::cross_entropy`], with a target distribution.
    ///
    /// # Errors
    /// Images of another shape than the model's.
    pub fn target_step(&mut self, images: &Tensor, target: &SoftTarget) -> Result<Batch> {
        let (images, target) = (self.read_images(images)?, head_target(target));
        self.engine.load(self.parameters.read())?;
        let (classes, dropout) = (self.engine.shape().classes, self.engine.shape().dropout);
        let (step, statistics) = self.engine.train(&images, &target, draw_seed(dropout))?;
        for (running, batch) in self.running.iter().zip(&statistics) {
            for (running, batch) in running.iter().zip([&batch.mean, &batch.variance]) {
                let _ = running.detach().lerp_(&Tensor::from_slice(batch), MOMENTUM);
            }
        }
        Ok(Batch {
            loss: Tensor::from(step.loss as f32),
            logits: matrix(&step.heads[0], classes),
            gradient: Some(vector(step.gradient)),
        })
    }

    /// Factors by which a training step on `batch` images multiplies at its dropout layers: the features [B, 1152] and the
    /// hidden layer [B, 256]. `seed` is the value that the step drew from libtorch's generator.
    pub fn dropout_factors(&self, seed: i64, batch: usize) -> [Tensor; 2] {
        let factors = self.engine.dropout_factors(seed as u64, batch);
        factors.map(|factors| matrix(&factors, factors.len() / batch))
    }

    fn read_images(&self, images: &Tensor) -> Result<Vec<f32>> {
        let shape = self.engine.shape();
        check_images(images, shape.channels as i64, shape.image_side as i64)?;
        Ok(values(images))
    }
}
