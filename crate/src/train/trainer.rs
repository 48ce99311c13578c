//! The training of one model: its state between two epochs, and the epoch itself.

use std::collections::BTreeMap;
use std::time::Instant;

use tch::Tensor;

use super::curves::LiveCurves;
use super::pass::{EpochPass, Step, TrainScore};
use super::{AdamW, Average, Batch, Epoch, History};
use crate::config::Optimizer;
use crate::data::Dataset;
use crate::device::{describe, on_one_thread, versions};
use crate::error::ensure;
use crate::metrics::Evaluation;
use crate::model::Model;
use crate::notebook::Interrupt;
use crate::{Config, Result};

/// Receives the progress of an epoch.
pub type OnStep = Box<dyn FnMut(&Step)>;

/// Optimizer, schedule and history of one training.
///
/// ```no_run
/// # use vitlab::{Config, Learner, Result, data::FashionMnist, learner::Loss, metrics::evaluate, model::VisionTransformer};
/// # use vitlab::train::Trainer;
/// # fn main() -> Result<()> {
/// let config = Config::default();
/// let data = FashionMnist::load(&config, tch::Device::Cpu)?;
/// vitlab::data::seed_everything(config.seed);
/// let model = Learner::new(VisionTransformer::new(&config, tch::Device::Cpu)?);
/// let mut trainer = Trainer::new(&model, &config)?;
/// for _ in trainer.epochs() {
///     let score =
///         trainer.epoch(&data.train, |images, labels| model.step(images, labels, Loss::CrossEntropy))?;
///     println!("{}", trainer.record(score, &evaluate(&model, &data.test)?));
///     trainer.save(&model, "checkpoint.safetensors")?;
/// }
/// # Ok(()) }
/// ```
pub struct Trainer {
    pub history: History,
    /// Model and loss in words, or empty. [`Trainer::resume`] refuses a checkpoint of another recipe.
    pub recipe: String,
    /// Called about once a second during an epoch.
    pub on_step: Option<OnStep>,
    pub(super) optimizer: AdamW,
    pub(super) average: Option<Average>,
    latest_lr: f64,
    epoch_started: Instant,
    /// Number of batches of the latest epoch, if the user interrupted it.
    stopped_after: Option<i64>,
    view: Option<LiveCurves>,
}

/// The epochs that remain; ends early when the user interrupts the training.
pub type Epochs = Box<dyn Iterator<Item = usize>>;

impl Trainer {
    /// A training of `model` from its present weights.
    ///
    /// # Errors
    /// A configuration that can't work.
    pub fn new(model: &impl Model, config: &Config) -> Result<Self> {
        config.check()?;
        let mut made_with: BTreeMap<String, String> = versions().into_iter().collect();
        made_with.insert("device".to_string(), describe(model.variables().device()));
        let mut optimizer = AdamW::new(model.variables(), config.weight_decay);
        if config.optimizer == Optimizer::Muon {
            optimizer = optimizer.with_muon();
        }
        let averaged = config.average_decay > 0.0;
        Ok(Trainer {
            average: averaged.then(|| Average::new(config.average_decay, optimizer.parameters())),
            optimizer,
            history: History { config: config.clone(), made_with, ..History::default() },
            recipe: String::new(),
            on_step: None,
            latest_lr: 0.0,
            epoch_started: Instant::now(),
            stopped_after: None,
            view: None,
        })
    }

    /// The epochs that remain, counted from 0: all of them, or those after a resumed checkpoint or an interrupt, beginning
    /// with the interrupted epoch.
    pub fn epochs(&self) -> Epochs {
        let interrupt = Interrupt::listen();
        let left = self.history.whole_epochs()..self.history.config.epochs;
        Box::new(left.take_while(move |_| !interrupt.asked()))
    }

    /// One pass over `data` in a new random order, or STEPS_PER_EPOCH steps, in full batches of augmented images. `loss` gets images [B, 1, 28, 28] and
    /// labels `[B]`, and returns the loss to minimise and the logits (for the accuracy): as a pair, or as a [`Batch`] with a
    /// gradient.
    ///
    /// All random draws of epoch e come from a generator seeded by SEED and e alone. A training that is resumed between two
    /// epochs therefore continues as if it had never stopped.
    ///
    /// An interrupt in a notebook ends the epoch after the current step, and the loop over [`Trainer::epochs`]. The score
    /// is that of the batches so far, and the history says so. The next call trains the remaining batches and returns the
    /// score of the whole epoch. Their augmentation and dropout are drawn anew, from SEED, e and the number of batches
    /// done, so that the weights differ from those of an uninterrupted run.
    ///
    /// # Errors
    /// An error of `loss`; too few images for a batch; a loss that isn't finite.
    pub fn epoch<B: Into<Batch>>(
        &mut self,
        data: &Dataset,
        mut loss: impl FnMut(&Tensor, &Tensor) -> Result<B>,
    ) -> Result<TrainScore> {
        self.epoch_started = Instant::now();
        self.history.origin = data.origin.clone();
        let mut pass = EpochPass::begin(&self.history, data)?;
        if self.view.as_ref().is_none_or(LiveCurves::is_of_another_cell) {
            self.view = LiveCurves::open();
        }
        let interrupt = Interrupt::listen();
        while pass.done < pass.batches {
            let indices = pass.order.narrow(0, pass.done * pass.batch_size, pass.batch_size); // [B]
            let images = on_one_thread(|| {
                let bytes = data.images.index_select(0, &indices);
                self.history.config.augmentation.apply(&bytes) // [B, 28, 28] -> [B, 1, 28, 28]
            });
            let labels = data.labels.index_select(0, &indices);
            self.latest_lr = pass.learning_rate(&self.history.config);
            let batch: Batch = loss(&images, &labels)?.into();
            batch.update(&mut self.optimizer, self.latest_lr)?;
            if let Some(average) = &mut self.average {
                average.add(self.optimizer.parameters());
            }
            pass.add(&batch, &labels);
            let stop = interrupt.asked();
            if stop || pass.report_is_due() {
                self.report(&pass.step(self.epoch_started.elapsed(), self.history.config.epochs));
            }
            if stop {
                break;
            }
        }
        self.stopped_after = (pass.done < pass.batches).then_some(pass.done);
        let score = pass.score();
        ensure!(
            score.loss.is_finite(),
            "the loss of epoch {} is {}: the training diverged; lower LR ({}) or lengthen WARMUP_EPOCHS",
            self.history.whole_epochs() + 1,
            score.loss,
            self.history.config.lr
        );
        Ok(score)
    }

    fn report(&mut self, step: &Step) {
        if let Some(on_step) = &mut self.on_step {
            on_step(step);
        }
        if let Some(view) = &mut self.view {
            view.step(step, &self.history);
        }
    }

    /// Calls `use_model` while the model has the average of its weights, if AVERAGE_DECAY asks for it: to evaluate or to write
    /// the model. The weights of the last step return afterwards.
    pub fn averaged<T>(&mut self, use_model: impl FnOnce(&Self) -> T) -> T {
        self.swap_average();
        let result = use_model(self);
        self.swap_average();
        result
    }

    fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            average.swap(self.optimizer.parameters());
        }
    }

    /// Closes the epoch: adds it to the history in place of its interrupted beginning, and returns it.
    pub fn record(&mut self, train: TrainScore, test: &Evaluation) -> Epoch {
        let index = self.history.whole_epochs();
        let before = self.history.interrupted().map_or(0.0, |(e, _)| e.seconds);
        self.history.epochs.truncate(index);
        let epoch = Epoch {
            epoch: index + 1,
            lr: self.latest_lr,
            train_loss: train.loss,
            train_accuracy: train.accuracy,
            test_loss: test.loss,
            test_accuracy: test.accuracy,
            seconds: before + self.epoch_started.elapsed().as_secs_f64(),
            stopped_after: self.stopped_after,
        };
        self.history.epochs.push(epoch.clone());
        if let Some(view) = &mut self.view {
            view.epoch(&epoch, &self.history);
        }
        epoch
    }
}

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Epoch { epoch, lr, train_loss, test_loss, seconds, .. } = self;
        let [train, test] = [self.train_accuracy, self.test_accuracy].map(|accuracy| accuracy * 100.0);
        write!(f, "epoch {epoch:>2}  lr {lr:.1e}  train loss {train_loss:.4} accuracy {train:5.2} %")?;
        write!(f, "  test loss {test_loss:.4} accuracy {test:5.2} %  {seconds:.0} s")?;
        match self.stopped_after {
            Some(batches) => write!(f, "  (interrupted after {batches} batches)"),
            None => Ok(()),
        }
    }
}
