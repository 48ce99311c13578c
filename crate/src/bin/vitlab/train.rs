//! `vitlab train`.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tch::Device;
use vitlab::data::{FashionMnist, seed_everything, source};
use vitlab::device::{describe, device};
use vitlab::distill::SoftDistillationLoss;
use vitlab::learner::{Learner, Loss, ModelKind, Network};
use vitlab::metrics::{distillation_scores, evaluate, evaluate_heads};
use vitlab::model::Model;
use vitlab::train::{Step, Trainer};
use vitlab::{Config, Error, Result, checkpoint};
use vitlab_dataset::{checksum, duration::human_duration};

use crate::options::{bar, named};

/// Train a model; write its weights, history and configuration.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_parser = named(&[("vit", ModelKind::Vit), ("cnn", ModelKind::Cnn), ("deit", ModelKind::Deit)]))]
    model: ModelKind,
    /// Weights of the CNN that the student (--model deit) learns from.
    #[arg(long, value_name = "FILE", required_if_eq("model", "deit"))]
    teacher: Option<PathBuf>,
    /// Learn the teacher's probabilities instead of its decision (DeiT's soft distillation).
    #[arg(long)]
    soft: bool,
    /// Temperature of both probabilities, with --soft.
    #[arg(long, value_name = "T", requires = "soft", default_value_t = SoftDistillationLoss::default().tau)]
    tau: f64,
    /// Weight of the teacher against the label, 0 to 1, with --soft.
    #[arg(long, value_name = "W", requires = "soft", default_value_t = SoftDistillationLoss::default().lambda)]
    lambda: f64,
    /// Constants of the run in JSON by the homework's names; the others keep the homework's values.
    #[arg(long, value_name = "FILE.json")]
    config: Option<PathBuf>,
    /// Number of epochs in place of the configuration's; a longer warm-up is cut to it.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
    /// Threads of libtorch; the result of a seed depends on it in the last bits.
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroU16>,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// Folder with FashionMNIST, or `synthetic` for the generated stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    /// Folder for weights, history and checkpoint.
    #[arg(long, default_value = "outputs", value_name = "DIR")]
    out: PathBuf,
    /// Continue from the checkpoint in --out, if there is one.
    #[arg(long)]
    resume: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let (config, soft) = (arguments.config()?, arguments.soft()?);
    if let Some(threads) = arguments.threads {
        tch::set_num_threads(threads.get().into());
    }
    let device = device(&arguments.device)?;
    let source = source::find(arguments.data.as_deref())?;
    let data = FashionMnist::read(&source, &config, device)?;
    let teacher = arguments.teacher.as_deref().map(|path| read_teacher(path, device)).transpose()?;
    seed_everything(config.seed);
    let learner = Learner::create(arguments.model, &config, device)?;
    println!("{:?}: {} parameters, on {}", arguments.model, learner.parameters(), describe(device));
    let held_out = match config.validation_images {
        Some(_) => "held-out training images as \"test\"",
        None => "test images",
    };
    println!("data: {source}, {} training images, {} {held_out}", data.train.len(), data.test.len());

    let mut trainer = Trainer::new(&learner, &config)?;
    trainer.recipe = arguments.recipe(soft)?;
    let stem = arguments.out.join(arguments.stem());
    let checkpoint = arguments.out.join(format!("{}_checkpoint.safetensors", arguments.stem()));
    if arguments.resume {
        let done = trainer.resume(&learner, &checkpoint, &data.train)?;
        println!("resuming after {done} epochs");
    } else if checkpoint.exists() {
        let problem = "is the checkpoint of an unfinished training; add --resume to continue it, or delete it";
        return Err(Error::file(checkpoint, problem));
    }
    let bar = bar(0, "{prefix} {bar:30} {pos}/{len}  {msg}");
    let shown = bar.clone();
    trainer.on_step = Some(Box::new(move |step| show(&shown, step)));
    for _ in trainer.epochs() {
        let score = trainer.epoch(&data.train, |images, labels| {
            let Some(teacher) = &teacher else { return learner.step(images, labels, Loss::CrossEntropy) };
            let teacher = &teacher.predict(images)?;
            let hard = Loss::Hard { loss: Default::default(), teacher };
            learner.step(images, labels, soft.map_or(hard, |loss| Loss::Soft { loss, teacher }))
        })?;
        let epoch = trainer.record(score, &evaluate(&learner, &data.test)?);
        bar.suspend(|| println!("{epoch}"));
        trainer.save(&learner, &checkpoint)?;
    }
    bar.finish_and_clear();
    if let Some(teacher) = &teacher {
        let heads = evaluate_heads(&data.test, |images| learner.heads(images))?;
        trainer.history.scores = distillation_scores(&heads[0], &heads[1], &evaluate(teacher, &data.test)?)?;
        trainer.history.made_with.insert("recipe".into(), trainer.recipe.clone());
    }
    for extension in ["pt", "safetensors"] {
        checkpoint::write(stem.with_extension(extension), &checkpoint::state_dict(learner.variables()))?;
    }
    trainer.history.write(stem.with_extension("json"))?;
    // The training is complete, and the next one in this folder starts anew.
    std::fs::remove_file(&checkpoint).ok();
    println!("written: {}.pt, .safetensors and .json", stem.display());
    Ok(())
}

impl Arguments {
    fn config(&self) -> Result<Config> {
        let mut config = self.config.as_ref().map_or_else(|| Ok(Config::default()), Config::read)?;
        if let Some(epochs) = self.epochs {
            config.epochs = epochs;
            config.warmup_epochs = config.warmup_epochs.min(epochs);
        }
        config.seed = self.seed.unwrap_or(config.seed);
        config.check()?;
        if config.load_model {
            let problem = "LOAD_MODEL is true in the configuration, but `vitlab train` trains; set it to false";
            return Err(Error::argument(problem));
        }
        Ok(config)
    }

    /// The soft loss, or `None` for hard distillation and without a teacher.
    fn soft(&self) -> Result<Option<SoftDistillationLoss>> {
        let &Arguments { tau, lambda, .. } = self;
        let problem = if self.teacher.is_some() && self.model != ModelKind::Deit {
            "--teacher goes with --model deit only".to_string()
        } else if self.soft && self.model != ModelKind::Deit {
            "--soft goes with --model deit only".to_string()
        } else if !(tau.is_finite() && tau > 0.0) {
            format!("--tau {tau}: a temperature is a positive number")
        } else if !(0.0..=1.0).contains(&lambda) {
            format!("--lambda {lambda}: give a weight from 0 to 1")
        } else {
            return Ok(self.soft.then_some(SoftDistillationLoss { tau, lambda, ..Default::default() }));
        };
        Err(Error::argument(problem))
    }

    /// File name of the weights without extension; the ViT's is the homework's.
    fn stem(&self) -> &'static str {
        match self.model {
            ModelKind::Vit => "ViT_model",
            ModelKind::Cnn => "teacher_model",
            ModelKind::Deit => "DeiT_model",
        }
    }

    /// Model, loss and the checksum of the teacher's weights, which a checkpoint must have been trained with.
    fn recipe(&self, soft: Option<SoftDistillationLoss>) -> Result<String> {
        let Some(teacher) = &self.teacher else { return Ok(self.stem().to_string()) };
        let digest = std::fs::File::open(teacher)
            .and_then(checksum::md5)
            .map_err(|e| Error::file(teacher, format!("can't be read ({e}); name the teacher's checkpoint file")))?;
        let loss = soft.map_or("hard".to_string(), |soft| format!("soft ({}, {})", soft.tau, soft.lambda));
        Ok(format!("{}, {loss} distillation, teacher {digest}", self.stem()))
    }
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
