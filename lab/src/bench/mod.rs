//! `cargo lab bench`: the speed of vitlab, beside PyTorch's in the same run.

mod cells;
mod explain;
mod machine;
mod report;
mod sample;
mod setup;
mod train;
mod worker;

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use vitlab_dataset::source::Source;
use vitlab_dataset::{Error, Result};

use crate::setup::{Ready, Setup};
use crate::system::repository::Repository;
use report::Section;
use worker::Workers;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab bench                     everything, about ten minutes
  cargo lab bench train --quick       a rough number within a minute or two
  cargo lab bench train explain --write     into BENCHMARKS.md, with a picture
  cargo lab bench explain --json | jq .ratio
  cargo lab bench train --epoch       with a whole epoch of the ViT for vitlab and PyTorch")]
pub struct Bench {
    /// What to measure [default: everything]
    parts: Vec<Part>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write tables and a picture to BENCHMARKS.md as well
    #[arg(long)]
    write: bool,
    /// Measure few short rounds, without torch.compile
    #[arg(long)]
    quick: bool,
    /// train, explain: rounds in which vitlab and PyTorch take turns [default: 5, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// train: training steps per round [default: 20, with --quick 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=468))]
    steps: Option<u32>,
    /// train: also measure a whole epoch of the ViT for vitlab and PyTorch
    #[arg(long)]
    epoch: bool,
    /// explain: images per round in batches [default: 10000, with --quick 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    images: Option<u32>,
    /// train, explain: threads of vitlab and of PyTorch [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// cells: also measure a plain evcxr_jupyter, whose first cell builds everything (minutes)
    #[arg(long)]
    plain: bool,
    /// setup: also measure a set-up with an empty temporary cache folder (a quarter of an hour, 6 GB)
    #[arg(long)]
    cold: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Training steps of ViT, DeiT and CNN
    Train,
    /// Attention rollout of the test images
    Explain,
    /// A kernel's first and ordinary cells
    Cells,
    /// `cargo lab setup` of a clone that is set up, and of a second clone
    Setup,
}

/// The measurements of a part.
struct Measured {
    /// All of them, as JSON.
    value: Value,
    /// JSON object of ratios to PyTorch or to a plain kernel.
    ratios: Value,
    section: Section,
}

impl Bench {
    /// Sets the clone up, measures the selected parts and reports them.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let ready = Setup::default().run(repository)?;
        let wanted = |part: &Part| self.parts.is_empty() || self.parts.contains(part);
        let workers = match wanted(&Part::Train) || wanted(&Part::Explain) {
            true => Some(self.workers(repository, &ready)?),
            false => None,
        };
        let mut result = Map::from_iter([
            ("date".to_string(), json!(machine::date())),
            ("machine".to_string(), machine::machine()),
            ("versions".to_string(), machine::versions(repository)?),
        ]);
        let (mut ratios, mut sections) = (Map::new(), Vec::new());
        for part in Part::value_variants().iter().filter(|part| wanted(part)) {
            let workers = || workers.as_ref().expect("started for these parts");
            let measured = match part {
                Part::Train => train::measure(workers(), &self.train_settings()),
                Part::Explain => explain::measure(workers(), &self.explain_settings(repository)?),
                Part::Cells => cells::measure(repository, &ready, self.plain),
                Part::Setup => setup::measure(repository, self.cold),
            }?;
            result.insert(measured.section.name.to_string(), measured.value);
            ratios.extend(measured.ratios.as_object().cloned().unwrap_or_default());
            sections.push(measured.section);
        }
        result.insert("ratio".to_string(), Value::Object(ratios));
        let result = Value::Object(result);
        if self.write {
            report::write(repository, &result, &sections, workers.as_ref())?;
        }
        match self.json {
            true => println!("{result:#}"),
            false => print!("{}", report::terminal(&result, &sections)),
        }
        Ok(())
    }

    fn workers<'a>(&self, repository: &'a Repository, ready: &Ready) -> Result<Workers<'a>> {
        let Source::Folder(folder) = &ready.data else {
            return Err(Error::argument(
                "PyTorch can't read the synthetic stand-in, which has no files; unset VITLAB_DATA or name a folder with FashionMNIST",
            ));
        };
        Workers::new(repository, folder, self.threads())
    }

    fn threads(&self) -> u32 {
        self.threads.unwrap_or_else(machine::cores)
    }

    /// Returns `quick` with `--quick`, otherwise `full`.
    fn amount(&self, quick: u32, full: u32) -> u32 {
        if self.quick { quick } else { full }
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(self.amount(2, 5))
    }

    fn train_settings(&self) -> train::Settings {
        train::Settings {
            rounds: self.rounds(),
            steps: self.steps.unwrap_or(self.amount(5, 20)),
            epoch: self.epoch,
            compile: !self.quick,
            threads: self.threads(),
        }
    }

    fn explain_settings(&self, repository: &Repository) -> Result<explain::Settings> {
        let images = self.images.unwrap_or(self.amount(1000, 10_000));
        Ok(explain::Settings {
            rounds: self.rounds(),
            images,
            singles: images.min(self.amount(50, 300)),
            weights: weights(repository)?,
            threads: self.threads(),
        })
    }
}

fn weights(repository: &Repository) -> Result<PathBuf> {
    let path = repository.root.join("models/ViT_model.pt");
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::file(path, "is missing; train it with `cargo run -p vitlab -- train --model vit --out models`"))
}
