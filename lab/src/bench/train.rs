//! Training steps, from the data on: vitlab's and PyTorch's in turns.

use serde_json::{Value, json};
use vitlab_dataset::Result;

use super::Measured;
use super::report::{self, Bar, Section};
use super::sample::Sample;
use super::worker::{Worker, Workers, number};
use crate::system::progress::Progress;

/// Of one training step of the homework's ViT, with all tokens of all blocks.
const GFLOP_PER_STEP: f64 = 9.07;
const BATCH: u32 = 128;
/// Full batches in 60,000 images.
const STEPS_PER_EPOCH: u32 = 468;
/// Steps before the first round of a model.
const WARM_UP: u32 = 3;
/// Rows and columns of the matrices whose product sets the floor of a step's time.
const FLOOR_SIZE: u32 = 2048;

/// Title, and name in requests to vitlab and to PyTorch.
const MODELS: [(&str, &str, &str); 4] = [
    ("ViT", "vit", "vit"),
    ("DeiT with teacher", "deit", "deit"),
    ("CNN", "cnn", "cnn"),
    ("CNN, vitlab in bfloat16", "cnn-bfloat16", "cnn"),
];
/// Name in requests to PyTorch of the ViT with torch.compile.
const COMPILED_VIT: &str = "vit-compile";

pub struct Settings {
    pub rounds: u32,
    /// Per round.
    pub steps: u32,
    /// Also measure a whole epoch of the ViT.
    pub epoch: bool,
    /// Also measure the ViT with torch.compile.
    pub compile: bool,
    pub threads: u32,
}

/// Times of one implementation with one model.
#[derive(Default)]
struct Timings {
    /// Seconds per training step of each round, data and optimizer included.
    step: Sample,
    peak_mb: Option<f64>,
    /// Seconds of a whole epoch, if one was measured.
    epoch: Option<f64>,
}

impl Timings {
    fn add_round(&mut self, worker: &mut Worker, model: &str, steps: u32) -> Result<()> {
        let answer = worker.ask(&json!({ "do": "train", "model": model, "steps": steps }))?;
        self.step.0.push(number(&answer, "seconds")? / f64::from(steps));
        self.peak_mb = self.peak_mb.into_iter().chain(answer["peak_mb"].as_f64()).reduce(f64::max);
        Ok(())
    }

    fn measure_epoch(&mut self, worker: &mut Worker, model: &str) -> Result<()> {
        let request = json!({ "do": "train", "model": model, "steps": STEPS_PER_EPOCH });
        self.epoch = Some(number(&worker.ask(&request)?, "seconds")?);
        Ok(())
    }

    /// Seconds of an epoch at the speed of the steps.
    fn scaled_epoch(&self) -> Sample {
        self.step.map(|seconds| seconds * f64::from(STEPS_PER_EPOCH))
    }

    /// The floor of a step's time, as a share of the measured time.
    fn share_of_floor(&self, gflops: f64) -> f64 {
        GFLOP_PER_STEP / self.step.median() / gflops
    }

    fn json(&self, floor: Option<f64>) -> Value {
        let mut value = json!({
            "step_seconds": self.step.json(),
            "epoch_seconds": self.scaled_epoch().json(),
            "images_per_second": self.step.map(|seconds| f64::from(BATCH) / seconds).json(),
            "peak_mb": self.peak_mb,
        });
        if let Some(gflops) = floor {
            value["share_of_floor"] = json!(self.share_of_floor(gflops));
        }
        if let Some(seconds) = self.epoch {
            value["whole_epoch_seconds"] = json!(seconds);
        }
        value
    }

    fn row(&self, model: &str, name: &str, floor: Option<f64>, ratio: Option<&Sample>) -> Vec<String> {
        let none = || "–".to_string();
        vec![
            model.to_string(),
            name.to_string(),
            self.step.map(|seconds| seconds * 1e3).text(0),
            match self.epoch {
                Some(seconds) => format!("{seconds:.1} (whole)"),
                None => format!("{:.1}", self.scaled_epoch().median()),
            },
            format!("{:.0}", f64::from(BATCH) / self.step.median()),
            self.peak_mb.map_or_else(none, |mb| format!("{mb:.0}")),
            floor.map_or_else(none, |gflops| format!("{:.0} %", 100.0 * self.share_of_floor(gflops))),
            ratio.map_or_else(none, |ratio| ratio.text(2)),
        ]
    }
}

/// The measurements of one model.
struct ModelRun {
    title: &'static str,
    model: &'static str,
    vitlab: Timings,
    pytorch: Timings,
    /// torch.compile's, or why it failed.
    compiled: Option<Result<Timings>>,
    /// Speed of the matrix product before and after, in GFLOP/s.
    gflops: [f64; 2],
}

impl ModelRun {
    fn is_vit(&self) -> bool {
        self.model == "vit"
    }
}

pub fn measure(workers: &Workers, settings: &Settings) -> Result<Measured> {
    let progress = Progress::new("Training");
    let runs: Result<Vec<_>> =
        MODELS.into_iter().map(|model| measure_model(workers, settings, model, &progress)).collect();
    let measured = summarise(settings, &runs?);
    progress.finish("measured");
    Ok(measured)
}

fn measure_model(
    workers: &Workers,
    settings: &Settings,
    (title, model, reference): (&'static str, &'static str, &'static str),
    progress: &Progress,
) -> Result<ModelRun> {
    progress.message(&format!("{title}: warming up"));
    let (mut vitlab, mut pytorch) = (workers.vitlab()?, workers.pytorch()?);
    let floor = json!({ "do": "floor", "size": FLOOR_SIZE });
    let before = number(&vitlab.ask(&floor)?, "gflops")?;
    Timings::default().add_round(&mut vitlab, model, WARM_UP)?;
    Timings::default().add_round(&mut pytorch, reference, WARM_UP)?;
    let mut compiler = None;
    if model == "vit" && settings.compile {
        progress.message("ViT: torch.compile");
        let mut worker = workers.pytorch()?;
        compiler = Some(Timings::default().add_round(&mut worker, COMPILED_VIT, WARM_UP).map(|()| worker));
    }
    let mut compiled = compiler.as_ref().is_some_and(Result::is_ok).then(Timings::default);
    let (mut ours, mut theirs) = (Timings::default(), Timings::default());
    for round in 1..=settings.rounds {
        progress.message(&format!("{title}: round {round} of {}", settings.rounds));
        ours.add_round(&mut vitlab, model, settings.steps)?;
        theirs.add_round(&mut pytorch, reference, settings.steps)?;
        if let (Some(compiled), Some(Ok(worker))) = (&mut compiled, &mut compiler) {
            compiled.add_round(worker, COMPILED_VIT, settings.steps)?;
        }
    }
    if model == "vit" && settings.epoch {
        progress.message("ViT: a whole epoch of vitlab");
        ours.measure_epoch(&mut vitlab, model)?;
        progress.message("ViT: a whole epoch of PyTorch");
        theirs.measure_epoch(&mut pytorch, model)?;
    }
    Ok(ModelRun {
        title,
        model,
        vitlab: ours,
        pytorch: theirs,
        compiled: compiler.map(|worker| worker.map(|_| compiled.unwrap_or_default())),
        gflops: [before, number(&vitlab.ask(&floor)?, "gflops")?],
    })
}

fn summarise(settings: &Settings, runs: &[ModelRun]) -> Measured {
    // The fastest product of the run shows best what the machine can do.
    let gflops = runs.iter().flat_map(|run| run.gflops).fold(0.0, f64::max);
    let (mut models, mut eager, mut compiled) = (json!({}), json!({}), json!({}));
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    let mut notes = Vec::new();
    for run in runs {
        let ModelRun { title, model, vitlab, pytorch, .. } = run;
        let floor = run.is_vit().then_some(gflops);
        let key = if run.is_vit() { "end_to_end" } else { model };
        let ratio = pytorch.step.over(&vitlab.step);
        eager[key] = json!(pytorch.step.median() / vitlab.step.median());
        eager["range"][key] = ratio.range_json();
        models[model] = json!({ "ours": vitlab.json(floor), "eager": pytorch.json(floor) });
        bars.push(Bar::of(title, &ratio));
        rows.push(vitlab.row(title, "vitlab", floor, None));
        rows.push(pytorch.row("", "PyTorch", floor, Some(&ratio)));
        if let (Some(ours), Some(theirs)) = (vitlab.epoch, pytorch.epoch) {
            eager["whole_epoch"] = json!(theirs / ours);
        }
        match &run.compiled {
            Some(Ok(timings)) => {
                let ratio = timings.step.over(&vitlab.step);
                compiled["end_to_end"] = json!(timings.step.median() / vitlab.step.median());
                compiled["range"] = json!({ "end_to_end": ratio.range_json() });
                models[model]["compile"] = timings.json(floor);
                rows.push(timings.row("", "PyTorch, torch.compile", floor, Some(&ratio)));
            }
            Some(Err(error)) => notes.push(format!("torch.compile failed and is left out: {error}.")),
            None => {}
        }
    }
    if !settings.compile {
        notes.push("torch.compile is left out because of --quick.".to_string());
    }
    let value = json!({
        "settings": { "rounds": settings.rounds, "steps": settings.steps, "batch": BATCH, "threads": settings.threads },
        "floor": { "gflops": gflops, "gflop_per_step": GFLOP_PER_STEP },
        "models": models,
        "notes": notes,
    });
    let mut ratios = vec![("eager", eager)];
    if !compiled["end_to_end"].is_null() {
        ratios.push(("compile", compiled));
    }
    notes.insert(0, method(settings, gflops));
    let columns = &[
        "model",
        "implementation",
        "ms per step",
        "s per epoch",
        "images/s",
        "peak MB",
        "share of floor",
        "PyTorch's time / vitlab's",
    ];
    Measured { value, ratios, section: Section { name: "train", title: "Training", columns, rows, notes, bars } }
}

fn method(settings: &Settings, gflops: f64) -> String {
    let (rounds, steps, threads) = (report::rounds(settings.rounds), settings.steps, settings.threads);
    format!(
        "Median (minimum–maximum) of {rounds} of {steps} steps with {BATCH} images. vitlab and PyTorch take turns, with \
         {threads} threads each. A step draws and augments the batch and runs the forward pass, the backward pass and the \
         optimizer. An epoch is {STEPS_PER_EPOCH} steps at this speed. The floor is the time of a ViT's {GFLOP_PER_STEP} GFLOP \
         per step at the speed of a product of two {FLOOR_SIZE} × {FLOOR_SIZE} matrices in this run ({gflops:.0} GFLOP/s). \
         vitlab computes less, because it skips the rows of the last block that the classifier doesn't read."
    )
}
