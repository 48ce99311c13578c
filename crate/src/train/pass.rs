//! One epoch, usually one pass over the training set: its order, its sums and its progress.

use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use super::{Batch, History, step_learning_rate};
use crate::data::{Dataset, seed_everything, shuffled};
use crate::error::ensure;
use crate::{Config, Result};

/// Mean loss (nats) and accuracy (0 to 1) over the batches of one epoch, while the weights were changing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainScore {
    pub loss: f64,
    pub accuracy: f64,
}

/// The state of an epoch, reported to [`Trainer::on_step`](super::Trainer::on_step) about once a second.
#[derive(Clone, Debug)]
pub struct Step {
    /// Counted from 1.
    pub epoch: usize,
    pub epochs: usize,
    /// Batches done in this epoch.
    pub batch: i64,
    pub batches: i64,
    /// Mean over this epoch so far.
    pub score: TrainScore,
    pub images_per_second: f64,
    /// Estimated from this epoch's pace: the time until the training of the last epoch ends.
    pub left: Duration,
}

pub(super) struct EpochPass {
    /// Number of the epoch, counted from 0.
    index: usize,
    pub batch_size: i64,
    pub batches: i64,
    /// The first batch of this call, after those of an interrupted epoch.
    first: i64,
    /// Number of batches done, with those before `first`.
    pub done: i64,
    /// Permutations of the N training images, as many as the batches need: `[N]` for one pass over the images
    pub order: Tensor,
    /// [2] sums of loss and accuracy over the batches done. They stay on the device: to read them at every step would make
    /// the processor wait for a GPU.
    sums: Tensor,
    last_report: Instant,
}

impl EpochPass {
    /// Seeds the generators of the next epoch, and takes up the sums of an interrupted one.
    pub fn begin(history: &History, data: &Dataset) -> Result<Self> {
        let (index, batch_size, device) = (history.whole_epochs(), history.config.batch_size, data.images.device());
        let done = index >= history.config.epochs;
        ensure!(!done, "all {index} epochs of this training are done; give a larger EPOCHS to a new one");
        let batches = history.config.steps_per_epoch.unwrap_or(data.len() / batch_size);
        ensure!(batches > 0, "BATCH_SIZE {batch_size} is more than the {} training images", data.len());
        // Different for every (seed, epoch) of practical size.
        let seed = history.config.seed.wrapping_mul(1_000_003).wrapping_add(index as i64 + 1);
        seed_everything(seed);
        let passes = (batches * batch_size + data.len() - 1) / data.len();
        let order = Tensor::cat(&Vec::from_iter((0..passes).map(|_| shuffled(data.len(), device))), 0);
        let (first, sums) = match history.interrupted() {
            None => (0, Tensor::zeros([2], (Kind::Double, device))),
            Some((epoch, batches)) => {
                seed_everything(seed ^ (batches << 32));
                let means = Tensor::from_slice(&[epoch.train_loss, epoch.train_accuracy]);
                (batches, (means * batches as f64).to_device(device))
            }
        };
        Ok(EpochPass { index, batch_size, batches, first, done: first, order, sums, last_report: Instant::now() })
    }

    pub fn learning_rate(&self, config: &Config) -> f64 {
        let (done, steps) = if config.lr_per_step { (self.done as usize, self.batches as usize) } else { (0, 1) };
        step_learning_rate(config, self.index * steps + done, steps)
    }

    pub fn add(&mut self, batch: &Batch, labels: &Tensor) {
        let hits = batch.logits.argmax(1, false).eq_tensor(labels).to_kind(Kind::Double).mean(Kind::Double);
        self.sums += Tensor::stack(&[batch.loss.detach().to_kind(Kind::Double), hits], 0);
        self.done += 1;
    }

    pub fn score(&self) -> TrainScore {
        let means = &self.sums / self.done as f64;
        TrainScore { loss: means.double_value(&[0]), accuracy: means.double_value(&[1]) }
    }

    /// Whether a second has passed since the last report, or the epoch ends.
    pub fn report_is_due(&self) -> bool {
        self.last_report.elapsed() > Duration::from_secs(1) || self.done == self.batches
    }

    /// The progress after `elapsed` time of this call, in a training of `epochs` epochs.
    pub fn step(&mut self, elapsed: Duration, epochs: usize) -> Step {
        self.last_report = Instant::now();
        let trained = self.done - self.first;
        let remaining = self.batches - self.done + self.batches * (epochs - self.index - 1) as i64;
        Step {
            epoch: self.index + 1,
            epochs,
            batch: self.done,
            batches: self.batches,
            score: self.score(),
            images_per_second: (trained * self.batch_size) as f64 / elapsed.as_secs_f64(),
            left: elapsed.mul_f64(remaining as f64 / trained as f64),
        }
    }
}
