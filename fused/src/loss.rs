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

/// Targets of a batch, for one of its parts.
#[derive(Clone, Copy)]
pub(super) struct Training<'a> {
    /// One for each head.
    targets: &'a [HeadTarget],
    seed: u64,
    /// Number of images of the whole batch.
    batch: usize,
    classes: usize,
    /// Number of the part's first image in the batch.
    first: usize,
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
        Ok(Training { targets, seed, batch, classes, first: 0 })
    }

    /// The part that begins with image `first` of the batch.
    pub fn part(self, first: usize) -> Self {
        Training { first, ..self }
    }

    /// Seed of the dropout of the images from the part's image `i` on.
    pub fn seed(&self, i: usize) -> u64 {
        self.seed.wrapping_add((self.first + i) as u64)
    }

    /// Softmax cross-entropy of the images from the part's image `i` on: replaces the rows of `logits`, one per image, by
    /// the gradient of the batch's mean loss, and adds their share of it to `loss`.
    #[inline(always)]
    pub fn gradient<'z>(&self, head: usize, i: usize, logits: impl Iterator<Item = &'z mut [f32]>, loss: &mut f64) {
        let HeadTarget { probabilities, weight, temperature: tau } = &self.targets[head];
        for (z, t) in logits.zip(probabilities.chunks_exact(self.classes).skip(self.first + i)) {
            let highest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = z.iter().map(|z| ((z - highest) / tau).exp()).sum();
            let mut share = 0.0;
            for (z, t) in z.iter_mut().zip(t) {
                let log_p = (*z - highest) / tau - sum.ln();
                share -= f64::from(t * log_p);
                *z = weight * tau * (log_p.exp() - t) / self.batch as f32;
            }
            *loss += share * f64::from(weight * tau * tau) / self.batch as f64;
        }
    }
}
