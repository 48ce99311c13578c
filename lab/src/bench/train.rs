//! Training steps, from the data on: vitlab's and PyTorch's in turns.

use serde_json::{Value, json};

use super::{Bench, Sample, Section, Worker, Workers, format_rounds, number, optional};
use crate::system::{Error, Progress, Result};

/// Floating-point operations of one training step of the homework's ViT, in 10⁹, with all tokens of all blocks.
const GFLOP_PER_STEP: f64 = 9.07;
const BATCH: u32 = 128;
/// Full batches in 60,000 images.
const STEPS_PER_EPOCH: u32 = 468;
/// Steps before the first round of a model.
const WARM_UP: u32 = 3;
/// Rows and columns of the matrices whose product gives the lower bound (floor) of a step's time.
const FLOOR_SIZE: u32 = 2048;

/// The student by the recipe of 20 epochs, in requests.
pub const MATCHING: &str = "deit-matching";

/// Title, and name in requests to vitlab and to PyTorch.
const MODELS: [(&str, &str, &str); 6] = [
    ("ViT", "vit", "vit"),
    ("ViT, vitlab in bfloat16", "vit-bfloat16", "vit"),
    ("DeiT with teacher", "deit", "deit"),
    ("DeiT, the recipe of 20 epochs", MATCHING, MATCHING),
    ("CNN", "cnn", "cnn"),
    ("CNN, vitlab in bfloat16", "cnn-bfloat16", "cnn"),
];

/// One implementation of a model, with its measurements.
struct Implementation {
    /// Key in the JSON.
    key: &'static str,
    name: &'static str,
    /// Name of the model in requests.
    model: String,
    /// Seconds per training step of each round, data and optimizer included.
    step: Sample,
    peak_mb: Option<f64>,
    /// Seconds of a whole epoch, if one was measured.
    epoch: Option<f64>,
}

impl Implementation {
    fn new(key: &'static str, name: &'static str, model: impl Into<String>) -> Self {
        Implementation { key, name, model: model.into(), step: Sample::default(), peak_mb: None, epoch: None }
    }

    fn train(&self, worker: &mut Worker, steps: u32) -> Result<Value> {
        worker.ask(&json!({ "do": "train", "model": self.model, "steps": steps }))
    }

    fn add_round(&mut self, worker: &mut Worker, steps: u32) -> Result<()> {
        let answer = self.train(worker, steps)?;
        self.step.0.push(number(&answer, "seconds")? / f64::from(steps));
        self.peak_mb = self.peak_mb.into_iter().chain(answer["peak_mb"].as_f64()).reduce(f64::max);
        Ok(())
    }

    /// Seconds of an epoch at the speed of the steps.
    fn scaled_epoch(&self) -> Sample {
        self.step.map(|seconds| seconds * f64::from(STEPS_PER_EPOCH))
    }

    /// The lower bound of a step's time, as a share of the measured time.
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

    fn row(&self, title: &str, floor: Option<f64>, ratio: Option<&Sample>) -> Vec<String> {
        vec![
            title.to_string(),
            self.name.to_string(),
            self.step.map(|seconds| seconds * 1e3).text(0),
            match self.epoch {
                Some(seconds) => format!("{seconds:.1} (whole)"),
                None => format!("{:.1}", self.scaled_epoch().median()),
            },
            format!("{:.0}", f64::from(BATCH) / self.step.median()),
            optional(self.peak_mb, |mb| format!("{mb:.0}")),
            optional(floor, |gflops| format!("{:.0} %", 100.0 * self.share_of_floor(gflops))),
            optional(ratio, |ratio| ratio.text(2)),
        ]
    }
}

struct ModelRun {
    /// vitlab's, PyTorch's with the homework's code, for the ViT also by torch.compile, and PyTorch's as an expert writes it.
    implementations: Vec<Implementation>,
    compile_error: Option<Error>,
    /// Speed of the matrix product before and after, in GFLOP/s.
    gflops: [f64; 2],
}

/// The reason why the processor can't train the model, or its measurements.
fn measure_model(
    bench: &Bench,
    workers: &Workers,
    (title, model, reference): (&'static str, &'static str, &'static str),
    progress: &Progress,
) -> Result<std::result::Result<ModelRun, Error>> {
    progress.message(&format!("{title}: warming up"));
    let mut pairs = vec![
        (Implementation::new("ours", "vitlab", model), workers.vitlab()?),
        (Implementation::new("eager", "PyTorch", reference), workers.pytorch()?),
    ];
    let gflops = |worker: &mut Worker| number(&worker.ask(&json!({ "do": "floor", "size": FLOOR_SIZE }))?, "gflops");
    let before = gflops(&mut pairs[0].1)?;
    for (implementation, worker) in &mut pairs {
        match implementation.train(worker, WARM_UP) {
            Err(error) if implementation.model == "vit-bfloat16" => return Ok(Err(error)),
            answer => answer?,
        };
    }
    let mut compile_error = None;
    if model == "vit" && !bench.quick {
        progress.message("ViT: torch.compile");
        let compiled = Implementation::new("compile", "PyTorch, torch.compile", "vit-compile");
        let mut worker = workers.pytorch()?;
        match compiled.train(&mut worker, WARM_UP) {
            Ok(_) => pairs.push((compiled, worker)),
            Err(error) => compile_error = Some(error),
        }
    }
    if model == reference && model != MATCHING {
        progress.message(&format!("{title}: PyTorch as an expert writes it"));
        let request = format!("{model}-expert{}", if bench.quick { "-plain" } else { "" });
        let mut expert = Implementation::new("expert", "PyTorch, expert", request);
        let mut worker = workers.pytorch()?;
        if expert.train(&mut worker, WARM_UP)?["compiled"] == true {
            expert.name = "PyTorch, expert, torch.compile";
        }
        pairs.push((expert, worker));
    }
    for round in 1..=bench.rounds() {
        progress.message(&format!("{title}: round {round} of {}", bench.rounds()));
        for (implementation, worker) in &mut pairs {
            implementation.add_round(worker, steps_per_round(bench))?;
        }
    }
    if model == "vit" && bench.epoch {
        for (implementation, worker) in pairs.iter_mut().take(2) {
            progress.message(&format!("ViT: a whole epoch of {}", implementation.name));
            implementation.epoch = Some(number(&implementation.train(worker, STEPS_PER_EPOCH)?, "seconds")?);
        }
    }
    let gflops = [before, gflops(&mut pairs[0].1)?];
    let implementations = pairs.into_iter().map(|(implementation, _)| implementation).collect();
    Ok(Ok(ModelRun { implementations, compile_error, gflops }))
}

fn steps_per_round(bench: &Bench) -> u32 {
    bench.steps.unwrap_or(bench.amount(5, 20))
}

pub fn measure(bench: &Bench, workers: &Workers, result: &mut Value) -> Result<Section> {
    let progress = Progress::new("Training");
    let runs = MODELS.into_iter().map(|model| measure_model(bench, workers, model, &progress));
    let runs = runs.collect::<Result<Vec<_>>>()?;
    progress.finish("measured");
    // The fastest product of the run shows best what the machine can do.
    let gflops = runs.iter().flatten().flat_map(|run| run.gflops).fold(0.0, f64::max);
    let mut models = json!({});
    let (mut rows, mut bars, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for ((title, model, _), run) in MODELS.into_iter().zip(runs) {
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                notes.push(format!("{title} is left out: {error}."));
                continue;
            }
        };
        let vit = model == "vit";
        let (key, floor) = (if vit { "end_to_end" } else { model }, vit.then_some(gflops));
        let vitlab = &run.implementations[0];
        models[model]["ours"] = vitlab.json(floor);
        rows.push(vitlab.row(title, floor, None));
        for pytorch in &run.implementations[1..] {
            let ratio = pytorch.step.over(&vitlab.step);
            models[model][pytorch.key] = pytorch.json(floor);
            let ratios = &mut result["ratio"][pytorch.key];
            ratios[key] = json!(pytorch.step.median() / vitlab.step.median());
            ratios["range"][key] = json!(ratio.range());
            if let (Some(theirs), Some(ours)) = (pytorch.epoch, vitlab.epoch) {
                ratios["whole_epoch"] = json!(theirs / ours);
            }
            rows.push(pytorch.row("", floor, Some(&ratio)));
        }
        bars.push((title, run.implementations[1].step.over(&vitlab.step)));
        notes.extend(run.compile_error.iter().map(|error| format!("torch.compile failed and is left out: {error}.")));
    }
    if bench.quick {
        notes.push("torch.compile is left out because of --quick.".to_string());
    }
    let (rounds, steps, threads) = (bench.rounds(), steps_per_round(bench), bench.threads());
    result["train"] = json!({
        "settings": { "rounds": rounds, "steps": steps, "batch": BATCH, "threads": threads },
        "floor": { "gflops": gflops, "gflop_per_step": GFLOP_PER_STEP },
        "models": models,
        "notes": notes,
    });
    let method = format!(
        "Median (minimum–maximum) of {} of {steps} steps with {BATCH} images. vitlab and PyTorch take turns, with {threads} \
         threads each. A step draws and augments the batch and runs the forward pass, the backward pass and the optimizer. An \
         epoch is {STEPS_PER_EPOCH} steps at this speed. PyTorch is the homework's code; as an expert writes it, the images are \
         one tensor, a batch is augmented at once, AdamW and attention are fused, the CNN's channels come last, no step reads \
         a number back, and torch.compile is used where it is faster (not measured for the recipe of 20 epochs). The floor, a lower bound, is the time of a ViT's {GFLOP_PER_STEP} \
         GFLOP per step at the speed of a product of two {FLOOR_SIZE} × {FLOOR_SIZE} matrices in this run ({gflops:.0} \
         GFLOP/s). vitlab computes less, because it skips the rows of the last block that the classifier doesn't read.",
        format_rounds(rounds)
    );
    notes.insert(0, method);
    let columns = "model | implementation | ms per step | s per epoch | images/s | peak MB | share of floor \
                   | PyTorch's time / vitlab's";
    Ok(Section { name: "train", title: "Training", columns, rows, notes, bars })
}
