//! A training step as a configuration describes it: augmented images, teachers, and the targets of each head.

use tch::{Kind, Tensor};

use super::{Learner, Loss, ModelKind};
use crate::config::{Distillation, Mixing};
use crate::data::erase;
use crate::device::on_one_thread;
use crate::distill::{HardDistillationLoss, SoftDistillationLoss, SoftTarget};
use crate::error::ensure;
use crate::model::Model;
use crate::train::Batch;
use crate::{Config, Result};

/// The step of one training: what `vitlab train` calls for each batch.
pub struct Recipe<'a> {
    learner: &'a Learner,
    teachers: &'a [Learner],
    config: &'a Config,
}

impl<'a> Recipe<'a> {
    /// A recipe for the model of `learner`. Several teachers answer with the mean of their logits.
    ///
    /// # Errors
    /// A configuration that doesn't go with the model or the number of teachers.
    pub fn new(learner: &'a Learner, teachers: &'a [Learner], config: &'a Config) -> Result<Self> {
        check(learner.network.kind(), teachers.len(), config)?;
        Ok(Recipe { learner, teachers, config })
    }

    /// One step on images [B, 1, 28, 28] as [`Trainer::epoch`](crate::train::Trainer::epoch) augments them, and labels `[B]`.
    ///
    /// # Errors
    /// Fails as [`Learner::step`] does.
    pub fn step(&self, images: &Tensor, labels: &Tensor) -> Result<Batch> {
        let config = self.config;
        let classes = self.learner.network.classes();
        let plain = config.mixing == Mixing::None && config.erasing == 0.0 && config.label_smoothing == 0.0;
        if plain && self.teachers.is_empty() && config.distillation != Distillation::Labels {
            return self.learner.step(images, labels, Loss::CrossEntropy);
        }
        let truth = SoftTarget::labels(labels, classes, config.label_smoothing, 1.0).probabilities;
        let (images, truth) = on_one_thread(|| {
            let erased = if config.erasing > 0.0 { erase(images, config.erasing) } else { images.shallow_clone() };
            config.mixing.apply(&erased, &truth)
        });
        let label = |weight| SoftTarget { probabilities: truth.shallow_clone(), weight, temperature: 1.0 };
        if self.teachers.is_empty() {
            let heads = self.learner.network.heads();
            let targets = Vec::from_iter((0..heads).map(|_| label(1.0 / heads as f64)));
            return self.learner.step(&images, labels, Loss::Targets(&targets));
        }
        let teacher = self.teacher(&images)?;
        let Config { tau, lambda, .. } = *config;
        let targets = match config.distillation {
            Distillation::Hard if plain => {
                let loss = Loss::Hard { loss: HardDistillationLoss::default(), teacher: &teacher };
                return self.learner.step(&images, labels, loss);
            }
            Distillation::Soft if plain => {
                let loss = SoftDistillationLoss { tau, lambda, ..Default::default() };
                return self.learner.step(&images, labels, Loss::Soft { loss, teacher: &teacher });
            }
            Distillation::Hard => vec![label(0.5), SoftTarget::labels(&teacher.argmax(-1, false), classes, 0.0, 0.5)],
            Distillation::Soft => vec![label(1.0 - lambda), SoftTarget::teacher(&teacher, tau, lambda)],
            Distillation::Match | Distillation::Labels => {
                let heads = self.learner.network.heads();
                Vec::from_iter((0..heads).map(|_| SoftTarget::teacher(&teacher, tau, 1.0 / heads as f64)))
            }
        };
        self.learner.step(&images, labels, Loss::Targets(&targets))
    }

    /// The mean of the teachers' logits [B, classes] for images [B, 1, 28, 28], with TEACHER_FLIP also over mirror images.
    ///
    /// # Errors
    /// Images that don't have the teachers' shape.
    pub fn teacher(&self, images: &Tensor) -> Result<Tensor> {
        let mut answers = Vec::new();
        for teacher in self.teachers {
            answers.push(teacher.predict(images)?);
            if self.config.teacher_flip {
                answers.push(teacher.predict(&images.flip([3]))?);
            }
        }
        ensure!(!answers.is_empty(), "this recipe has no teacher");
        Ok(Tensor::stack(&answers, 0).mean_dim([0i64].as_slice(), false, Kind::Float)) // k × [B, classes] -> [B, classes]
    }
}

/// Checks that the configuration goes with the model and the number of its teachers.
fn check(model: ModelKind, teachers: usize, config: &Config) -> Result<()> {
    let taught = teachers > 0;
    match (model, config.distillation) {
        (ModelKind::Deit, Distillation::Labels) => {
            ensure!(!taught, "with DISTILLATION labels, both heads learn the labels; leave --teacher out");
        }
        (ModelKind::Deit, _) => ensure!(taught, "a deit needs a teacher (--teacher), or DISTILLATION labels"),
        (ModelKind::Vit, Distillation::Match) => ensure!(taught, "DISTILLATION match needs a teacher (--teacher)"),
        (_, Distillation::Soft) => ensure!(false, "DISTILLATION soft (--soft) goes with a deit only"),
        _ => ensure!(!taught, "a teacher (--teacher) goes with a deit only, or with a vit and DISTILLATION match"),
    }
    ensure!(
        model != ModelKind::Cnn || config.average_decay == 0.0,
        "AVERAGE_DECAY goes with a ViT or DeiT; the statistics of a CNN's batch norms don't belong to averaged weights"
    );
    Ok(())
}
