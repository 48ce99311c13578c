//! A network with the fastest way to train it and to predict with it.

use std::path::PathBuf;

use tch::{Device, Tensor, no_grad};
use vitlab::config::Precision;
use vitlab::device::device;
use vitlab::distill::{HardDistillationLoss, SoftDistillationLoss};
use vitlab::explain::{Query, Rollout, rollout, row};
use vitlab::fused::{Fused, FusedCnn};
use vitlab::model::Model;
use vitlab::train::Batch;
use vitlab::{Error, Result};

use crate::kind::Network;

/// The network that a command predicts or explains with.
#[derive(clap::Args)]
pub struct Inference {
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// What the blocks of a ViT or DeiT multiply. Bfloat16 has three digits and takes half the time on a processor with
    /// AVX512-BF16.
    #[arg(long, value_enum, default_value = "float32")]
    precision: PrecisionName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PrecisionName {
    Float32,
    Bfloat16,
}

impl Inference {
    pub fn device(&self) -> Result<Device> {
        device(&self.device)
    }

    pub fn is_float32(&self) -> bool {
        self.precision == PrecisionName::Float32
    }

    /// The network of the weight file.
    pub fn learner(&self) -> Result<Learner> {
        let precision = match self.precision {
            PrecisionName::Float32 => Precision::Float32,
            PrecisionName::Bfloat16 => Precision::Bfloat16,
        };
        Learner::in_precision(Network::read(&self.weights, self.device()?)?, precision)
    }
}

pub struct Learner {
    pub network: Network,
    fused: Option<Step>,
}

/// The step written out by hand.
enum Step {
    Transformer(Fused),
    Cnn(FusedCnn),
}

/// What a batch is learned from besides its labels.
pub struct Lesson<'a> {
    /// The teacher's logits [B, 10].
    pub teacher: &'a Tensor,
    /// Follow its probabilities instead of its decision.
    pub soft: Option<SoftDistillationLoss>,
}

impl Learner {
    pub fn new(network: Network) -> Self {
        // Where the fast step isn't available, the model's own forward pass does the same.
        let fused = match &network {
            Network::Vit(model) => Fused::vit(model).ok().map(Step::Transformer),
            Network::Deit(model) => Fused::deit(model).ok().map(Step::Transformer),
            Network::Cnn(model) => FusedCnn::new(model).ok().map(Step::Cnn),
        };
        Learner { network, fused }
    }

    /// To predict and explain with.
    ///
    /// # Errors
    /// Bfloat16 where the network or the processor doesn't have it.
    pub fn in_precision(network: Network, precision: Precision) -> Result<Self> {
        let mut learner = Learner::new(network);
        match learner.fused {
            Some(Step::Transformer(fused)) => {
                learner.fused = Some(Step::Transformer(fused.with_precision(precision)?));
            }
            _ if precision == Precision::Float32 => {}
            _ => {
                return Err(Error::argument(
                    "bfloat16 is for a ViT or a DeiT on the CPU whose heads have a multiple of 16 numbers; leave --precision out",
                ));
            }
        }
        Ok(learner)
    }

    pub fn is_fused(&self) -> bool {
        self.fused.is_some()
    }

    pub fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        match &mut self.fused {
            Some(Step::Transformer(fused)) => fused.predict(images),
            Some(Step::Cnn(fused)) => fused.predict(images),
            None => self.network.predict(images),
        }
    }

    /// As `predict`, but the scores of each head: one, or of a DeiT the class token's and the distillation token's.
    pub fn heads(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        match (&mut self.fused, &self.network) {
            (Some(Step::Transformer(fused)), _) => fused.heads(images),
            (None, Network::Deit(model)) => {
                let (heads, _) = model.forward(images, false, false)?;
                Ok(vec![heads.class, heads.dist])
            }
            _ => Ok(vec![self.predict(images)?]),
        }
    }

    /// The query's row of each image's rollout, [B, S], and the image's logits as `predict` gives them.
    pub fn rollout(&mut self, images: &Tensor, options: &Rollout, query: Query) -> Result<(Tensor, Tensor)> {
        if let Some(Step::Transformer(fused)) = &mut self.fused {
            return fused.rollout(images, options, query);
        }
        let (logits, attention) = no_grad(|| self.network.forward_layers(images))?;
        let matrix = rollout(&Tensor::stack(&attention, 1), options)?; // L × [B, H, S, S] -> [B, L, H, S, S] -> [B, S, S]
        Ok((row(&matrix, query, self.network.prefix_tokens()?)?, logits))
    }

    /// Loss, logits and gradient of a training batch. A DeiT needs a lesson, the others take none.
    pub fn step(&mut self, images: &Tensor, labels: &Tensor, lesson: Option<Lesson>) -> Result<Batch> {
        let hard = HardDistillationLoss::default();
        match (&mut self.fused, lesson) {
            (Some(Step::Cnn(fused)), _) => fused.cross_entropy(images, labels),
            (Some(Step::Transformer(fused)), None) => fused.cross_entropy(images, labels),
            (Some(Step::Transformer(fused)), Some(Lesson { teacher, soft: Some(soft) })) => {
                fused.soft_distillation(&soft, images, teacher, labels)
            }
            (Some(Step::Transformer(fused)), Some(Lesson { teacher, .. })) => {
                fused.hard_distillation(&hard, images, teacher, labels)
            }
            (None, lesson) => {
                let logits = match &self.network {
                    Network::Vit(model) => model.forward(images, true, false)?.0,
                    Network::Cnn(model) => model.forward(images, true)?,
                    Network::Deit(model) => {
                        let lesson = lesson.expect("a DeiT comes with a teacher");
                        let (heads, _) = model.forward(images, true, false)?;
                        let loss = match lesson.soft {
                            Some(soft) => soft.forward(&heads, lesson.teacher, labels),
                            None => hard.forward(&heads, lesson.teacher, labels),
                        };
                        return Ok((loss, heads.average()).into());
                    }
                };
                Ok((logits.cross_entropy_for_logits(labels), logits).into())
            }
        }
    }
}
