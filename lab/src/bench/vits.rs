//! Attention rollout of ViT-S/16 and ViT-B/16: vitlab against timm's model, from the same file of random weights.

use std::path::Path;

use serde_json::{Value, json};

use super::{Bench, Sample, Section, Workers, format_rounds, number};
use crate::system::{Error, Progress, Result};

/// Names for the table, and timm's.
const MODELS: [(&str, &str); 2] = [("ViT-S/16", "vit_small_patch16_224"), ("ViT-B/16", "vit_base_patch16_224")];

/// Images in a pass.
const BATCHES: [u32; 2] = [1, 16];

/// Largest difference of an entry of the rollout, float32's rounding in twelve layers.
const TOLERANCE: f64 = 1e-5;

/// Megabytes of a process during its first pass: the most at any time, and those before the pass.
struct Memory {
    peak: f64,
    before: f64,
}

impl Memory {
    fn read(answer: &Value) -> Option<Self> {
        Some(Memory { peak: answer["peak_mb"].as_f64()?, before: answer["before_mb"].as_f64()? })
    }

    fn own(&self) -> f64 {
        self.peak - self.before
    }

    fn text(memory: Option<&Self>) -> String {
        super::optional(memory, |memory| format!("{:.0} (of {:.0})", memory.own(), memory.peak))
    }

    fn json(memory: Option<&Self>) -> Value {
        memory.map_or(Value::Null, |memory| json!({ "pass": memory.own(), "process": memory.peak }))
    }
}

/// One implementation's images per second in each round, and its memory.
struct Side {
    rates: Sample,
    memory: Option<Memory>,
}

impl Side {
    fn json(&self) -> Value {
        json!({ "images_per_second": self.rates.json(), "peak_mb": Memory::json(self.memory.as_ref()) })
    }
}

/// Measures all models and batches. Without timm in the Python environment, there are no rows.
pub fn measure(bench: &Bench, workers: &Workers, result: &mut Value) -> Result<Section> {
    let folder = tempfile::tempdir().map_err(|error| Error::argument(format!("a temporary folder: {error}")))?;
    let progress = Progress::new("Rollout of ViT-S and ViT-B");
    let (mut rows, mut bars, mut version) = (Vec::new(), Vec::new(), Value::Null);
    for (label, name) in MODELS {
        let weights = folder.path().join(format!("{name}.pt"));
        version = workers.pytorch()?.ask(&json!({ "do": "write_timm", "name": name, "weights": weights }))?;
        if version.is_null() {
            progress.finish("left out, timm isn't installed");
            return Ok(section(Vec::new(), vec![LEFT_OUT.to_string()], Vec::new()));
        }
        for batch in BATCHES {
            progress.message(&format!("{label}, {batch} at a time"));
            let [vitlab, timm] = compare(bench, workers, name, &weights, batch)?;
            let speedup = vitlab.rates.over(&timm.rates);
            let memory =
                vitlab.memory.as_ref().zip(timm.memory.as_ref()).map(|(ours, theirs)| ours.own() / theirs.own());
            let key = format!("{name}_{batch}");
            result["explain_vits"][&key] = json!({ "vitlab": vitlab.json(), "timm": timm.json() });
            result["ratio"]["explain_vits"][&key] =
                json!({ "speed": speedup.median(), "range": speedup.range(), "memory": memory });
            rows.push(vec![
                format!("{label}, {}", if batch == 1 { "one image".into() } else { format!("{batch} images") }),
                vitlab.rates.text(2),
                timm.rates.text(2),
                speedup.text(2),
                Memory::text(vitlab.memory.as_ref()),
                Memory::text(timm.memory.as_ref()),
                super::optional(memory, |ratio| format!("{ratio:.2}")),
            ]);
            bars.push((bar(label, batch), speedup));
        }
    }
    progress.finish("measured");
    let notes = vec![format!(
        "An image takes a forward pass and the class token's row of the rollout (mean fusion, all layers, nothing \
         discarded), 224 × 224 pixels, float32, {} threads. timm {} keeps the attention of all layers by hooks, with its \
         fused attention off, and multiplies in float32; vitlab multiplies in float64. The rows of both agree within \
         {TOLERANCE:e}. Median (minimum–maximum) of {}, in turns. Memory is that of the first pass in a process of its \
         own, in MB: the peak of resident memory beyond what was resident before the pass and, in brackets, the whole \
         process's peak. The first includes libtorch's code and buffers as far as the pass is the first to use them, and \
         leaves out memory that was freed after reading the file and is used again.",
        bench.threads(),
        version.as_str().unwrap_or_default(),
        format_rounds(bench.rounds()),
    )];
    Ok(section(rows, notes, bars))
}

const LEFT_OUT: &str = "Left out: Python has no module timm. Install it with `.venv/bin/python -m pip install timm`.";

fn section(rows: Vec<Vec<String>>, notes: Vec<String>, bars: Vec<(&'static str, Sample)>) -> Section {
    Section {
        name: "explain_vits",
        title: "Attention rollout of ViT-S/16 and ViT-B/16",
        columns: "model | vitlab, images/s | timm, images/s | timm's time / vitlab's | vitlab, MB | timm, MB | vitlab's MB / timm's",
        rows,
        notes,
        bars,
    }
}

fn bar(label: &str, batch: u32) -> &'static str {
    match (label, batch) {
        ("ViT-S/16", 1) => "ViT-S, one image",
        ("ViT-S/16", _) => "ViT-S, batch",
        (_, 1) => "ViT-B, one image",
        _ => "ViT-B, batch",
    }
}

/// vitlab and timm in turns, each in a process of its own.
fn compare(bench: &Bench, workers: &Workers, name: &str, weights: &Path, batch: u32) -> Result<[Side; 2]> {
    let mut processes = [workers.vitlab()?, workers.pytorch()?];
    let request =
        |passes| json!({ "do": "explain_vit", "name": name, "weights": weights, "batch": batch, "passes": passes });
    let mut sides = [(); 2].map(|()| Side { rates: Sample::default(), memory: None });
    let mut rows = Vec::new();
    for (process, side) in processes.iter_mut().zip(&mut sides) {
        let answer = process.ask(&request(1))?;
        side.memory = Memory::read(&answer);
        rows.push(answer["row"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Vec<f64>>());
    }
    let apart = rows[0].iter().zip(&rows[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    if rows[0].is_empty() || rows[0].len() != rows[1].len() || apart > TOLERANCE {
        return Err(Error::argument(format!("{name}: vitlab's rollout and timm's are {apart:e} apart")));
    }
    // Images per turn: about two seconds of ViT-B/16 on two cores.
    let passes = (bench.amount(4, 16) / batch).max(1);
    for _ in 0..bench.rounds() {
        for (process, side) in processes.iter_mut().zip(&mut sides) {
            process.ask(&request(1))?; // a worker slows down while it waits for its turn
            let answer = process.ask(&request(passes))?;
            side.rates.0.push(f64::from(passes * batch) / number(&answer, "seconds")?);
        }
    }
    Ok(sides)
}
