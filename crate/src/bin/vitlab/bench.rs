//! `vitlab bench`: the Rust side of `cargo lab bench`. It reads one JSON request per line from standard input and answers
//! each with one line, {"ok": …} or {"error": "…"}. `tests/reference/bench.py` speaks the same protocol.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use ndarray::Axis;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use vitlab::config::Precision;
use vitlab::data::{Dataset, FashionMnist, normalise, seed_everything, source};
use vitlab::explain::{Fusion, Heatmap, Query, Rollout};
use vitlab::learner::{Learner, ModelKind, Recipe, pipelined};
use vitlab::plot::{Group, bars};
use vitlab::train::Trainer;
use vitlab::{Config, Error, Result};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// The first request: the folder of FashionMNIST, the number of threads, and the device, which is the CPU if none is
    /// named.
    Hello { data: String, threads: i32, device: Option<String> },
    /// Times the product of two float32 matrices of this size.
    Floor { size: i64 },
    /// Times training steps on the homework's batches, from the start of the training set.
    Train { model: String, steps: i64 },
    /// Times the maps of the first test images, `batch` at a time.
    Explain {
        weights: PathBuf,
        images: i64,
        batch: i64,
        #[serde(default)]
        precision: Precision,
    },
    /// Times the rollout of a batch of made-up images, `passes` times.
    ExplainVit { weights: PathBuf, batch: i64, passes: u32 },
    /// Draws bars: (name, value, half the length of the error bar).
    Plot { out: PathBuf, title: String, label: String, groups: Vec<(String, f64, f64)> },
}

#[derive(Default)]
struct Measurements {
    data: Option<FashionMnist>,
    /// The models of the latest requests.
    training: Option<BenchTraining>,
    explained: Option<((PathBuf, Precision), Learner)>,
    vit: Option<(PathBuf, Learner)>,
}

pub fn run() -> Result<()> {
    let mut measurements = Measurements::default();
    let (stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in stdin.lines().map_while(|line| line.ok()) {
        let reply = serde_json::from_str(&line)
            .map_err(|error| Error::argument(format!("the request can't be read ({error})")))
            .and_then(|request| measurements.answer(request))
            .map_or_else(|error| json!({ "error": error.to_string() }), |value| json!({ "ok": value }));
        // The other side has gone when this fails.
        if writeln!(stdout, "{reply}").and_then(|()| stdout.flush()).is_err() {
            break;
        }
    }
    Ok(())
}

impl Measurements {
    fn answer(&mut self, request: Request) -> Result<Value> {
        match request {
            Request::Hello { data, threads, device } => {
                tch::set_num_threads(threads);
                let source = source::find(Some(&data))?;
                let device = device.map_or(Ok(Device::Cpu), |name| vitlab::device::device(&name))?;
                self.data = Some(FashionMnist::read(&source, &Config::default(), device)?);
                Ok(json!({ "threads": tch::get_num_threads() }))
            }
            Request::Floor { size } => Ok(floor(size)),
            Request::Train { model, steps } => self.train(model, steps),
            Request::Explain { weights, images, batch, precision } => self.explain((weights, precision), images, batch),
            Request::ExplainVit { weights, batch, passes } => self.explain_vit(weights, batch, passes),
            Request::Plot { out, title, label, groups } => {
                let group = |(label, value, error)| Group { label, values: vec![(value, error)] };
                let groups: Vec<Group> = groups.into_iter().map(group).collect();
                let figure = bars(&title, &label, &[], &groups, false)?;
                figure.save(&out)?;
                Ok(json!({ "alt": figure.alt() }))
            }
        }
    }

    fn train(&mut self, model: String, steps: i64) -> Result<Value> {
        let data = &self.data.as_ref().ok_or_else(no_data)?.train;
        let training = match self.training.take() {
            Some(training) if training.model == model => self.training.insert(training),
            _ => self.training.insert(BenchTraining::new(model, data.images.device())?),
        };
        let (images, count) = (steps * Config::default().batch_size, data.len());
        if steps < 1 || images > count {
            return Err(Error::argument(format!("{steps} steps need {images} images, the training set has {count}")));
        }
        let (part, labels) = data.range(0, images);
        let part = Dataset { images: part, labels, split: data.split, origin: data.origin.clone() };
        let BenchTraining { config, learner, teachers, trainer, .. } = training;
        let recipe = Recipe::new(learner, teachers, config)?;
        let (score, seconds, peak) = measured(|| trainer.epoch(&part, |images, labels| recipe.step(images, labels)))?;
        let (loss, fused) = (score.loss, learner.is_fused());
        Ok(json!({ "seconds": seconds, "images": images, "loss": loss, "peak_mb": peak, "fused": fused }))
    }

    fn explain(&mut self, wanted: (PathBuf, Precision), images: i64, batch: i64) -> Result<Value> {
        let test = &self.data.as_ref().ok_or_else(no_data)?.test;
        let (_, learner) = match self.explained.take() {
            Some(same) if same.0 == wanted => self.explained.insert(same),
            _ => {
                let learner = Learner::read(&wanted.0, test.images.device())?.with_precision(wanted.1)?;
                self.explained.insert((wanted, learner))
            }
        };
        let count = test.len();
        if !(1..=count).contains(&images) || batch < 1 {
            let problem = format!("the test set has {count} images, not {images} in batches of {batch}");
            return Err(Error::argument(problem));
        }
        let options = Rollout { fusion: Fusion::Max, discard_ratio: 0.9, ..Rollout::default() };
        let heatmap = Heatmap { prefix_tokens: learner.network().prefix_tokens()?, ..Heatmap::default() };
        let batches = (0..images).step_by(batch as usize).map(|first| {
            let (bytes, _) = test.range(first, (first + batch).min(images));
            learner.rollout(&normalise(&bytes), &options, heatmap.query)
        });
        let mean_of_rows = |(rows, _)| {
            let maps = heatmap.maps_of_rows(&rows)?;
            Ok(f64::from(maps.sum()) / (maps.len() / maps.len_of(Axis(0))) as f64)
        };
        let (sums, seconds, peak) = measured(|| pipelined(batches, mean_of_rows))?;
        let mean = sums.iter().sum::<f64>() / images as f64;
        Ok(json!({ "seconds": seconds, "images": images, "mean": mean, "peak_mb": peak }))
    }

    fn explain_vit(&mut self, weights: PathBuf, batch: i64, passes: u32) -> Result<Value> {
        let (_, learner) = match self.vit.take() {
            Some(same) if same.0 == weights => self.vit.insert(same),
            _ => {
                let learner = Learner::read(&weights, Device::Cpu)?;
                self.vit.insert((weights, learner))
            }
        };
        let (channels, side) = learner.network().image();
        // As tests/reference/bench.py makes them.
        let pixels = Tensor::arange(batch * channels * side * side, (Kind::Int64, Device::Cpu)).remainder(251);
        let images = (pixels.to_kind(Kind::Float) / 125.0 - 1.0).view([batch, channels, side, side]);
        drop(pixels);
        let before = resident("VmRSS:");
        let work = || {
            let pass = || Ok(learner.rollout(&images, &Rollout::default(), Query::Class)?.0); // [B, S]
            (1..passes).try_for_each(|_| pass().map(drop)).and_then(|()| pass())
        };
        let (rows, seconds, peak) = measured(work)?;
        let row = Vec::<f64>::try_from(rows.get(0))?;
        Ok(json!({ "seconds": seconds, "row": row, "before_mb": before, "peak_mb": peak }))
    }
}

fn no_data() -> Error {
    Error::argument("the first request must be `hello`")
}

/// A training as `vitlab train` runs it.
struct BenchTraining {
    model: String,
    config: Config,
    learner: Learner,
    teachers: Vec<Learner>,
    trainer: Trainer,
}

impl BenchTraining {
    fn new(model: String, device: Device) -> Result<Self> {
        let (name, precision) = match model.strip_suffix("-bfloat16") {
            Some(name) => (name, Precision::Bfloat16),
            None => (&model[..], Precision::Float32),
        };
        let kind = match name {
            "vit" => ModelKind::Vit,
            "deit" | "deit-matching" => ModelKind::Deit,
            "cnn" => ModelKind::Cnn,
            _ => return Err(Error::argument(format!("there is no model \"{model}\""))),
        };
        let config = if name == "deit-matching" { Config::twenty_epochs() } else { Config::default() };
        let config = Config { precision, ..config };
        seed_everything(config.seed);
        let mut learner = Learner::create(kind, &config, device)?;
        if kind != ModelKind::Cnn {
            learner = learner.with_training_precision(precision)?;
        }
        let teacher =
            (kind == ModelKind::Deit).then(|| Learner::create(ModelKind::Cnn, &config, device)).transpose()?;
        let trainer = Trainer::new(&learner, &config)?;
        Ok(BenchTraining { model, config, learner, teachers: Vec::from_iter(teacher), trainer })
    }
}

/// GFLOP/s of the best of five products after one that warms up.
fn floor(size: i64) -> Value {
    let matrix = || Tensor::randn([size, size], (Kind::Float, Device::Cpu));
    let (a, b) = (matrix(), matrix());
    let seconds = (0..6).map(|_| {
        let start = Instant::now();
        let _product = a.matmul(&b);
        start.elapsed().as_secs_f64()
    });
    let best = seconds.skip(1).fold(f64::INFINITY, f64::min);
    json!({ "gflops": 2.0 * (size as f64).powi(3) / best / 1e9 })
}

/// The result of `work`, its seconds, and the peak of resident memory in MB where the system tells it.
fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64, Option<f64>)> {
    let _ = std::fs::write("/proc/self/clear_refs", "5"); // Linux resets the peak
    let start = Instant::now();
    let result = work()?;
    let seconds = start.elapsed().as_secs_f64();
    Ok((result, seconds, resident("VmHWM:")))
}

/// A line of the process's status in MB: "VmRSS:" for resident memory, "VmHWM:" for its peak.
fn resident(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: Option<f64> =
        status.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next()?.parse().ok());
    kib.map(|kib| kib * 1024.0 / 1e6)
}
