//! `cargo lab bench`: how fast this is, beside PyTorch in the same run.

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

use crate::repository::Repository;
use crate::setup::Setup;
use report::Section;
use worker::Sides;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab bench                     everything, about ten minutes
  cargo lab bench train --quick       a rough number within a minute or two
  cargo lab bench train explain --write     into BENCHMARKS.md, with a picture
  cargo lab bench explain --json | jq .ratio
  cargo lab bench train --epoch       with one whole epoch of the ViT on either side")]
pub struct Bench {
    /// What to measure [default: everything]
    parts: Vec<Part>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write tables and a picture to BENCHMARKS.md as well
    #[arg(long)]
    write: bool,
    /// Few short rounds, no torch.compile
    #[arg(long)]
    quick: bool,
    /// train, explain: how often the sides take turns [default: 5, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// train: training steps per turn [default: 20, with --quick 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=468))]
    steps: Option<u32>,
    /// train: also measure one whole epoch of the ViT on either side
    #[arg(long)]
    epoch: bool,
    /// explain: images per turn of the batched side [default: 10000, with --quick 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    images: Option<u32>,
    /// train, explain: threads of either side [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// cells: also a plain evcxr_jupyter, whose first cell builds everything (minutes)
    #[arg(long)]
    plain: bool,
    /// setup: also from nothing, into a temporary cache folder (a quarter of an hour, 6 GB)
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
    /// `cargo lab setup` when everything is there, and from a second clone
    Setup,
}

impl Part {
    fn name(self) -> String {
        let value = self.to_possible_value().expect("no part is hidden");
        value.get_name().to_string()
    }
}

impl Bench {
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let ready = Setup { python: None, data: None, verbose: false }.run(repository)?;
        let wanted = |part| self.parts.is_empty() || self.parts.contains(&part);
        let threads = self.threads.unwrap_or_else(machine::cores);
        let mut result = Map::from_iter([
            ("date".to_string(), json!(machine::date())),
            ("machine".to_string(), machine::machine()),
            ("versions".to_string(), machine::versions(repository)?),
        ]);
        let mut ratio = Map::new();
        let mut sections = Vec::new();
        let mut add = |part: Part, (value, ratios, section): Measured| {
            result.insert(part.name(), value);
            for (name, value) in ratios {
                ratio.insert(name, value);
            }
            sections.push(section);
        };
        let mut sides = None;
        if wanted(Part::Train) || wanted(Part::Explain) {
            let Source::Folder(folder) = &ready.data else {
                return Err(Error::argument(
                    "the synthetic stand-in has no files for PyTorch to read; unset VITLAB_DATA or name a folder with FashionMNIST",
                ));
            };
            sides = Some(Sides::new(repository, folder, threads)?);
        }
        if let Some(sides) = &sides {
            if wanted(Part::Train) {
                let settings = train::Settings {
                    rounds: self.rounds(),
                    steps: self.steps.unwrap_or(if self.quick { 5 } else { 20 }),
                    epoch: self.epoch,
                    compile: !self.quick,
                    threads,
                };
                add(Part::Train, train::measure(sides, &settings)?);
            }
            if wanted(Part::Explain) {
                let images = self.images.unwrap_or(if self.quick { 1000 } else { 10_000 });
                let settings = explain::Settings {
                    rounds: self.rounds(),
                    images,
                    singles: images.min(if self.quick { 50 } else { 300 }),
                    weights: weights(repository)?,
                    threads,
                };
                add(Part::Explain, explain::measure(sides, &settings)?);
            }
        }
        if wanted(Part::Cells) {
            add(Part::Cells, cells::measure(repository, &ready, self.plain)?);
        }
        if wanted(Part::Setup) {
            add(Part::Setup, setup::measure(repository, self.cold)?);
        }
        result.insert("ratio".to_string(), Value::Object(ratio));
        let result = Value::Object(result);
        if self.write {
            report::write(repository, &result, &sections, sides.as_ref())?;
        }
        if self.json {
            println!("{result:#}");
        } else {
            print!("{}", report::terminal(&result, &sections));
        }
        Ok(())
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }
}

/// A part's place in the JSON, its ratios, and what is shown.
type Measured = (Value, Vec<(String, Value)>, Section);

fn weights(repository: &Repository) -> Result<PathBuf> {
    let path = repository.root.join("models/ViT_model.pt");
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::file(path, "isn't there; train it with `cargo run -p vitlab -- train --model vit --out models`"))
}
