//! The training of one model: what the epoch loop needs between two epochs, and the epoch itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};

use super::live::View;
use super::resume;
use super::{AdamW, Epoch, History, learning_rate, step_learning_rate};
use crate::data::{Dataset, Origin, seed_everything, shuffled};
use crate::device::{describe, on_one_thread, versions};
use crate::metrics::Evaluation;
use crate::model::Model;
use crate::notebook::Interrupt;
use crate::{Config, Error, Result};

/// Mean loss (nats) and accuracy (0 to 1) over the batches of one epoch, while the weights were changing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainScore {
    pub loss: f64,
    pub accuracy: f64,
}

/// Where an epoch stands: told to [`Trainer::on_step`] about once a second.
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
    /// Until the last epoch's training ends, as far as this epoch's pace tells.
    pub left: Duration,
}

/// What is called with an epoch's progress.
pub type OnStep = Box<dyn FnMut(&Step)>;

/// A batch on its way through training: what the optimizer and the history need of it.
#[derive(Debug)]
pub struct Batch {
    /// To minimise, a scalar.
    pub loss: Tensor,
    /// [B, classes], for the accuracy
    pub logits: Tensor,
    /// The loss's gradient with respect to all trainable variables in the order of their creation, [n]; without it
    /// libtorch differentiates `loss`.
    pub gradient: Option<Tensor>,
}

/// Loss and logits of a model's own forward pass.
impl From<(Tensor, Tensor)> for Batch {
    fn from((loss, logits): (Tensor, Tensor)) -> Self {
        Batch { loss, logits, gradient: None }
    }
}

/// Optimizer, schedule and history of one training.
///
/// ```no_run
/// # use vitlab::{Config, Result, data::FashionMnist, metrics::evaluate, model::VisionTransformer, train::Trainer};
/// # fn main() -> Result<()> {
/// let config = Config::default();
/// let data = FashionMnist::load(&config, tch::Device::Cpu)?;
/// vitlab::data::seed_everything(config.seed);
/// let model = VisionTransformer::new(&config, tch::Device::Cpu)?;
/// let mut trainer = Trainer::new(&model, &config)?;
/// for _ in trainer.epochs() {
///     let score = trainer.epoch(&data.train, |images, labels| {
///         let (logits, _) = model.forward(images, true, false)?;
///         Ok((logits.cross_entropy_for_logits(labels), logits))
///     })?;
///     println!("{}", trainer.record(score, &evaluate(&model, &data.test)?));
///     trainer.save(&model, "checkpoint.safetensors")?;
/// }
/// # Ok(()) }
/// ```
pub struct Trainer {
    pub history: History,
    /// What is trained by which loss, if it needs saying: a checkpoint of another recipe is refused.
    pub recipe: String,
    /// Called about once a second during an epoch; prints progress when set.
    pub on_step: Option<OnStep>,
    pub(super) optimizer: AdamW,
    /// Of the latest step.
    lr: f64,
    started: Instant,
    /// Batches of the latest epoch, if the user interrupted it.
    stopped_after: Option<i64>,
    view: Option<View>,
}

/// Counts the epochs still to do; ends early when the user interrupts the training.
#[derive(Debug)]
pub struct Epochs {
    left: Range<usize>,
    interrupt: Interrupt,
}

impl Iterator for Epochs {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left.next().filter(|_| !self.interrupt.asked())
    }
}

impl Trainer {
    /// A training of `model` from its present weights.
    ///
    /// # Errors
    /// A configuration that can't work.
    pub fn new(model: &impl Model, config: &Config) -> Result<Self> {
        config.check()?;
        Ok(Trainer {
            history: History {
                config: config.clone(),
                origin: Origin::default(),
                made_with: made_with(model.variables().device()),
                scores: BTreeMap::new(),
                epochs: Vec::new(),
            },
            recipe: String::new(),
            on_step: None,
            optimizer: AdamW::new(model.variables(), config.weight_decay),
            lr: 0.0,
            started: Instant::now(),
            stopped_after: None,
            view: None,
        })
    }

    /// The epochs still to do, counted from 0: all of them, or what a resumed checkpoint or an interrupt left, with the epoch
    /// that was interrupted as the first.
    pub fn epochs(&self) -> Epochs {
        Epochs { left: self.history.whole_epochs()..self.history.config.epochs, interrupt: Interrupt::listen() }
    }

    /// One pass over `data` in a new random order, in full batches of augmented images. `loss` gives the loss to
    /// minimise and the logits (for the accuracy) for images [B, 1, 28, 28] and labels [B], as a pair or as a [`Batch`]
    /// with a gradient.
    ///
    /// Everything random in epoch e is drawn from a generator seeded by SEED and e alone, so that a training that is
    /// resumed between two epochs continues as if it had never stopped.
    ///
    /// A notebook's interrupt ends the epoch after the present step, and with it the loop over [`Trainer::epochs`]: the
    /// score is that of the batches so far, and what is recorded and saved after it says so. The next call trains the
    /// batches that the epoch still lacks, and its score is the whole epoch's; augmentation and dropout of these batches are
    /// drawn anew, from SEED, e and their number, so here the weights differ from those of an uninterrupted run.
    ///
    /// # Errors
    /// What `loss` returns; too few images for a batch; a loss that isn't finite.
    pub fn epoch<B: Into<Batch>>(
        &mut self,
        data: &Dataset,
        mut loss: impl FnMut(&Tensor, &Tensor) -> Result<B>,
    ) -> Result<TrainScore> {
        self.started = Instant::now();
        self.history.origin = data.origin.clone();
        let (index, size, device) = (self.history.whole_epochs(), self.history.config.batch_size, data.images.device());
        if index >= self.history.config.epochs {
            return Err(Error::argument(format!(
                "all {index} epochs of this training are done; give a larger EPOCHS to a new one"
            )));
        }
        let batches = data.len() / size;
        if batches == 0 {
            return Err(Error::argument(format!("BATCH_SIZE {size} is more than the {} training images", data.len())));
        }
        seed_everything(epoch_seed(self.history.config.seed, index));
        let order = shuffled(data.len(), device);
        let first = self.history.interrupted().map_or(0, |(_, batches)| batches);
        // Sums stay on the device, so that a GPU is not waited for at every step.
        let mut sums = match self.history.interrupted() {
            None => Tensor::zeros([2], (Kind::Double, device)),
            Some((epoch, batches)) => {
                seed_everything(epoch_seed(self.history.config.seed, index) ^ (batches << 32));
                let means = Tensor::from_slice(&[epoch.train_loss, epoch.train_accuracy]);
                (means * batches as f64).to_device(device)
            }
        };
        let mut shown = Instant::now();
        let mut trained = batches;
        let interrupt = Interrupt::listen();
        if self.view.as_ref().is_none_or(View::is_of_another_cell) {
            self.view = View::open();
        }
        for batch in first..batches {
            let indices = order.narrow(0, batch * size, size);
            let images = on_one_thread(|| {
                let bytes = data.images.index_select(0, &indices);
                self.history.config.augmentation.apply(&bytes) // [B, 28, 28] -> [B, 1, 28, 28]
            });
            let labels = data.labels.index_select(0, &indices);
            self.lr = if self.history.config.lr_per_step {
                let step = index * batches as usize + batch as usize;
                step_learning_rate(&self.history.config, step, batches as usize)
            } else {
                learning_rate(&self.history.config, index)
            };
            let done: Batch = loss(&images, &labels)?.into();
            match &done.gradient {
                Some(gradient) => self.optimizer.step(&[gradient], self.lr)?,
                None => self.optimizer.backward_step(&done.loss, self.lr)?,
            }
            let hits = done.logits.argmax(1, false).eq_tensor(&labels).to_kind(Kind::Double).mean(Kind::Double);
            sums += Tensor::stack(&[done.loss.detach().to_kind(Kind::Double), hits], 0);
            let stop = interrupt.asked();
            if (self.on_step.is_some() || self.view.is_some())
                && (shown.elapsed() > Duration::from_secs(1) || batch + 1 == batches || stop)
            {
                shown = Instant::now();
                let elapsed = self.started.elapsed();
                let done = batch + 1;
                let to_do = batches - done + batches * (self.history.config.epochs - index - 1) as i64;
                let step = Step {
                    epoch: index + 1,
                    epochs: self.history.config.epochs,
                    batch: done,
                    batches,
                    score: mean(&sums, done),
                    images_per_second: ((done - first) * size) as f64 / elapsed.as_secs_f64(),
                    left: elapsed.mul_f64(to_do as f64 / (done - first) as f64),
                };
                if let Some(report) = &mut self.on_step {
                    report(&step);
                }
                if let Some(view) = &mut self.view {
                    view.step(&step, &self.history);
                }
            }
            if stop {
                trained = batch + 1;
                break;
            }
        }
        self.stopped_after = (trained < batches).then_some(trained);
        let score = mean(&sums, trained);
        if !score.loss.is_finite() {
            return Err(Error::argument(format!(
                "the loss of epoch {} is {}: the training diverged; lower LR ({}) or lengthen WARMUP_EPOCHS",
                index + 1,
                score.loss,
                self.history.config.lr
            )));
        }
        Ok(score)
    }

    /// Closes the epoch: adds it to the history, instead of its interrupted beginning, and returns it.
    pub fn record(&mut self, train: TrainScore, test: &Evaluation) -> Epoch {
        let index = self.history.whole_epochs();
        let before = self.history.interrupted().map_or(0.0, |(e, _)| e.seconds);
        self.history.epochs.truncate(index);
        let epoch = Epoch {
            epoch: index + 1,
            lr: self.lr,
            train_loss: train.loss,
            train_accuracy: train.accuracy,
            test_loss: test.loss,
            test_accuracy: test.accuracy,
            seconds: before + self.started.elapsed().as_secs_f64(),
            stopped_after: self.stopped_after,
        };
        self.history.epochs.push(epoch.clone());
        if let Some(view) = &mut self.view {
            view.epoch(&epoch, &self.history);
        }
        epoch
    }

    /// Writes a checkpoint: weights, optimizer, configuration and history in one safetensors file.
    ///
    /// # Errors
    /// When the file can't be written; what was there stays.
    pub fn save(&self, model: &impl Model, path: impl AsRef<Path>) -> Result<()> {
        resume::write(self, model, path.as_ref())
    }

    /// Continues from a checkpoint, if there is one at `path`: sets the model's weights and this trainer's state.
    /// Returns the number of epochs already done, an interrupted one not counted.
    ///
    /// # Errors
    /// A broken file, or one of another model, configuration or data; model and trainer then stay as they are.
    pub fn resume(&mut self, model: &impl Model, path: impl AsRef<Path>, data: &Dataset) -> Result<usize> {
        if path.as_ref().exists() {
            resume::read(self, model, path.as_ref(), &data.origin)?;
        }
        Ok(self.history.whole_epochs())
    }
}

fn made_with(device: tch::Device) -> BTreeMap<String, String> {
    let mut components: BTreeMap<String, String> = versions().into_iter().collect();
    components.insert("device".to_string(), describe(device));
    components
}

/// Sums of loss and accuracy over `batches` -> their means.
fn mean(sums: &Tensor, batches: i64) -> TrainScore {
    let means = sums / batches as f64;
    TrainScore { loss: means.double_value(&[0]), accuracy: means.double_value(&[1]) }
}

/// Distinct for every (seed, epoch) of practical size.
fn epoch_seed(seed: i64, epoch: usize) -> i64 {
    seed.wrapping_mul(1_000_003).wrapping_add(epoch as i64 + 1)
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "epoch {:>2}  lr {:.1e}  train loss {:.4} accuracy {:5.2} %  test loss {:.4} accuracy {:5.2} %  {:.0} s",
            self.epoch,
            self.lr,
            self.train_loss,
            self.train_accuracy * 100.0,
            self.test_loss,
            self.test_accuracy * 100.0,
            self.seconds
        )?;
        match self.stopped_after {
            Some(batches) => write!(f, "  (interrupted after {batches} batches)"),
            None => Ok(()),
        }
    }
}
