//! Training steps from the data on: ours and PyTorch's in turns.

use serde_json::{Value, json};
use vitlab_dataset::Result;

use super::Measured;
use super::report::{self, Bar, Section};
use super::sample::Sample;
use super::worker::{Sides, Worker, number};
use crate::step::Step;

/// Of the homework's ViT in one training step, all tokens of all blocks counted.
const GFLOP_PER_STEP: f64 = 9.07;
/// Full batches of 128 in 60,000 images.
const STEPS_PER_EPOCH: u32 = 468;
/// Before the first round of a model.
const WARM_UP: u32 = 3;
/// Rows and columns of the matrices whose product is the floor.
const FLOOR: u32 = 2048;

pub struct Settings {
    pub rounds: u32,
    pub steps: u32,
    pub epoch: bool,
    pub compile: bool,
    pub threads: u32,
}

/// One side's rounds with one model.
#[derive(Default)]
struct Side {
    /// Seconds per training step, data and optimizer included.
    step: Sample,
    peak_mb: Option<f64>,
    /// Seconds of a whole epoch, when one was measured.
    epoch: Option<f64>,
}

impl Side {
    fn turn(&mut self, worker: &mut Worker, model: &str, steps: u32) -> Result<()> {
        let answer = worker.ask(&json!({ "do": "train", "model": model, "steps": steps }))?;
        self.step.0.push(number(&answer, "seconds")? / f64::from(steps));
        self.peak_mb = match (self.peak_mb, answer["peak_mb"].as_f64()) {
            (Some(before), Some(now)) => Some(before.max(now)),
            (before, now) => before.or(now),
        };
        Ok(())
    }

    fn whole_epoch(&mut self, worker: &mut Worker, model: &str) -> Result<()> {
        let request = json!({ "do": "train", "model": model, "steps": STEPS_PER_EPOCH });
        self.epoch = Some(number(&worker.ask(&request)?, "seconds")?);
        Ok(())
    }

    /// What an epoch takes at this pace.
    fn scaled_epoch(&self) -> Sample {
        self.step.map(|seconds| seconds * f64::from(STEPS_PER_EPOCH))
    }

    fn json(&self, floor: Option<f64>) -> Value {
        let mut value = json!({
            "step_seconds": self.step.json(),
            "epoch_seconds": self.scaled_epoch().json(),
            "images_per_second": self.step.map(|seconds| 128.0 / seconds).json(),
            "peak_mb": self.peak_mb,
        });
        if let Some(gflops) = floor {
            value["share_of_floor"] = json!(self.share(gflops));
        }
        if let Some(seconds) = self.epoch {
            value["whole_epoch_seconds"] = json!(seconds);
        }
        value
    }

    fn share(&self, gflops: f64) -> f64 {
        GFLOP_PER_STEP / self.step.median() / gflops
    }

    fn row(&self, model: &str, name: &str, floor: Option<f64>, ratio: Option<&Sample>) -> Vec<String> {
        let none = || "–".to_string();
        let mut row = vec![
            model.to_string(),
            name.to_string(),
            self.step.map(|seconds| seconds * 1e3).text(0),
            self.epoch.map_or_else(
                || format!("{:.1}", self.scaled_epoch().median()),
                |seconds| format!("{seconds:.1} (whole)"),
            ),
            format!("{:.0}", 128.0 / self.step.median()),
            self.peak_mb.map_or_else(none, |mb| format!("{mb:.0}")),
            floor.map_or_else(none, |gflops| format!("{:.0} %", 100.0 * self.share(gflops))),
        ];
        row.push(ratio.map_or_else(none, |ratio| ratio.text(2)));
        row
    }
}

/// Title, name in requests to this crate's side and to PyTorch's.
const MODELS: [(&str, &str, &str); 4] = [
    ("ViT", "vit", "vit"),
    ("DeiT with teacher", "deit", "deit"),
    ("CNN", "cnn", "cnn"),
    ("CNN, ours in bfloat16", "cnn-bfloat16", "cnn"),
];

pub fn measure(sides: &Sides, settings: &Settings) -> Result<Measured> {
    let step = Step::new("Training");
    let floor = json!({ "do": "floor", "size": FLOOR });
    let mut gflops = Vec::new();
    let mut models = json!({});
    let (mut eager, mut compiled, mut ranges) = (json!({}), json!({}), json!({}));
    let (mut rows, mut bars, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut measured = Vec::new();
    for (title, model, reference) in MODELS {
        let mut ours = Side::default();
        let mut theirs = Side::default();
        let mut compile = (model == "vit" && settings.compile).then(Side::default);
        step.line(&format!("{title}: warming up"));
        let (mut vitlab, mut torch, mut compiler) = (sides.ours()?, sides.torch()?, None);
        gflops.push(number(&vitlab.ask(&floor)?, "gflops")?);
        Side::default().turn(&mut vitlab, model, WARM_UP)?;
        Side::default().turn(&mut torch, reference, WARM_UP)?;
        if compile.is_some() {
            step.line("ViT: torch.compile");
            let mut worker = sides.torch()?;
            match Side::default().turn(&mut worker, "vit-compile", WARM_UP) {
                Ok(()) => compiler = Some(worker),
                Err(error) => {
                    notes.push(format!("torch.compile was left out: {error}."));
                    compile = None;
                }
            }
        }
        for round in 1..=settings.rounds {
            step.line(&format!("{title}: round {round} of {}", settings.rounds));
            ours.turn(&mut vitlab, model, settings.steps)?;
            theirs.turn(&mut torch, reference, settings.steps)?;
            if let (Some(compile), Some(worker)) = (&mut compile, &mut compiler) {
                compile.turn(worker, "vit-compile", settings.steps)?;
            }
        }
        if model == "vit" && settings.epoch {
            step.line("ViT: a whole epoch of ours");
            ours.whole_epoch(&mut vitlab, model)?;
            step.line("ViT: a whole epoch of PyTorch's");
            theirs.whole_epoch(&mut torch, model)?;
        }
        gflops.push(number(&vitlab.ask(&floor)?, "gflops")?);
        measured.push((title, model, ours, theirs, compile));
    }
    // The best of the run: the floor is what the machine can do.
    let best = gflops.iter().copied().fold(0.0, f64::max);
    for (title, model, ours, theirs, compile) in &measured {
        let key = if *model == "vit" { "end_to_end" } else { model };
        let floor = (*model == "vit").then_some(best);
        let ratio = theirs.step.over(&ours.step);
        eager[key] = json!(theirs.step.median() / ours.step.median());
        let (min, max) = ratio.range();
        ranges[key] = json!([min, max]);
        models[model] = json!({ "ours": ours.json(floor), "eager": theirs.json(floor) });
        bars.push(Bar::of(title, &ratio));
        rows.push(ours.row(title, "vitlab", floor, None));
        rows.push(theirs.row("", "PyTorch", floor, Some(&ratio)));
        if let (Some(ours), Some(theirs)) = (ours.epoch, theirs.epoch) {
            eager["whole_epoch"] = json!(theirs / ours);
        }
        if let Some(compile) = compile {
            let ratio = compile.step.over(&ours.step);
            let (min, max) = ratio.range();
            compiled["end_to_end"] = json!(compile.step.median() / ours.step.median());
            compiled["range"] = json!({ "end_to_end": [min, max] });
            models[model]["compile"] = compile.json(floor);
            rows.push(compile.row("", "PyTorch, torch.compile", floor, Some(&ratio)));
        }
    }
    eager["range"] = ranges;
    if !settings.compile {
        notes.push("torch.compile was left out because of --quick.".to_string());
    }
    let (rounds, steps, threads) = (settings.rounds, settings.steps, settings.threads);
    let turns = report::rounds(rounds);
    notes.insert(0, format!(
        "{turns} of {steps} steps of 128 images in turns, {threads} threads on either side; median, and least to most. A step \
         is all of it: drawing and augmenting the batch, forward, backward, optimizer. An epoch is 468 steps at that pace. \
         Floor: {GFLOP_PER_STEP} GFLOP per step of the ViT over what a product of two {FLOOR} × {FLOOR} matrices reached in this \
         run ({best:.0} GFLOP/s); vitlab skips what the classifier doesn't read of the last block, which is counted all the same.",
    ));
    let value = json!({
        "settings": { "rounds": rounds, "steps": steps, "batch": 128, "threads": threads },
        "floor": { "gflops": best, "gflop_per_step": GFLOP_PER_STEP },
        "models": models,
        "notes": notes[1..],
    });
    let mut ratios = vec![("eager".to_string(), eager)];
    if !compiled["end_to_end"].is_null() {
        ratios.push(("compile".to_string(), compiled));
    }
    let section = Section {
        name: "train",
        title: "Training",
        columns: &[
            "model",
            "side",
            "ms per step",
            "s per epoch",
            "images/s",
            "peak MB",
            "of the floor",
            "PyTorch's time / vitlab's",
        ],
        rows,
        notes,
        bars,
    };
    step.done("measured");
    Ok((value, ratios, section))
}
