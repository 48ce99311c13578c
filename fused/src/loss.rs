//! Targets and loss of a training step.

use crate::{Error, Result};

/// Target of one head. Each image adds w τ² CE(t, softmax(z / τ)) to the loss, which is the mean over the batch.
#[derive(Clone, Debug)]
pub struct HeadTarget {
    /// The probabilities t, [B, classes].
    pub probabilities: Vec<f32>,
    /// The weight w.
    pub weight: f32,
    /// The temperature τ.
    pub temperature: f32,
}

/// Result of a training step.
#[derive(Clone, Debug)]
pub struct StepOutput<'a> {
    /// Mean over the batch.
    pub loss: f64,
    /// Logits of each head, [B, classes]; the class token's head comes first.
    pub heads: Vec<Vec<f32>>,
    /// Gradient of the loss, in the order of the parameters. The engine overwrites it in the next step.
    pub gradient: &'a [f32],
}

/// Target of a whole batch.
pub(super) struct Training<'a> {
    /// One for each head.
    pub targets: &'a [HeadTarget],
    pub seed: u64,
    /// Number of images.
    pub batch: usize,
}

impl<'a> Training<'a> {
    pub fn new(targets: &'a [HeadTarget], seed: u64, batch: usize, heads: usize, classes: usize) -> Result<Self> {
        if batch == 0 {
            return Err(Error("a training step needs at least one image".into()));
        }
        let fits = |target: &HeadTarget| target.probabilities.len() == batch * classes;
        if targets.len() != heads || !targets.iter().all(fits) {
            return Err(Error(format!(
                "this network has {heads} heads; give each of them target probabilities [{batch}, {classes}]"
            )));
        }
        Ok(Training { targets, seed, batch })
    }
}

/// Softmax cross-entropy: replaces the logits `z` of an image by the gradient of the batch's mean loss. Returns the image's
/// share of that loss.
#[inline(always)]
pub(super) fn loss_gradient(z: &mut [f32], t: &[f32], target: &HeadTarget, batch: usize) -> f64 {
    let tau = target.temperature;
    let highest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = z.iter().map(|z| ((z - highest) / tau).exp()).sum();
    let mut loss = 0.0;
    for (z, t) in z.iter_mut().zip(t) {
        let log_p = (*z - highest) / tau - sum.ln();
        loss -= f64::from(t * log_p);
        *z = target.weight * tau * (log_p.exp() - t) / batch as f32;
    }
    loss * f64::from(target.weight * tau * tau) / batch as f64
}
