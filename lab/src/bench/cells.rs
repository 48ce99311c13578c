//! What a user of a notebook waits for: the kernel, its first cell, ordinary cells.

use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use vitlab_dataset::{Error, Result};

use super::Measured;
use super::report::Section;
use super::sample::Sample;
use crate::engine::Engine;
use crate::kernelspec;
use crate::repository::Repository;
use crate::setup::{self, Ready};
use crate::step::Step;

/// As in the notebooks: what brings the crate in, then a variable, a printed value, a function and its use, a tensor, a
/// table's worth of text; last a figure that ends its cell.
const CELLS: [&str; 8] = [
    ":dep vitlab = { path = \"../crate\" }\nuse vitlab::tch::{Device, Kind, Tensor};",
    "let config = vitlab::Config::default();",
    "println!(\"{}\", config.n_patches());",
    "fn twice(x: i64) -> i64 { 2 * x }",
    "let x = Tensor::ones([2, 3], (Kind::Float, Device::Cpu));",
    "println!(\"{:?} {}\", x.size(), twice(21));",
    "for layer in 0..config.n_layers { println!(\"layer {layer}\"); }",
    "vitlab::plot::confusion_matrix(\"Two classes\", &vitlab::ndarray::array![[3, 1], [0, 4]], &[\"a\", \"b\"])?",
];

/// Seconds between a kernel's start and the first cell of somebody who reads what stands above it.
const PAUSE: u64 = 10;

/// What cells.py tells, in seconds.
#[derive(Deserialize)]
struct Times {
    ready: f64,
    cells: Vec<f64>,
}

pub fn measure(repository: &Repository, ready: &Ready, plain: bool) -> Result<Measured> {
    let step = Step::new("Cells");
    step.line("a kernel of vitlab");
    let mut python = setup::program(repository, "python");
    let kernel = json!({ "kernel": kernelspec::NAME, "cells": CELLS });
    let ours = times(&mut python, repository, kernel, &step)?;
    let mut python = setup::program(repository, "python");
    let kernel = json!({ "kernel": kernelspec::NAME, "cells": CELLS[..1], "pause": PAUSE });
    let paused = times(&mut python, repository, kernel, &step)?.cells[0];
    let mut value = json!({ "vitlab": json_of(&ours) });
    value["vitlab"]["first_after_pause_seconds"] = json!(paused);
    let mut ratios = json!({});
    let mut rows = vec![row("vitlab", &ours, Some(paused))];
    if plain {
        step.line("a plain evcxr_jupyter, which builds everything in its first cell");
        let plain = plain_times(repository, &ready.engine, &step)?;
        value["plain"] = json_of(&plain);
        ratios["first"] = json!(plain.cells[0] / ours.cells[0]);
        ratios["ordinary"] = json!(plain.ordinary().median() / ours.ordinary().median());
        ratios["figure"] = json!(plain.figure() / ours.figure());
        rows.push(row("plain evcxr_jupyter", &plain, None));
    }
    let section = Section {
        name: "cells",
        title: "Cells of a notebook",
        columns: &[
            "kernel",
            "ready, s",
            "first cell (`:dep`), s",
            "the same after 10 s, s",
            "second cell, s",
            "ordinary cell, s",
            "cell that ends with a figure, s",
        ],
        rows,
        notes: vec![format!(
            "A fresh kernel; the first cell brings the crate in, the one after it is the first with a variable; then {} \
             ordinary cells, median, and least to most. The first cell is sent at once, when evcxr itself is still starting, and \
             in another kernel {PAUSE} s later, as by somebody who reads first.",
            CELLS.len() - 3
        )],
        bars: Vec::new(),
    };
    step.done(&format!("the first cell takes {:.1} s", ours.cells[0]));
    let ratios = match plain {
        true => vec![("cells".to_string(), ratios)],
        false => Vec::new(),
    };
    Ok((value, ratios, section))
}

/// Without what the kernel `vitlab` does for a user, but with libtorch, which nothing runs without.
fn plain_times(repository: &Repository, engine: &Engine, step: &Step) -> Result<Times> {
    let folder =
        tempfile::tempdir().map_err(|error| Error::argument(format!("no temporary folder can be made ({error})")))?;
    let mut python = setup::program(repository, "python");
    engine.prepare(&mut python, folder.path());
    let argv = [&engine.kernel.to_string_lossy(), "--control_file", "{connection_file}"];
    let kernel = json!({ "argv": argv, "cells": CELLS });
    times(&mut python, repository, kernel, step)
}

fn times(python: &mut Command, repository: &Repository, kernel: Value, step: &Step) -> Result<Times> {
    let mut job = kernel;
    job["folder"] = json!(repository.notebooks());
    python.args(["-I", "-c", include_str!("../python/cells.py"), &job.to_string()]);
    let mut found = None;
    step.run(python, |line| {
        found = serde_json::from_str(line).ok().or(found.take());
        None
    })?;
    found.ok_or_else(|| Error::argument("the cells were run, but their times weren't told"))
}

impl Times {
    /// All but the first two of the cells, of which one builds and the other loads libtorch, and the last.
    fn ordinary(&self) -> Sample {
        Sample(self.cells[2..self.cells.len() - 1].to_vec())
    }

    fn figure(&self) -> f64 {
        self.cells[self.cells.len() - 1]
    }
}

fn json_of(times: &Times) -> Value {
    json!({ "ready_seconds": times.ready, "first_seconds": times.cells[0], "second_seconds": times.cells[1], "ordinary_seconds": times.ordinary().json(), "figure_seconds": times.figure() })
}

fn row(name: &str, times: &Times, paused: Option<f64>) -> Vec<String> {
    vec![
        name.to_string(),
        format!("{:.1}", times.ready),
        format!("{:.1}", times.cells[0]),
        paused.map_or("–".to_string(), |seconds| format!("{seconds:.1}")),
        format!("{:.1}", times.cells[1]),
        times.ordinary().text(2),
        format!("{:.2}", times.figure()),
    ]
}
