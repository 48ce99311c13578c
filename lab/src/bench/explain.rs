//! Attention rollout: all images in batches, against the loop over single images that users of vit-explain write.

use std::path::PathBuf;

use serde_json::json;
use vitlab::Result;

use super::Measured;
use super::report::{self, Bar, Section};
use super::sample::Sample;
use super::worker::{Sides, number};
use crate::step::Step;

/// As `vitlab explain` takes them.
const BATCH: u32 = 250;

pub struct Settings {
    pub rounds: u32,
    /// Per turn, in batches.
    pub images: u32,
    /// Per turn, one by one.
    pub singles: u32,
    pub weights: PathBuf,
    pub threads: u32,
}

pub fn measure(sides: &Sides, settings: &Settings) -> Result<Measured> {
    let step = Step::new("Attention rollout");
    let request = |images: u32, batch: u32| json!({ "do": "explain", "weights": settings.weights, "images": images, "batch": batch });
    let (many, single) = (
        request(settings.images, BATCH),
        request(settings.singles, 1),
    );
    let mut peaks = [None, None];
    let mut rates = [Sample::default(), Sample::default(), Sample::default()];
    step.line("warming up");
    let (mut vitlab, mut torch) = (sides.ours()?, sides.torch()?);
    let few = settings.singles.min(20);
    vitlab.ask(&request(few.min(settings.images), BATCH))?;
    vitlab.ask(&request(few, 1))?;
    torch.ask(&request(few, 1))?;
    for round in 1..=settings.rounds {
        step.line(&format!("round {round} of {}", settings.rounds));
        let answers = [
            vitlab.ask(&many)?,
            vitlab.ask(&single)?,
            torch.ask(&single)?,
        ];
        for (rate, answer) in rates.iter_mut().zip(&answers) {
            rate.0
                .push(number(answer, "images")? / number(answer, "seconds")?);
        }
        peaks = [&answers[0], &answers[2]].map(|answer| answer["peak_mb"].as_f64());
    }
    let [batched, one, loop_] = &rates;
    let (batch_ratio, one_ratio) = (batched.over(loop_), one.over(loop_));
    let (rounds, images, singles, threads) = (
        settings.rounds,
        settings.images,
        settings.singles,
        settings.threads,
    );
    let range = |sample: &Sample| {
        let (min, max) = sample.range();
        json!([min, max])
    };
    let ratio = json!({
        "batch": batched.median() / loop_.median(),
        "one_by_one": one.median() / loop_.median(),
        "range": { "batch": range(&batch_ratio), "one_by_one": range(&one_ratio) },
    });
    let seconds = f64::from(images) / batched.median();
    let value = json!({
        "settings": { "rounds": rounds, "images": images, "one_by_one": singles, "batch": BATCH, "threads": threads },
        "ours": { "images_per_second": batched.json(), "seconds": seconds, "peak_mb": peaks[0] },
        "ours_one_by_one": { "images_per_second": one.json() },
        "loop": { "images_per_second": loop_.json(), "peak_mb": peaks[1] },
    });
    let none = || "–".to_string();
    let row = |name: String, rate: &Sample, peak: Option<f64>, ratio: Option<&Sample>| {
        vec![
            name,
            rate.text(0),
            peak.map_or_else(none, |mb| format!("{mb:.0}")),
            ratio.map_or_else(none, |ratio| ratio.text(1)),
        ]
    };
    let rows = vec![
        row(
            format!("vitlab, {images} images in batches of {BATCH}"),
            batched,
            peaks[0],
            Some(&batch_ratio),
        ),
        row(
            "vitlab, one image at a time".to_string(),
            one,
            None,
            Some(&one_ratio),
        ),
        row(
            "PyTorch, one image at a time".to_string(),
            loop_,
            peaks[1],
            None,
        ),
    ];
    let section = Section {
        name: "explain",
        title: "Attention rollout",
        columns: &["side", "images/s", "peak MB", "times PyTorch's loop"],
        rows,
        notes: vec![format!(
            "Forward pass, rollout (max fusion, 0.9 discarded) and 28 × 28 map of each image; {} in turns, {threads} threads \
             on either side; median, and least to most. PyTorch's loop takes {singles} images one by one, as users of vit-explain do.",
            report::rounds(rounds)
        )],
        bars: vec![
            Bar::of("vitlab, in batches", &batch_ratio),
            Bar::of("vitlab, one by one", &one_ratio),
        ],
    };
    step.done(&format!("{images} images in {seconds:.1} s"));
    Ok((value, vec![("explain".to_string(), ratio)], section))
}
