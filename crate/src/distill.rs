//! Distillation losses (DeiT, arXiv 2012.12877, section 4; Hinton et al., arXiv 1503.02531).

use tch::{Kind, Reduction, Tensor};

use crate::model::HeadLogits;

/// ½ CE(Z_class, y) + ½ CE(Z_dist, argmax Z_teacher): the teacher's prediction is used as a label (equation 3).
///
/// ```
/// use vitlab::{distill::HardDistillationLoss, model::HeadLogits, tch::Tensor};
/// let heads = HeadLogits { class: Tensor::from_slice2(&[[2f32, 0.]]), dist: Tensor::from_slice2(&[[0f32, 1.]]) };
/// let (teacher, labels) = (Tensor::from_slice2(&[[3f32, 5.]]), Tensor::from_slice(&[0i64]));
/// // −ln σ(2) = 0.126928 for the label, −ln σ(1) = 0.313262 for the teacher's class 1.
/// let loss = HardDistillationLoss::default().forward(&heads, &teacher, &labels);
/// assert!((loss.double_value(&[]) - 0.220095).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HardDistillationLoss {
    /// Share of the true label that is spread over all classes. The teacher's label is never smoothed.
    pub label_smoothing: f64,
}

impl HardDistillationLoss {
    /// Logits of both heads and of the teacher `[B, classes]`, labels `[B]` -> the mean loss, a scalar in nats.
    pub fn forward(&self, student: &HeadLogits, teacher: &Tensor, labels: &Tensor) -> Tensor {
        let label_loss = cross_entropy(&student.class, labels, self.label_smoothing);
        let teacher_loss = cross_entropy(&student.dist, &teacher.argmax(-1, false), 0.0);
        0.5 * label_loss + 0.5 * teacher_loss
    }
}

/// Divisor of the summed Kullback–Leibler divergence in [`SoftDistillationLoss`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum KlReduction {
    /// Number of images, as in the paper's equation 2.
    #[default]
    BatchMean,
    /// Number of images times classes, as in DeiT's losses.py: with ten classes, a tenth of the mean over images.
    ElementMean,
}

/// (1 − λ) CE(Z_class, y) + λ τ² KL(softmax(Z_teacher/τ) ‖ softmax(Z_dist/τ)): the paper's equation 2.
///
/// ```
/// use vitlab::{distill::{KlReduction, SoftDistillationLoss}, model::HeadLogits, tch::Tensor};
/// let heads = HeadLogits { class: Tensor::from_slice2(&[[2f32, 0.]]), dist: Tensor::from_slice2(&[[0f32, 0.]]) };
/// let (teacher, labels) = (Tensor::from_slice2(&[[1f32, 0.]]), Tensor::from_slice(&[0i64]));
/// let loss = SoftDistillationLoss { tau: 1.0, lambda: 0.5, ..Default::default() };
/// // CE = 0.126928. The teacher gives (0.731059, 0.268941), the student ½ each: KL = ln 2 − H = 0.110944.
/// assert!((loss.forward(&heads, &teacher, &labels).double_value(&[]) - 0.118936).abs() < 1e-6);
/// let loss = SoftDistillationLoss { reduction: KlReduction::ElementMean, ..loss };
/// assert!((loss.forward(&heads, &teacher, &labels).double_value(&[]) - 0.0912).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftDistillationLoss {
    /// Temperature τ > 0.
    pub tau: f64,
    /// Weight λ of the teacher, 0 to 1.
    pub lambda: f64,
    /// Share of the true label that is spread over all classes.
    pub label_smoothing: f64,
    pub reduction: KlReduction,
}

impl Default for SoftDistillationLoss {
    /// The paper's τ = 3 and λ = 0.1.
    fn default() -> Self {
        SoftDistillationLoss { tau: 3.0, lambda: 0.1, label_smoothing: 0.0, reduction: KlReduction::default() }
    }
}

impl SoftDistillationLoss {
    /// Logits of both heads and of the teacher `[B, classes]`, labels `[B]` -> the mean loss, a scalar in nats.
    pub fn forward(&self, student: &HeadLogits, teacher: &Tensor, labels: &Tensor) -> Tensor {
        let log_softmax = |t: &Tensor| (t / self.tau).log_softmax(-1, Kind::Float);
        let count = match self.reduction {
            KlReduction::BatchMean => teacher.size()[0],
            KlReduction::ElementMean => teacher.numel() as i64,
        };
        let kl = log_softmax(&student.dist).kl_div(&log_softmax(teacher), Reduction::Sum, true) / count as f64;
        let label_loss = cross_entropy(&student.class, labels, self.label_smoothing);
        (1.0 - self.lambda) * label_loss + self.lambda * self.tau * self.tau * kl
    }
}

/// A target distribution for one head of a model. It adds w τ² CE(t, softmax(z / τ)) to the loss, the mean over the batch.
#[derive(Debug)]
pub struct SoftTarget {
    /// The probabilities t, [B, classes].
    pub probabilities: Tensor,
    /// The weight w.
    pub weight: f64,
    /// The temperature τ.
    pub temperature: f64,
}

impl SoftTarget {
    /// The labels `[B]` as a target of weight `weight`, with `smoothing` of each spread over all classes.
    ///
    /// ```
    /// use vitlab::{distill::SoftTarget, tch::Tensor};
    /// let target = SoftTarget::labels(&Tensor::from_slice(&[1i64]), 2, 0.5, 1.0);
    /// assert_eq!(Vec::<f32>::try_from(target.probabilities.get(0)).unwrap(), [0.25, 0.75]);
    /// ```
    pub fn labels(labels: &Tensor, classes: i64, smoothing: f64, weight: f64) -> Self {
        let one_hot = labels.one_hot(classes).to_kind(Kind::Float); // [B] -> [B, classes]
        let probabilities = one_hot * (1.0 - smoothing) + smoothing / classes as f64;
        SoftTarget { probabilities, weight, temperature: 1.0 }
    }

    /// A teacher's logits [B, classes] as a target of weight `weight`, at temperature `tau`.
    pub fn teacher(logits: &Tensor, tau: f64, weight: f64) -> Self {
        SoftTarget { probabilities: (logits / tau).softmax(-1, Kind::Float), weight, temperature: tau }
    }

    /// The part of the loss that this target adds, for the head's logits [B, classes]: a scalar in nats.
    ///
    /// ```
    /// use vitlab::{distill::SoftTarget, tch::Tensor};
    /// let target = SoftTarget { probabilities: Tensor::from_slice2(&[[0.25f32, 0.75]]), weight: 0.5, temperature: 2.0 };
    /// // softmax([2, 0] / 2) = (0.731059, 0.268941); CE = −0.25 ln 0.731059 − 0.75 ln 0.268941 = 1.063262; times 0.5 · 2².
    /// let loss = target.loss(&Tensor::from_slice2(&[[2f32, 0.]]));
    /// assert!((loss.double_value(&[]) - 2.126523).abs() < 1e-6);
    /// ```
    pub fn loss(&self, logits: &Tensor) -> Tensor {
        let log_p = (logits / self.temperature).log_softmax(-1, Kind::Float); // [B, classes]
        let sums = (&self.probabilities * log_p).sum_dim_intlist([-1i64].as_slice(), false, None); // -> [B]
        sums.mean(None) * -(self.weight * self.temperature * self.temperature)
    }
}

fn cross_entropy(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Tensor {
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, smoothing)
}
