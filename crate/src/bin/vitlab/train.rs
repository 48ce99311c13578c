//! `vitlab train`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use tch::Device;
use vitlab::checkpoint;
use vitlab::data::{Dataset, FashionMnist, seed_everything, source};
use vitlab::device::{describe, device};
use vitlab::distill::SoftDistillationLoss;
use vitlab::metrics::evaluate_with;
use vitlab::model::Model;
use vitlab::train::{Step, Trainer};
use vitlab::{Config, Error, Result};
use vitlab_dataset::checksum;

use crate::evaluate::evaluate_heads;
use crate::kind::{Kind, Network};
use crate::learner::{Learner, Lesson};

/// Train a model; write its weights, history and configuration.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_enum)]
    model: Kind,
    /// Weights of the CNN that the student (--model deit) learns from.
    #[arg(long, value_name = "FILE", required_if_eq("model", "deit"))]
    teacher: Option<PathBuf>,
    /// Follow the teacher's probabilities instead of its decision (DeiT's soft distillation).
    #[arg(long)]
    soft: bool,
    /// Temperature of both probabilities, with --soft.
    #[arg(long, value_name = "T", requires = "soft", default_value_t = SoftDistillationLoss::default().tau)]
    tau: f64,
    /// Weight of the teacher against the label, 0 to 1, with --soft.
    #[arg(long, value_name = "W", requires = "soft", default_value_t = SoftDistillationLoss::default().lambda)]
    lambda: f64,
    /// Constants of the run in JSON by the homework's names; what it leaves out keeps the homework's value.
    #[arg(long, value_name = "FILE.json")]
    config: Option<PathBuf>,
    /// Instead of the configuration's EPOCHS; a longer warm-up is cut to it.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    #[arg(long, value_name = "N")]
    seed: Option<i64>,
    /// Threads of libtorch; the result of a seed depends on it in the last bits.
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZeroU16>,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// Folder with FashionMNIST, or `synthetic` for the drawn stand-in.
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
    let mut config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(epochs) = arguments.epochs {
        config.epochs = epochs;
        config.warmup_epochs = config.warmup_epochs.min(epochs);
    }
    config.seed = arguments.seed.unwrap_or(config.seed);
    config.check()?;
    if let Some(threads) = arguments.threads {
        tch::set_num_threads(threads.get().into());
    }
    let device = device(&arguments.device)?;
    let source = source::find(arguments.data.as_deref())?;
    let data = FashionMnist::read(&source, &config, device)?;
    let mut teacher = match &arguments.teacher {
        Some(path) if arguments.model == Kind::Deit => Some(read_teacher(path, device)?),
        Some(_) => return Err(Error::argument("--teacher goes with --model deit only")),
        None => None,
    };
    if arguments.soft && arguments.model != Kind::Deit {
        return Err(Error::argument("--soft goes with --model deit only"));
    }
    let soft = arguments.soft()?;
    if config.load_model {
        return Err(Error::argument(
            "LOAD_MODEL is true in the configuration, but `vitlab train` trains; set it to false",
        ));
    }
    seed_everything(config.seed);
    let mut learner = Learner::new(Network::new(arguments.model, &config, device)?);
    println!("{:?}: {} parameters, on {}", arguments.model, learner.network.parameters(), describe(device));
    let held_out = match config.validation_images {
        Some(_) => "held-out training images as \"test\"",
        None => "test images",
    };
    println!("data: {source}, {} training images, {} {held_out}", data.train.len(), data.test.len());

    let mut trainer = Trainer::new(&learner.network, &config)?;
    trainer.recipe = recipe(&arguments)?;
    let stem = arguments.out.join(arguments.model.stem());
    let checkpoint = arguments.out.join(format!("{}_checkpoint.safetensors", arguments.model.stem()));
    if arguments.resume {
        let done = trainer.resume(&learner.network, &checkpoint, &data.train)?;
        println!("resuming after {done} epochs");
    } else if checkpoint.exists() {
        let problem = "is the checkpoint of an unfinished training; add --resume to go on with it, or delete it";
        return Err(Error::file(checkpoint, problem));
    }
    let bar = progress_bar();
    let shown = bar.clone();
    trainer.on_step = Some(Box::new(move |step| show(&shown, step)));
    for _ in trainer.epochs() {
        let score = trainer.epoch(&data.train, |images, labels| {
            let teacher = match &mut teacher {
                Some(teacher) => Some(teacher.predict(images)?),
                None => None,
            };
            let lesson = teacher.as_ref().map(|teacher| Lesson { teacher, soft });
            learner.step(images, labels, lesson)
        })?;
        let test = evaluate_with(&data.test, |images| learner.predict(images))?;
        let epoch = trainer.record(score, &test);
        bar.suspend(|| println!("{epoch}"));
        trainer.save(&learner.network, &checkpoint)?;
    }
    bar.finish_and_clear();
    if let Some(teacher) = &mut teacher {
        trainer.history.scores = scores(&mut learner, teacher, &data.test)?;
        let recipe = trainer.recipe.clone();
        trainer.history.made_with.insert("recipe".into(), recipe);
    }

    for extension in ["pt", "safetensors"] {
        checkpoint::write(stem.with_extension(extension), &checkpoint::state_dict(learner.network.variables()))?;
    }
    trainer.history.write(stem.with_extension("json"))?;
    // Complete: the next training here starts anew.
    std::fs::remove_file(&checkpoint).ok();
    println!("written: {}.pt, .safetensors and .json", stem.display());
    Ok(())
}

impl Arguments {
    /// None for hard distillation.
    fn soft(&self) -> Result<Option<SoftDistillationLoss>> {
        let &Arguments { tau, lambda, .. } = self;
        if !(tau.is_finite() && tau > 0.0) {
            return Err(Error::argument(format!("--tau {tau}: a temperature is a positive number")));
        }
        if !(0.0..=1.0).contains(&lambda) {
            return Err(Error::argument(format!("--lambda {lambda}: give a weight from 0 to 1")));
        }
        let chosen = SoftDistillationLoss { tau, lambda, ..Default::default() };
        Ok(self.soft.then_some(chosen))
    }
}

/// What a checkpoint must have been trained as: model, loss and the teacher's very weights.
fn recipe(arguments: &Arguments) -> Result<String> {
    let Some(teacher) = &arguments.teacher else {
        return Ok(arguments.model.stem().to_string());
    };
    let digest = std::fs::File::open(teacher)
        .and_then(checksum::md5)
        .map_err(|e| Error::file(teacher, format!("can't be read ({e}); name the teacher's weight file")))?;
    let kind = match arguments.soft()? {
        Some(soft) => format!("soft ({}, {})", soft.tau, soft.lambda),
        None => "hard".to_string(),
    };
    Ok(format!("{}, {kind} distillation, teacher {digest}", arguments.model.stem()))
}

fn read_teacher(path: &std::path::Path, device: Device) -> Result<Learner> {
    match Network::read(path, device)? {
        teacher @ Network::Cnn(_) => Ok(Learner::new(teacher)),
        _ => Err(Error::file(path, "is not a CNN; train one with `vitlab train --model cnn`")),
    }
}

/// What a student's history says beyond its accuracy: each head's accuracy, and how often they and their mean decide as
/// the teacher does.
fn scores(student: &mut Learner, teacher: &mut Learner, data: &Dataset) -> Result<BTreeMap<String, f64>> {
    let results = evaluate_heads(student, data)?;
    let decided = evaluate_with(data, |images| teacher.predict(images))?.predictions();
    let mut scores = BTreeMap::new();
    for (name, (_, evaluation)) in ["average", "class", "distillation"].iter().zip(&results) {
        let same = evaluation.predictions().eq_tensor(&decided);
        let agreement = same.to_kind(tch::Kind::Double).mean(tch::Kind::Double);
        scores.insert(format!("{name} agreement"), agreement.double_value(&[]));
        if *name != "average" {
            scores.insert(format!("{name} accuracy"), evaluation.accuracy);
        }
    }
    Ok(scores)
}

fn progress_bar() -> ProgressBar {
    let template = "{prefix} {bar:30} {pos}/{len}  {msg}";
    ProgressBar::new(0).with_style(ProgressStyle::with_template(template).expect("a valid template"))
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
        indicatif::HumanDuration(step.left)
    ));
}
