//! Attention rollout: vitlab in batches and one by one, against PyTorch's loop over single images.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Bench, Sample, Section, Worker, Workers, format_rounds, number, optional};
use crate::system::{Error, Progress, Result, human_duration};

/// Batch size of `vitlab explain`.
const BATCH: u32 = 400;

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

    fn row(&self, ratio: Option<&Sample>) -> Vec<String> {
        let peak = optional(self.peak_mb, |mb| format!("{mb:.0}"));
        vec![self.name.clone(), self.rates.text(0), peak, optional(ratio, |ratio| ratio.text(1))]
    }
}

/// Returns vitlab's variants and PyTorch's loop.
fn variants(weights: &Path, images: u32, singles: u32) -> (Vec<Variant>, Variant) {
    let variant = |key, label, name: &str, images: u32, batch: u32| Variant {
        key,
        label,
        name: name.to_string(),
        request: json!({ "do": "explain", "weights": weights, "images": images, "batch": batch }),
        rates: Sample::default(),
        peak_mb: None,
    };
    let name = format!("vitlab, {images} images in batches of {BATCH}");
    let mut vitlab = vec![
        variant("batch", "in batches", &name, images, BATCH),
        variant("batch_bfloat16", "in batches, bfloat16", &format!("{name}, bfloat16"), images, BATCH),
        variant("one_by_one", "one by one", "vitlab, one image at a time", singles, 1),
    ];
    vitlab[1].request["precision"] = "bfloat16".into();
    (vitlab, variant("loop", "PyTorch", "PyTorch, one image at a time", singles, 1))
}

pub fn measure(bench: &Bench, workers: &Workers, result: &mut Value) -> Result<Section> {
    let weights = workers.repository.root.join("models/ViT_model.pt");
    if !weights.is_file() {
        let problem = "is missing; bring it back with `git restore models/ViT_model.pt`";
        return Err(Error::file(weights, problem));
    }
    // Images per round, in batches and one by one.
    let images = bench.images.unwrap_or(bench.amount(1000, 10_000));
    let singles = images.min(bench.amount(50, 300));
    let (mut variants, mut pytorch_loop) = variants(&weights, images, singles);
    let progress = Progress::new("Attention rollout");
    progress.message("warming up");
    let (mut vitlab, mut pytorch) = (workers.vitlab()?, workers.pytorch()?);
    // Not every processor has instructions for bfloat16.
    let few = singles.min(20);
    let mut trial = variants[1].request.clone();
    (trial["images"], trial["batch"]) = (few.into(), few.into());
    if let Err(error) = vitlab.ask(&trial) {
        progress.message(&error.to_string());
        variants.remove(1);
    }
    let rounds = bench.rounds();
    for round in 1..=rounds {
        progress.message(&format!("round {round} of {rounds}"));
        variants.iter_mut().try_for_each(|variant| variant.measure(&mut vitlab))?;
        pytorch_loop.measure(&mut pytorch)?;
    }
    let seconds = f64::from(images) / variants[0].rates.median();
    progress.finish(&format!("{images} images in {}", human_duration(Duration::from_secs_f64(seconds))));

    let threads = bench.threads();
    result["explain"] = json!({
        "settings": { "rounds": rounds, "images": images, "one_by_one": singles, "batch": BATCH, "threads": threads },
        "loop": pytorch_loop.json(),
    });
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for variant in variants {
        let speedup = variant.rates.over(&pytorch_loop.rates);
        result["explain"][variant.key] = variant.json();
        let ratios = &mut result["ratio"]["explain"];
        ratios[variant.key] = speedup.median().into();
        ratios["range"][variant.key] = json!(speedup.range());
        rows.push(variant.row(Some(&speedup)));
        bars.push((variant.label, speedup));
    }
    rows.push(pytorch_loop.row(None));
    Ok(Section {
        name: "explain",
        title: "Attention rollout",
        columns: "implementation | images/s | peak MB | PyTorch's time / vitlab's",
        rows,
        notes: vec![format!(
            "An image takes a forward pass, the rollout (max fusion, 0.9 discarded) and a 28 × 28 map. Median \
             (minimum–maximum) of {}. vitlab and PyTorch take turns, with {threads} threads each. PyTorch explains {singles} \
             images one by one, as users of vit-explain do. Each turn begins with up to {BATCH} images that aren't timed.",
            format_rounds(rounds)
        )],
        bars,
    })
}
