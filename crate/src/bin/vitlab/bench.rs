//! `vitlab bench`: the Rust side of `cargo lab bench`. It measures what it is asked for, one JSON request a line on standard
//! input; each gets one line, {"ok": …} or {"error": "…"}. `tests/reference/bench.py` speaks the same.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use ndarray::Axis;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Tensor};
use vitlab::config::Precision;
use vitlab::data::{Dataset, FashionMnist, normalise, seed_everything, source};
use vitlab::explain::{Fusion, Heatmap, Rollout};
use vitlab::plot::{Group, bars};
use vitlab::train::Trainer;
use vitlab::{Config, Error, Result};

use crate::behind::for_each_behind;
use crate::kind::{Kind, Network};
use crate::learner::{Learner, Lesson};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Request {
    /// The first one: where FashionMNIST lies, and how many threads to use.
    Hello { data: String, threads: i32 },
    /// Product of two float32 matrices of this size.
    Floor { size: i64 },
    /// So many training steps of the homework's batch from the data on.
    Train { model: String, steps: i64 },
    /// Maps of the first test images, `batch` at a time.
    Explain {
        weights: PathBuf,
        images: i64,
        batch: i64,
        #[serde(default)]
        precision: Precision,
    },
    /// Bars: (name, value, half the length of its error bar).
    Plot { out: PathBuf, title: String, label: String, groups: Vec<(String, f64, f64)> },
}

#[derive(Default)]
struct Worker {
    data: Option<FashionMnist>,
    training: Option<(String, Training)>,
    explained: Option<((PathBuf, Precision), Learner)>,
}

pub fn run() -> Result<()> {
    let mut worker = Worker::default();
    let (stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in stdin.lines().map_while(|line| line.ok()) {
        let reply = serde_json::from_str(&line)
            .map_err(|error| Error::argument(format!("the request can't be read ({error})")))
            .and_then(|request| worker.answer(request));
        let reply = match reply {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        // Whoever asked has gone when this fails.
        if writeln!(stdout, "{reply}").and_then(|()| stdout.flush()).is_err() {
            break;
        }
    }
    Ok(())
}

impl Worker {
    fn answer(&mut self, request: Request) -> Result<Value> {
        match request {
            Request::Hello { data, threads } => {
                tch::set_num_threads(threads);
                let source = source::find(Some(&data))?;
                self.data = Some(FashionMnist::read(&source, &Config::default(), Device::Cpu)?);
                Ok(json!({ "threads": tch::get_num_threads() }))
            }
            Request::Floor { size } => Ok(floor(size)),
            Request::Train { model, steps } => self.train(&model, steps),
            Request::Explain { weights, images, batch, precision } => self.explain((weights, precision), images, batch),
            Request::Plot { out, title, label, groups } => {
                let groups: Vec<Group> = groups
                    .into_iter()
                    .map(|(label, value, error)| Group { label, values: vec![(value, error)] })
                    .collect();
                let figure = bars(&title, &label, &[], &groups, false)?;
                figure.save(&out)?;
                Ok(json!({ "alt": figure.alt() }))
            }
        }
    }

    fn data(&self) -> Result<&FashionMnist> {
        self.data.as_ref().ok_or_else(no_data)
    }

    fn train(&mut self, model: &str, steps: i64) -> Result<Value> {
        if self.training.as_ref().is_none_or(|(name, _)| name != model) {
            self.training = None;
            self.training = Some((model.to_string(), Training::new(model)?));
        }
        let data = &self.data()?.train;
        let images = steps * Config::default().batch_size;
        if steps < 1 || images > data.len() {
            return Err(Error::argument(format!(
                "{steps} steps need {images} images, the training set has {}",
                data.len()
            )));
        }
        let (part, labels) = data.range(0, images);
        let part = Dataset { images: part, labels, split: data.split, origin: data.origin.clone() };
        let (_, training) = self.training.as_mut().expect("set above");
        reset_peak();
        let start = Instant::now();
        let loss = training.steps(&part)?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(
            json!({ "seconds": seconds, "images": images, "loss": loss, "peak_mb": peak(), "fused": training.learner.is_fused() }),
        )
    }

    fn explain(&mut self, chosen: (PathBuf, Precision), images: i64, batch: i64) -> Result<Value> {
        if self.explained.as_ref().is_none_or(|(before, _)| *before != chosen) {
            let network = Network::read(&chosen.0, Device::Cpu)?;
            let learner = Learner::in_precision(network, chosen.1)?;
            self.explained = Some((chosen, learner));
        }
        let (_, learner) = self.explained.as_mut().expect("set above");
        let data = self.data.as_ref().ok_or_else(no_data)?;
        let test = &data.test;
        if images < 1 || images > test.len() || batch < 1 {
            return Err(Error::argument(format!(
                "{images} images in batches of {batch} were asked for, the test set has {}",
                test.len()
            )));
        }
        let options = Rollout { fusion: Fusion::Max, discard_ratio: 0.9, ..Rollout::default() };
        let heatmap = Heatmap { prefix_tokens: learner.network.prefix_tokens()?, ..Heatmap::default() };
        reset_peak();
        let start = Instant::now();
        let mut total = 0.0;
        let batches = (0..images).step_by(batch as usize).map(|first| {
            let (bytes, _) = test.range(first, (first + batch).min(images));
            learner.rollout(&normalise(&bytes), &options, heatmap.query)
        });
        for_each_behind(
            batches,
            |(rows, _)| heatmap.maps_of_rows(&rows),
            |maps| {
                let pixels = maps.len() / maps.len_of(Axis(0));
                total += f64::from(maps.sum()) / pixels as f64;
            },
        )?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({ "seconds": seconds, "images": images, "mean": total / images as f64, "peak_mb": peak() }))
    }
}

fn no_data() -> Error {
    Error::argument("the first request must be `hello`")
}

/// What a user trains, as `vitlab train` does it.
struct Training {
    learner: Learner,
    teacher: Option<Learner>,
    trainer: Trainer,
}

impl Training {
    fn new(model: &str) -> Result<Self> {
        let (mut config, device) = (Config::default(), Device::Cpu);
        let kind = match model {
            "vit" => Kind::Vit,
            "deit" => Kind::Deit,
            "cnn" => Kind::Cnn,
            "cnn-bfloat16" => {
                config.precision = Precision::Bfloat16;
                Kind::Cnn
            }
            _ => return Err(Error::argument(format!("there is no model \"{model}\""))),
        };
        seed_everything(config.seed);
        let new = |kind| Network::new(kind, &config, device).map(Learner::new);
        let learner = new(kind)?;
        Ok(Training {
            trainer: Trainer::new(&learner.network, &config)?,
            teacher: match kind {
                Kind::Deit => Some(new(Kind::Cnn)?),
                _ => None,
            },
            learner,
        })
    }

    /// The trainer's own epoch over `data`; its loss.
    fn steps(&mut self, data: &Dataset) -> Result<f64> {
        let score = self.trainer.epoch(data, |images, labels| {
            let Some(teacher) = &mut self.teacher else {
                return self.learner.step(images, labels, None);
            };
            let teacher = &teacher.predict(images)?;
            let lesson = Lesson { teacher, soft: None };
            self.learner.step(images, labels, Some(lesson))
        })?;
        Ok(score.loss)
    }
}

/// GFLOP/s of the best of five products after one that warms up.
fn floor(size: i64) -> Value {
    let matrix = || Tensor::randn([size, size], (tch::Kind::Float, Device::Cpu));
    let (a, b) = (matrix(), matrix());
    let seconds = (0..6).map(|_| {
        let start = Instant::now();
        let _product = a.matmul(&b);
        start.elapsed().as_secs_f64()
    });
    let best = seconds.skip(1).fold(f64::INFINITY, f64::min);
    json!({ "gflops": 2.0 * (size as f64).powi(3) / best / 1e9 })
}

/// Linux counts the most memory that was resident since this was written.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// In MB; none where the system doesn't tell.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
