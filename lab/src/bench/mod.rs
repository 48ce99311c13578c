//! `cargo lab bench`: the speed of vitlab, beside PyTorch's in the same run.

mod cells;
mod explain;
mod report;
mod sample;
mod setup;
mod to_accuracy;
mod train;
mod vits;
mod worker;

use clap::ValueEnum;

use crate::setup::Setup;
use crate::system::{Repository, Result};
use report::{Section, format_rounds, optional};
use sample::Sample;
use worker::{Worker, Workers, number};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab bench                     everything, about ten minutes
  cargo lab bench train --quick       a rough number within a minute or two
  cargo lab bench train explain --write     into BENCHMARKS.md, with a picture
  cargo lab bench explain --json | jq .ratio
  cargo lab bench train --epoch       with a whole epoch of the ViT for vitlab and PyTorch")]
pub struct Bench {
    /// Parts to measure [default: all]
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
    /// Training steps of ViT, DeiT and CNN, and the time to an accuracy
    Train,
    /// Attention rollout of the test images, and that of ViT-S/16 and ViT-B/16 beside timm if it is installed
    Explain,
    /// A kernel's first and ordinary cells
    Cells,
    /// `cargo lab setup` of a clone that is set up, and of a second clone
    Setup,
}

impl Bench {
    /// Sets the clone up, measures the selected parts and reports them.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let ready = Setup::default().run(repository)?;
        let wanted = |part: &Part| self.parts.is_empty() || self.parts.contains(part);
        let needs_workers = wanted(&Part::Train) || wanted(&Part::Explain);
        let workers = needs_workers.then(|| Workers::new(repository, &ready.data, self.threads())).transpose()?;
        let mut result = report::describe(repository)?;
        let mut sections = Vec::new();
        for part in Part::value_variants().iter().filter(|part| wanted(part)) {
            let workers = || workers.as_ref().expect("started for these parts");
            match part {
                Part::Train => {
                    let accuracies = to_accuracy::accuracies(repository)?;
                    sections.push(train::measure(self, workers(), &mut result)?);
                    sections.push(to_accuracy::derive(&accuracies, &mut result)?);
                }
                Part::Explain => {
                    sections.push(explain::measure(self, workers(), &mut result)?);
                    sections.push(vits::measure(self, workers(), &mut result)?);
                }
                Part::Cells => sections.push(cells::measure(repository, &ready.launch, self.plain, &mut result)?),
                Part::Setup => sections.push(setup::measure(repository, self.cold, &mut result)?),
            }
        }
        if self.write {
            report::write(repository, &result, &sections, workers.as_ref())?;
        }
        let text = if self.json { format!("{result:#}\n") } else { report::terminal(&result, &sections) };
        print!("{text}");
        Ok(())
    }

    fn threads(&self) -> u32 {
        self.threads.unwrap_or_else(cores)
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(self.amount(2, 5))
    }

    /// Returns `quick` with `--quick`, otherwise `full`.
    fn amount(&self, quick: u32, full: u32) -> u32 {
        if self.quick { quick } else { full }
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}
