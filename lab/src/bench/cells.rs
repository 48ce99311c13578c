//! The waiting times of a notebook's user: for the kernel, its first cell and ordinary cells.

use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Sample, Section, optional};
use crate::setup::{Launch, kernelspec, venv};
use crate::system::{Error, Progress, Repository, Result, human_duration};

/// Cells as in the notebooks: one brings in the crate, one has a variable, the last has a figure, the others are ordinary.
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

/// Seconds that a user reads before running the first cell.
const PAUSE: u64 = 10;

/// The result of cells.py, in seconds.
#[derive(Deserialize)]
struct Times {
    ready: f64,
    cells: Vec<f64>,
}

pub fn measure(repository: &Repository, launch: &Launch, plain: bool, result: &mut Value) -> Result<Section> {
    let progress = Progress::new("Cells");
    progress.message("a kernel of vitlab");
    let run = |job| run_cells(&mut venv::command(repository, "python"), repository, job, &progress);
    let vitlab = run(json!({ "kernel": kernelspec::NAME, "cells": CELLS }))?;
    let paused = run(json!({ "kernel": kernelspec::NAME, "cells": CELLS[..1], "pause": PAUSE }))?.cells[0];
    result["cells"]["vitlab"] = vitlab.json();
    result["cells"]["vitlab"]["first_after_pause_seconds"] = json!(paused);
    let mut rows = vec![vitlab.row("vitlab", Some(paused))];
    if plain {
        progress.message("a plain evcxr_jupyter, which builds everything in its first cell");
        let plain = run_plain(repository, launch, &progress)?;
        result["cells"]["plain"] = plain.json();
        result["ratio"]["cells"] = json!({
            "first": plain.cells[0] / vitlab.cells[0],
            "ordinary": plain.ordinary().median() / vitlab.ordinary().median(),
            "figure": plain.figure() / vitlab.figure(),
        });
        rows.push(plain.row("plain evcxr_jupyter", None));
    }
    let first = Duration::from_secs_f64(vitlab.cells[0]);
    progress.finish(&format!("the first cell takes {}", human_duration(first)));
    Ok(Section {
        name: "cells",
        title: "Cells of a notebook",
        columns: "kernel | ready, s | first cell (`:dep`), s | first cell after 10 s, s | second cell, s | ordinary cell, s \
                  | cell that ends with a figure, s",
        rows,
        notes: vec![format!(
            "Each kernel is new. The first cell brings in the crate, the second is the first with a variable. Then come {} \
             ordinary cells: median (minimum–maximum). The first cell is sent at once, while evcxr is still starting; in another \
             kernel it is sent {PAUSE} s later, as by a user who reads first.",
            CELLS.len() - 3
        )],
        bars: Vec::new(),
    })
}

/// Runs the cells on the kernel's program as evcxr_jupyter, with libtorch's paths but without vitlab's additions.
fn run_plain(repository: &Repository, launch: &Launch, progress: &Progress) -> Result<Times> {
    let folder = super::setup::temporary_folder()?;
    let mut python = venv::command(repository, "python");
    launch.prepare(&mut python, folder.path());
    let argv = [&launch.kernel.to_string_lossy(), "--control_file", "{connection_file}"];
    run_cells(&mut python, repository, json!({ "argv": argv, "cells": CELLS }), progress)
}

/// Adds the working folder to `job` and runs cells.py on it.
fn run_cells(python: &mut Command, repository: &Repository, mut job: Value, progress: &Progress) -> Result<Times> {
    job["folder"] = json!(repository.notebooks());
    python.args(["-I", "-c", include_str!("../python/cells.py"), &job.to_string()]);
    let mut times = None;
    progress.run(python, |line| {
        times = serde_json::from_str(line).ok().or(times.take());
        None
    })?;
    times.ok_or_else(|| Error::argument("cells.py ran the cells, but printed no times"))
}

impl Times {
    fn ordinary(&self) -> Sample {
        Sample(self.cells[2..self.cells.len() - 1].to_vec())
    }

    fn figure(&self) -> f64 {
        self.cells[self.cells.len() - 1]
    }

    fn json(&self) -> Value {
        json!({
            "ready_seconds": self.ready,
            "first_seconds": self.cells[0],
            "second_seconds": self.cells[1],
            "ordinary_seconds": self.ordinary().json(),
            "figure_seconds": self.figure(),
        })
    }

    fn row(&self, name: &str, paused: Option<f64>) -> Vec<String> {
        vec![
            name.to_string(),
            format!("{:.1}", self.ready),
            format!("{:.1}", self.cells[0]),
            optional(paused, |seconds| format!("{seconds:.1}")),
            format!("{:.1}", self.cells[1]),
            self.ordinary().text(2),
            format!("{:.2}", self.figure()),
        ]
    }
}
