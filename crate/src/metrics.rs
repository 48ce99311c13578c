//! How good a model is: loss, accuracy, confusion matrix.

use ndarray::Array2;
use tch::{Device, Kind, Tensor, no_grad};

use crate::data::{Dataset, Origin, normalise};
use crate::model::Model;
use crate::{Error, Result};

/// Images per batch at evaluation; the result doesn't depend on it.
const BATCH: i64 = 500;

/// The scores of a model on a whole data set.
#[derive(Debug)]
pub struct Evaluation {
    /// [N, classes] float32 on the CPU
    pub logits: Tensor,
    /// [N] int64 on the CPU
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

/// The same for any function from images [B, 1, 28, 28] to scores [B, classes], for instance one head of a DeiT.
///
/// # Errors
/// What `predict` returns, or scores that are not finite.
pub fn evaluate_with(data: &Dataset, mut predict: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Evaluation> {
    let mut logits = Vec::new();
    for start in (0..data.len()).step_by(BATCH as usize) {
        let (images, _) = data.range(start, (start + BATCH).min(data.len()));
        logits.push(no_grad(|| predict(&normalise(&images)))?);
    }
    let logits = Tensor::cat(&logits, 0).to_device(Device::Cpu);
    Evaluation::new(logits, data.labels.to_device(Device::Cpu), data.origin.clone())
}

impl Evaluation {
    /// From logits [N, classes] and labels [N], both on the CPU.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::{data::Origin, metrics::Evaluation};
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
        if highest >= classes {
            return Err(Error::argument(format!(
                "the model tells {classes} classes apart, the data have a class {highest}; give a model of this data set"
            )));
        }
        let loss = logits.cross_entropy_for_logits(&labels).double_value(&[]);
        if !loss.is_finite() {
            return Err(Error::argument(
                "the model's scores are not finite numbers: its weights are broken or its training diverged",
            ));
        }
        let accuracy = logits.argmax(1, false).eq_tensor(&labels).to_kind(Kind::Double).mean(Kind::Double);
        Ok(Evaluation { loss, accuracy: accuracy.double_value(&[]), logits, labels, origin })
    }

    /// The predicted class of each image, [N] int64.
    pub fn predictions(&self) -> Tensor {
        self.logits.argmax(1, false)
    }

    /// Counts of images, row = true class, column = predicted class: [classes, classes].
    pub fn confusion(&self) -> Array2<u64> {
        let classes = self.logits.size()[1];
        let cells: Vec<i64> = (&self.labels * classes + self.predictions())
            .bincount::<Tensor>(None, classes * classes)
            .try_into()
            .expect("counts are int64");
        Array2::from_shape_fn((classes as usize, classes as usize), |(row, column)| {
            cells[row * classes as usize + column] as u64
        })
    }

    /// Share of right predictions among each true class, 0 to 1 (NaN for a class without images).
    pub fn class_accuracy(&self) -> Vec<f64> {
        let counts = self.confusion();
        let share = |(i, row): (usize, ndarray::ArrayView1<u64>)| row[i] as f64 / row.sum() as f64;
        counts.outer_iter().enumerate().map(share).collect()
    }
}
