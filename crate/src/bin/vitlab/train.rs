//! `vitlab train`.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tch::Device;
use vitlab::config::Distillation;
use vitlab::data::{FashionMnist, seed_everything, source};
use vitlab::device::{describe, device};
use vitlab::learner::{Learner, ModelKind, Network, Recipe};
use vitlab::metrics::{distillation_scores, evaluate, evaluate_heads, evaluate_with};
use vitlab::model::Model;
use vitlab::train::{Begin, Earlier, Step, Trainer, TrainingFolder};
use vitlab::{Config, Error, Result};
use vitlab_dataset::{checksum, duration::human_duration};

use crate::options::{bar, named};

/// Train a model; write its weights, history and configuration.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_parser = named(&[("vit", ModelKind::Vit), ("cnn", ModelKind::Cnn), ("deit", ModelKind::Deit)]))]
    pub model: ModelKind,
    /// Weights of the CNN that a student learns from: a deit, or a vit with DISTILLATION match. Several teachers answer
    /// with their mean logits.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub teacher: Vec<PathBuf>,
    /// Learn the teacher's probabilities instead of its decision (DeiT's soft distillation).
    #[arg(long)]
    soft: bool,
    /// Temperature of both probabilities, with --soft [default: 3].
    #[arg(long, value_name = "T", requires = "soft", allow_negative_numbers = true)]
    tau: Option<f64>,
    /// Weight of the teacher against the label, 0 to 1, with --soft [default: 0.1].
    #[arg(long, value_name = "W", requires = "soft", allow_negative_numbers = true)]
    lambda: Option<f64>,
    /// Constants of the run in JSON by the homework's names, or the history of a training; the others keep the homework's
    /// values.
    #[arg(long, value_name = "FILE.json")]
    config: Option<PathBuf>,
    /// Number of epochs in place of the configuration's; a longer warm-up is cut to it.
    #[arg(long, value_name = "N", value_parser = epochs, allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// Seed of all random numbers, any whole number.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<i64>,
    /// Threads. They don't change a result of the CPU engine; libtorch's change it in the last bits.
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<i32>,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// Folder with FashionMNIST (or MNIST, KMNIST, EMNIST Digits), or `synthetic` for the generated stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    pub data: Option<String>,
    /// Folder for weights, history and checkpoint.
    #[arg(long, default_value = "outputs", value_name = "DIR")]
    pub out: PathBuf,
    /// Continue from the checkpoint in --out, if there is one.
    #[arg(long)]
    pub resume: bool,
    /// Train anew and replace the files of an earlier training in --out.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    arguments.train(&arguments.config()?)
}

impl Arguments {
    /// The defaults for a model and a folder.
    pub fn new(model: ModelKind, out: PathBuf) -> Self {
        Arguments {
            model,
            teacher: Vec::new(),
            soft: false,
            tau: None,
            lambda: None,
            config: None,
            epochs: None,
            seed: None,
            threads: None,
            device: "auto".into(),
            data: None,
            out,
            resume: false,
            force: false,
        }
    }

    /// Trains one network, resumes its training, or says that nothing is left to do.
    pub fn train(&self, config: &Config) -> Result<()> {
        if let Some(threads) = self.threads {
            tch::set_num_threads(threads);
        }
        let device = device(&self.device)?;
        let source = source::find(self.data.as_deref())?;
        let folder = TrainingFolder::open(&self.out, stem(self.model))?;
        if !folder.is_locked() {
            eprintln!("{}: no locks here; a second training into this folder isn't noticed", self.out.display());
        }
        let data = FashionMnist::read(&source, config, device)?;
        let teachers = self.teacher.iter().map(|path| read_teacher(path, device)).collect::<Result<Vec<_>>>()?;
        seed_everything(config.seed);
        let learner = Learner::create(self.model, config, device)?;
        let recipe = Recipe::new(&learner, &teachers, config)?;
        println!("{:?}: {} parameters, on {}", self.model, learner.parameters(), describe(device));
        let held_out = match config.validation_images {
            Some(_) => "held-out training images as \"test\"",
            None => "test images",
        };
        let (located, train, test) = (data.train.origin.located(&source), data.train.len(), data.test.len());
        println!("data: {located}, {train} training images, {test} {held_out}");

        let mut trainer = Trainer::new(&learner, config)?;
        trainer.recipe = self.recipe(config)?;
        match folder.begin(&mut trainer, &learner, &data.train, self.earlier())? {
            Begin::New if self.resume => println!("nothing to resume, training from the start"),
            Begin::New => {}
            Begin::Resumed(epochs) => println!("resuming after {epochs} epochs"),
            Begin::Finished => {
                let history = &trainer.history;
                let (epochs, accuracy) = (history.epochs.len(), history.accuracy().unwrap_or_default() * 100.0);
                println!(
                    "finished: all {epochs} epochs are trained (test accuracy {accuracy:.2} %), nothing is left to do"
                );
                return Ok(());
            }
        }
        let bar = bar(0, "{prefix} {bar:30} {pos}/{len}  {msg}");
        let shown = bar.clone();
        trainer.on_step = Some(Box::new(move |step| show(&shown, step)));
        for _ in trainer.epochs() {
            let score = trainer.epoch(&data.train, |images, labels| recipe.step(images, labels))?;
            let evaluation = trainer.averaged(|_| evaluate(&learner, &data.test))?;
            let epoch = trainer.record(score, &evaluation);
            bar.suspend(|| println!("{epoch}"));
            folder.save(&trainer, &learner)?;
        }
        bar.finish_and_clear();
        if self.model == ModelKind::Deit && !teachers.is_empty() {
            let heads = trainer.averaged(|_| evaluate_heads(&data.test, |images| learner.heads(images)))?;
            let teacher = evaluate_with(&data.test, |images| recipe.teacher(images))?;
            trainer.history.scores = distillation_scores(&heads[0], &heads[1], &teacher)?;
        }
        if !teachers.is_empty() {
            trainer.history.made_with.insert("recipe".into(), trainer.recipe.clone());
        }
        let files =
            trainer.averaged(|trainer| folder.finish(trainer, &learner))?.map(|path| path.display().to_string());
        println!("written: {}", files.join(", "));
        Ok(())
    }

    fn config(&self) -> Result<Config> {
        let mut config = self.config.as_ref().map_or_else(|| Ok(Config::default()), Config::read)?;
        if let Some(epochs) = self.epochs {
            config.epochs = epochs;
            config.warmup_epochs = config.warmup_epochs.min(epochs);
        }
        config.seed = self.seed.unwrap_or(config.seed);
        if self.soft {
            config.distillation = Distillation::Soft;
        }
        config.tau = self.tau.unwrap_or(config.tau);
        config.lambda = self.lambda.unwrap_or(config.lambda);
        config.check()?;
        if config.load_model {
            let problem = "LOAD_MODEL is true in the configuration, but `vitlab train` trains; set it to false";
            return Err(Error::argument(problem));
        }
        Ok(config)
    }

    fn earlier(&self) -> Earlier {
        match (self.resume, self.force) {
            (true, _) => Earlier::Resume,
            (_, true) => Earlier::Replace,
            _ => Earlier::Refuse,
        }
    }

    /// Model, loss and the checksums of the teachers' weights, which a checkpoint must have been trained with.
    fn recipe(&self, config: &Config) -> Result<String> {
        if self.teacher.is_empty() {
            return Ok(stem(self.model).to_string());
        }
        let digest = |teacher: &PathBuf| {
            let digest = std::fs::File::open(teacher).and_then(checksum::md5);
            digest.map_err(|e| Error::file(teacher, format!("can't be read ({e}); name the teacher's checkpoint file")))
        };
        let digests = self.teacher.iter().map(digest).collect::<Result<Vec<_>>>()?.join(", ");
        let loss = match config.distillation {
            Distillation::Hard => "hard".to_string(),
            Distillation::Soft => format!("soft ({}, {})", config.tau, config.lambda),
            Distillation::Match => format!("matching ({})", config.tau),
            Distillation::Labels => "no".to_string(),
        };
        Ok(format!("{}, {loss} distillation, teacher {digests}", stem(self.model)))
    }
}

/// File name of the weights without extension; the ViT's is the homework's.
pub fn stem(model: ModelKind) -> &'static str {
    match model {
        ModelKind::Vit => "ViT_model",
        ModelKind::Cnn => "teacher_model",
        ModelKind::Deit => "DeiT_model",
    }
}

fn epochs(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give a whole number of epochs, for instance 10".to_string())
}

/// libtorch fails without a message if the system can't start as many threads as are asked for.
pub fn threads(text: &str) -> Result<i32, String> {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as i32);
    let most = (4 * processors).max(64);
    let asked = text.parse().ok().filter(|asked| (1..=most).contains(asked));
    asked.ok_or_else(|| format!("give a number from 1 to {most}; this machine has {processors} processors"))
}

fn read_teacher(path: &Path, device: Device) -> Result<Learner> {
    let teacher = Learner::read(path, device)?;
    match teacher.network() {
        Network::Cnn(_) => Ok(teacher),
        _ => Err(Error::file(path, "is not a CNN; train one with `vitlab train --model cnn`")),
    }
}

fn show(bar: &ProgressBar, step: &Step) {
    bar.set_length(step.batches as u64);
    bar.set_position(step.batch as u64);
    bar.set_prefix(format!("epoch {}/{}", step.epoch, step.epochs));
    bar.set_message(format!(
        "loss {:.4}  accuracy {:.2} %  {:.0} images/s  {} left",
        step.score.loss,
        step.score.accuracy * 100.0,
        step.images_per_second,
        human_duration(step.left)
    ));
}
