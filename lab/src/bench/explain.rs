//! Attention rollout: vitlab in batches and one by one, against PyTorch's loop over single images.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use vitlab_dataset::Result;

use super::Measured;
use super::report::{self, Bar, Section};
use super::sample::Sample;
use super::worker::{Worker, Workers, number};
use crate::system::progress::{Progress, human_duration};

/// Batch size of `vitlab explain`.
const BATCH: u32 = 400;

pub struct Settings {
    pub rounds: u32,
    /// Per round, in batches.
    pub images: u32,
    /// Per round, one by one.
    pub singles: u32,
    pub weights: PathBuf,
    pub threads: u32,
}

/// One way to explain the images, with its measurements.
struct Variant {
    /// Key in the JSON.
    key: &'static str,
    /// Short name for the plot.
    label: &'static str,
    name: String,
    request: Value,
    /// Images per second of each round.
    rates: Sample,
    peak_mb: Option<f64>,
}

impl Variant {
    fn measure(&mut self, worker: &mut Worker) -> Result<()> {
        // A worker slows down while it waits for its turn, so a few images that aren't timed go first.
        let mut warm_up = self.request.clone();
        warm_up["images"] = self.request["images"].as_u64().map(|images| images.min(u64::from(BATCH))).into();
        worker.ask(&warm_up)?;
        let answer = worker.ask(&self.request)?;
        self.rates.0.push(number(&answer, "images")? / number(&answer, "seconds")?);
        self.peak_mb = answer["peak_mb"].as_f64();
        Ok(())
    }

    fn json(&self) -> Value {
        json!({ "images_per_second": self.rates.json(), "peak_mb": self.peak_mb })
    }

    fn row(&self, ratio: String) -> Vec<String> {
        let peak = self.peak_mb.map_or("–".to_string(), |mb| format!("{mb:.0}"));
        vec![self.name.clone(), self.rates.text(0), peak, ratio]
    }
}

/// Returns vitlab's variants and PyTorch's loop.
fn variants(settings: &Settings) -> (Vec<Variant>, Variant) {
    let variant = |key, label, name: String, images: u32, batch: u32| Variant {
        key,
        label,
        name,
        request: json!({ "do": "explain", "weights": settings.weights, "images": images, "batch": batch }),
        rates: Sample::default(),
        peak_mb: None,
    };
    let (images, singles) = (settings.images, settings.singles);
    let batches = format!("vitlab, {images} images in batches of {BATCH}");
    let mut bfloat16 = variant("batch_bfloat16", "in batches, bfloat16", format!("{batches}, bfloat16"), images, BATCH);
    bfloat16.request["precision"] = "bfloat16".into();
    let vitlab = vec![
        variant("batch", "in batches", batches, images, BATCH),
        bfloat16,
        variant("one_by_one", "one by one", "vitlab, one image at a time".to_string(), singles, 1),
    ];
    (vitlab, variant("loop", "PyTorch", "PyTorch, one image at a time".to_string(), singles, 1))
}

pub fn measure(workers: &Workers, settings: &Settings) -> Result<Measured> {
    let progress = Progress::new("Attention rollout");
    let (mut variants, mut pytorch_loop) = variants(settings);
    progress.message("warming up");
    let (mut vitlab, mut pytorch) = (workers.vitlab()?, workers.pytorch()?);
    // Not every processor has instructions for bfloat16.
    let few = settings.singles.min(20);
    let mut trial = variants[1].request.clone();
    (trial["images"], trial["batch"]) = (few.into(), few.into());
    if let Err(error) = vitlab.ask(&trial) {
        progress.message(&error.to_string());
        variants.remove(1);
    }
    for round in 1..=settings.rounds {
        progress.message(&format!("round {round} of {}", settings.rounds));
        for variant in &mut variants {
            variant.measure(&mut vitlab)?;
        }
        pytorch_loop.measure(&mut pytorch)?;
    }
    let seconds = f64::from(settings.images) / variants[0].rates.median();
    progress.finish(&format!("{} images in {}", settings.images, human_duration(Duration::from_secs_f64(seconds))));
    Ok(summarise(settings, &variants, &pytorch_loop))
}

fn summarise(settings: &Settings, variants: &[Variant], pytorch_loop: &Variant) -> Measured {
    let Settings { rounds, images, singles, threads, .. } = settings;
    let mut ratio = json!({ "range": {} });
    let mut value = json!({
        "settings": { "rounds": rounds, "images": images, "one_by_one": singles, "batch": BATCH, "threads": threads },
        "loop": pytorch_loop.json(),
    });
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for variant in variants {
        let speedup = variant.rates.over(&pytorch_loop.rates);
        ratio[variant.key] = speedup.median().into();
        ratio["range"][variant.key] = speedup.range_json();
        value[variant.key] = variant.json();
        rows.push(variant.row(speedup.text(1)));
        bars.push(Bar::of(variant.label, &speedup));
    }
    rows.push(pytorch_loop.row("–".to_string()));
    let section = Section {
        name: "explain",
        title: "Attention rollout",
        columns: &["implementation", "images/s", "peak MB", "PyTorch's time / vitlab's"],
        rows,
        notes: vec![format!(
            "An image takes a forward pass, the rollout (max fusion, 0.9 discarded) and a 28 × 28 map. Median \
             (minimum–maximum) of {}. vitlab and PyTorch take turns, with {threads} threads each. PyTorch explains {singles} \
             images one by one, as users of vit-explain do. Each turn begins with up to {BATCH} images that aren't timed.",
            report::rounds(*rounds)
        )],
        bars,
    };
    Measured { value, ratios: json!({ "explain": ratio }), section }
}
