//! The two heads of a DeiT, and the teachers that it learned from.

use serde::{Deserialize, Serialize};

use crate::data::FashionMnist;
use crate::learner::Recipe;
use crate::metrics::{Evaluation, agreement, evaluate_heads, evaluate_with};
use crate::model::HeadLogits;
use crate::{Config, Learner, Result};

/// Accuracies of a DeiT's heads and their agreement, fractions of the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadMeasures {
    /// Accuracy of the class head.
    pub class: f64,
    /// Accuracy of the distillation head.
    pub distillation: f64,
    /// Accuracy of the mean of both heads' logits, the model's own answer.
    pub mean_logits: f64,
    /// Accuracy of the mean of both heads' probabilities, as in DeiT's paper.
    pub mean_probabilities: f64,
    /// Images that both heads decide alike.
    pub agreement: f64,
    /// Comparison with the teachers; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherMeasures>,
}

/// The teachers' decision by the mean of their logits, as the student sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherMeasures {
    /// Accuracy on the test images.
    pub accuracy: f64,
    /// Training images, without augmentation, for which the decision is the label.
    pub training_accuracy: f64,
    /// Test images that the class head decides as the teachers do.
    pub class_agreement: f64,
    /// Test images that the distillation head decides as the teachers do.
    pub distillation_agreement: f64,
}

impl HeadMeasures {
    /// # Errors
    /// A model without two heads, teachers that don't go with it, images that don't fit.
    pub(super) fn of(learner: &Learner, teachers: &[Learner], config: &Config, data: &FashionMnist) -> Result<Self> {
        learner.deit()?;
        let heads = evaluate_heads(&data.test, |images| learner.heads(images))?;
        let [class, dist] = &heads[..] else { unreachable!("a DeiT has two heads") };
        let logits = HeadLogits { class: class.logits.shallow_clone(), dist: dist.logits.shallow_clone() };
        Ok(HeadMeasures {
            class: class.accuracy,
            distillation: dist.accuracy,
            mean_logits: Evaluation::mean(class, dist)?.accuracy,
            mean_probabilities: agreement(&logits.average_softmax().argmax(1, false), &class.labels),
            agreement: agreement(&class.predictions(), &dist.predictions()),
            teacher: match teachers {
                [] => None,
                teachers => {
                    let recipe = Recipe::new(learner, teachers, config)?;
                    let test = evaluate_with(&data.test, |images| recipe.teacher(images))?;
                    Some(TeacherMeasures {
                        accuracy: test.accuracy,
                        training_accuracy: evaluate_with(&data.train, |images| recipe.teacher(images))?.accuracy,
                        class_agreement: agreement(&class.predictions(), &test.predictions()),
                        distillation_agreement: agreement(&dist.predictions(), &test.predictions()),
                    })
                }
            },
        })
    }
}
