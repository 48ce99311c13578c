//! Metrics of a model on a data set: loss, accuracy, confusion matrix, agreement with another model.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis};
use tch::{Device, Tensor, no_grad};

use crate::data::{Dataset, Origin, normalise};
use crate::error::{Result, ensure};
use crate::model::Model;
use crate::tensor::TensorExt;

/// Images per batch at evaluation; the result doesn't depend on it.
const BATCH: i64 = 500;

/// The scores of a model on a whole data set.
#[derive(Debug)]
pub struct Evaluation {
    /// [N, classes] float32 on the CPU
    pub logits: Tensor,
    /// `[N]` int64 on the CPU
    pub labels: Tensor,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share of right predictions, 0 to 1.
    pub accuracy: f64,
    pub origin: Origin,
}

/// Runs the model over all of `data`, dropout off, without gradients.
///
/// # Errors
/// When the model doesn't fit the images, or its scores are not finite.
pub fn evaluate(model: &impl Model, data: &Dataset) -> Result<Evaluation> {
    evaluate_with(data, |images| model.predict(images))
}

/// Evaluates any function from images [B, 1, 28, 28] to scores [B, classes].
///
/// # Errors
/// An error of `predict`, or scores that are not finite.
pub fn evaluate_with(data: &Dataset, mut predict: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Evaluation> {
    Ok(evaluate_heads(data, |images| Ok(vec![predict(images)?]))?.remove(0))
}

/// Evaluates each head of a model in one pass over `data`. `heads` gives each head's scores [B, classes], as
/// [`Learner::heads`](crate::Learner::heads) does. [`Evaluation::mean`] evaluates both heads of a DeiT together.
///
/// # Errors
/// An error of `heads`, or scores that are not finite.
pub fn evaluate_heads(
    data: &Dataset,
    mut heads: impl FnMut(&Tensor) -> Result<Vec<Tensor>>,
) -> Result<Vec<Evaluation>> {
    let labels = data.labels.to_device(Device::Cpu);
    let heads = in_batches(&data.images, BATCH, |bytes| heads(&normalise(bytes)))?.into_iter();
    heads.map(|logits| Evaluation::new(logits, labels.shallow_clone(), data.origin.clone())).collect()
}

/// Calls `predict` with `batch` of the images [N, …] at a time, without gradients. Each tensor that it returns, [B, …],
/// becomes one of all images [N, …] on the CPU.
///
/// # Errors
/// An error of `predict`.
pub fn in_batches(
    images: &Tensor,
    batch: i64,
    mut predict: impl FnMut(&Tensor) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    for images in images.f_split(batch, 0)? {
        let tensors = no_grad(|| predict(&images))?;
        parts.resize_with(tensors.len(), Vec::new);
        parts.iter_mut().zip(tensors).for_each(|(all, tensor)| all.push(tensor.to_device(Device::Cpu)));
    }
    Ok(parts.iter().map(|parts| Tensor::cat(parts, 0)).collect())
}

/// The scores in a student's history: each head's accuracy, and the agreement of heads and mean with the teacher.
///
/// # Errors
/// As [`Evaluation::mean`].
pub fn distillation_scores(
    class: &Evaluation,
    distillation: &Evaluation,
    teacher: &Evaluation,
) -> Result<BTreeMap<String, f64>> {
    let average = Evaluation::mean(class, distillation)?;
    let agreements = [("average", &average), ("class", class), ("distillation", distillation)]
        .map(|(name, head)| (format!("{name} agreement"), agreement(&head.predictions(), &teacher.predictions())));
    let accuracies = [("class", class), ("distillation", distillation)]
        .map(|(name, head)| (format!("{name} accuracy"), head.accuracy));
    Ok(agreements.into_iter().chain(accuracies).collect())
}

impl Evaluation {
    /// From logits `[N, classes]` and labels `[N]`, both on the CPU.
    ///
    /// ```
    /// use vitlab::{data::Origin, metrics::Evaluation, tch::Tensor};
    /// let logits = Tensor::from_slice2(&[[2f32, 0.], [0., 2.], [2., 0.], [2., 0.]]);
    /// let labels = Tensor::from_slice(&[0i64, 1, 1, 0]);
    /// let evaluation = Evaluation::new(logits, labels, Origin::default()).unwrap();
    /// assert_eq!(evaluation.accuracy, 0.75);
    /// // −ln σ(2) = 0.126928 three times, −ln σ(−2) = 2.126928 once
    /// assert!((evaluation.loss - 0.626928).abs() < 1e-6);
    /// assert_eq!(evaluation.confusion(), ndarray::array![[2, 0], [1, 1]]);
    /// ```
    ///
    /// # Errors
    /// When there is no class for a label, or a score is NaN or infinite.
    pub fn new(logits: Tensor, labels: Tensor, origin: Origin) -> Result<Self> {
        let (classes, highest) = (logits.size()[1], labels.max().int64_value(&[]));
        ensure!(
            highest < classes,
            "the model tells {classes} classes apart, the data have a class {highest}; give a model of this data set"
        );
        let loss = logits.cross_entropy_for_logits(&labels).double_value(&[]);
        ensure!(
            loss.is_finite(),
            "the model's scores are not finite numbers: its weights are broken or its training diverged"
        );
        let accuracy = agreement(&logits.argmax(1, false), &labels);
        Ok(Evaluation { loss, accuracy, logits, labels, origin })
    }

    /// The evaluation of two heads' mean logits, on the data of `class`.
    ///
    /// # Errors
    /// As [`Evaluation::new`].
    pub fn mean(class: &Evaluation, distillation: &Evaluation) -> Result<Self> {
        let logits = (&class.logits + &distillation.logits) / 2.0;
        Evaluation::new(logits, class.labels.shallow_clone(), class.origin.clone())
    }

    /// The predicted class of each image, `[N]` int64.
    pub fn predictions(&self) -> Tensor {
        self.logits.argmax(1, false)
    }

    /// Counts of images, row = true class, column = predicted class: [classes, classes].
    pub fn confusion(&self) -> Array2<u64> {
        let classes = self.logits.size()[1];
        let counts = (&self.labels * classes + self.predictions()).bincount::<Tensor>(None, classes * classes);
        let counts = Vec::<i64>::try_from(counts).expect("counts are int64").into_iter().map(|count| count as u64);
        Array2::from_shape_vec([classes as usize; 2], counts.collect()).expect("a count for each pair of classes")
    }

    /// Share of right predictions among each true class, 0 to 1 (NaN for a class without images).
    pub fn class_accuracy(&self) -> Vec<f64> {
        let counts = self.confusion().mapv(|count| count as f64);
        (&counts.diag() / &counts.sum_axis(Axis(1))).to_vec()
    }
}

/// Share of images with the same class in two lists `[N]`, 0 to 1.
pub fn agreement(a: &Tensor, b: &Tensor) -> f64 {
    a.eq_tensor(b).mean_all()
}
