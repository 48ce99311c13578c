//! Attention rollout: all images in batches, against the loop over single images that users of vit-explain write.

use std::path::PathBuf;

use serde_json::{Value, json};
use vitlab_dataset::Result;

use super::Measured;
use super::report::{self, Bar, Section};
use super::sample::Sample;
use super::worker::{Sides, Worker, number};
use crate::step::Step;

/// As `vitlab explain` takes them.
const BATCH: u32 = 400;

pub struct Settings {
    pub rounds: u32,
    /// Per turn, in batches.
    pub images: u32,
    /// Per turn, one by one.
    pub singles: u32,
    pub weights: PathBuf,
    pub threads: u32,
}

/// A way to explain, and what it measured.
struct Way {
    /// In the JSON.
    key: &'static str,
    /// In the plot, where there is little room.
    label: &'static str,
    name: String,
    request: Value,
    rates: Sample,
    peak: Option<f64>,
}

pub fn measure(sides: &Sides, settings: &Settings) -> Result<Measured> {
    let step = Step::new("Attention rollout");
    let (rounds, images, singles, threads) = (settings.rounds, settings.images, settings.singles, settings.threads);
    let request = |images: u32, batch: u32, precision: Option<&str>| {
        let mut request = json!({ "do": "explain", "weights": settings.weights, "images": images, "batch": batch });
        if let Some(precision) = precision {
            request["precision"] = precision.into();
        }
        request
    };
    let way =
        |key, label, name: String, request| Way { key, label, name, request, rates: Sample::default(), peak: None };
    let batches = format!("vitlab, {images} images in batches of {BATCH}");
    let mut ways = vec![
        way("batch", "in batches", batches.clone(), request(images, BATCH, None)),
        way(
            "batch_bfloat16",
            "in batches, bfloat16",
            format!("{batches}, bfloat16"),
            request(images, BATCH, Some("bfloat16")),
        ),
        way("one_by_one", "one by one", "vitlab, one image at a time".to_string(), request(singles, 1, None)),
    ];
    let mut eager = way("loop", "PyTorch", "PyTorch, one image at a time".to_string(), request(singles, 1, None));
    step.line("warming up");
    let (mut vitlab, mut torch) = (sides.ours()?, sides.torch()?);
    let few = singles.min(20);
    // Not every processor multiplies bfloat16 numbers itself.
    if let Err(error) = vitlab.ask(&request(few, few, Some("bfloat16"))) {
        step.line(&error.to_string());
        ways.remove(1);
    }
    for round in 1..=rounds {
        step.line(&format!("round {round} of {rounds}"));
        for way in &mut ways {
            way.measure(&mut vitlab)?;
        }
        eager.measure(&mut torch)?;
    }
    let mut ratio = json!({ "range": {} });
    let mut value = json!({
        "settings": { "rounds": rounds, "images": images, "one_by_one": singles, "batch": BATCH, "threads": threads },
        "loop": eager.json(),
    });
    let mut rows = Vec::new();
    let mut bars = Vec::new();
    for way in &ways {
        let times = way.rates.over(&eager.rates);
        let (min, max) = times.range();
        ratio[way.key] = times.median().into();
        ratio["range"][way.key] = json!([min, max]);
        value[way.key] = way.json();
        rows.push(way.row(times.text(1)));
        bars.push(Bar::of(way.label, &times));
    }
    rows.push(eager.row("–".to_string()));
    let section = Section {
        name: "explain",
        title: "Attention rollout",
        columns: &["side", "images/s", "peak MB", "times PyTorch's loop"],
        rows,
        notes: vec![format!(
            "Forward pass, rollout (max fusion, 0.9 discarded) and 28 × 28 map of each image; {} in turns, {threads} threads \
             on either side; median, and least to most. PyTorch's loop takes {singles} images one by one, as users of vit-explain do. \
             A turn begins with up to {BATCH} images that don't count.",
            report::rounds(rounds)
        )],
        bars,
    };
    let seconds = f64::from(images) / ways[0].rates.median();
    step.done(&format!("{images} images in {seconds:.1} s"));
    Ok((value, vec![("explain".to_string(), ratio)], section))
}

impl Way {
    /// Both sides sleep while the other works, and a loop over all images is awake for all but the first of them: some
    /// that don't count go first.
    fn measure(&mut self, worker: &mut Worker) -> Result<()> {
        let mut first = self.request.clone();
        first["images"] = self.request["images"].as_u64().map(|n| n.min(u64::from(BATCH))).into();
        worker.ask(&first)?;
        let answer = worker.ask(&self.request)?;
        let rate = number(&answer, "images")? / number(&answer, "seconds")?;
        self.rates.0.push(rate);
        self.peak = answer["peak_mb"].as_f64();
        Ok(())
    }

    fn json(&self) -> Value {
        json!({ "images_per_second": self.rates.json(), "peak_mb": self.peak })
    }

    fn row(&self, times: String) -> Vec<String> {
        let peak = match self.peak {
            Some(mb) => format!("{mb:.0}"),
            None => "–".to_string(),
        };
        vec![self.name.clone(), self.rates.text(0), peak, times]
    }
}
