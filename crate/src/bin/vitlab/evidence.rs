//! `vitlab evidence`.

use std::path::{Path, PathBuf};

use vitlab::evidence::{Plan, Run};
use vitlab::train::History;
use vitlab::{Error, Result};

use crate::train;

/// Train every run of a plan that has no history yet; an interrupted training is resumed.
///
/// All runs of the first seed are trained before those of the second, so that each seed's runs can share a machine.
#[derive(clap::Args)]
pub struct Arguments {
    /// The trainings, with their seeds. The histories are written into folders beside it.
    #[arg(long, value_name = "FILE.json", default_value = "models/evidence/plan.json")]
    plan: PathBuf,
    /// Folder for weights and checkpoints.
    #[arg(long, value_name = "DIR", default_value = "outputs/evidence")]
    out: PathBuf,
    /// Train these runs only, and their teachers where their weights are missing.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    only: Vec<String>,
    /// Train these seeds only.
    #[arg(long, value_name = "N", num_args = 1.., allow_negative_numbers = true)]
    seeds: Vec<i64>,
    /// List the runs and the seeds that are missing, and train nothing.
    #[arg(long)]
    list: bool,
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    /// Threads of libtorch; the result of a seed depends on it in the last bits.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: i32,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let plan = Plan::read(&arguments.plan)?;
    if let Some(unknown) = arguments.only.iter().find(|name| plan.run(name).is_none()) {
        let names: Vec<&str> = plan.runs.iter().map(|run| run.name.as_str()).collect();
        return Err(Error::argument(format!("--only {unknown}: the plan has the runs {}", names.join(", "))));
    }
    let is_chosen = |seed: &i64| arguments.seeds.is_empty() || arguments.seeds.contains(seed);
    let named = |run: &&Run| arguments.only.is_empty() || arguments.only.contains(&run.name);
    let runs = || plan.runs.iter().filter(|run| !run.untrained).filter(named);
    for run in runs() {
        let seeds = Vec::from_iter(run.seeds.iter().copied().filter(is_chosen));
        let trained = seeds.iter().filter(|&&seed| arguments.history(run, seed).exists()).count();
        println!("{}: {trained} of {} seeds are trained", run.name, seeds.len());
    }
    if arguments.list {
        return Ok(());
    }
    for seed in plan.seeds().into_iter().filter(is_chosen) {
        for run in runs().filter(|run| run.seeds.contains(&seed) && !arguments.history(run, seed).exists()) {
            arguments.train(&plan, run, seed)?;
        }
    }
    Ok(())
}

impl Arguments {
    /// The history's file, beside the plan.
    fn history(&self, run: &Run, seed: i64) -> PathBuf {
        let folder = self.plan.parent().unwrap_or(Path::new(""));
        folder.join(&run.name).join(format!("seed{seed}.json"))
    }

    /// Trains one network, with its teachers before it where their weights are missing, and copies its history.
    fn train(&self, plan: &Plan, run: &Run, seed: i64) -> Result<()> {
        let mut teachers = Vec::new();
        for teacher in &run.teachers {
            let (of, seed) = (plan.run(&teacher.run).expect("a plan is checked"), teacher.seed(seed));
            let weights = self.folder(of, seed).join(format!("{}.safetensors", train::stem(of.model)));
            if !weights.exists() {
                println!("{} needs the weights of {}, seed {seed}", run.name, of.name);
                self.train(plan, of, seed)?;
            }
            teachers.push(weights);
        }
        println!("--- {}, seed {seed}", run.name);
        let out = self.folder(run, seed);
        let mut training = train::Arguments::new(run.model, out.clone());
        training.teacher = teachers;
        training.data = self.data.clone();
        training.threads = Some(self.threads);
        training.resume = true;
        training.train(&run.config(seed)?)?;
        let history = History::read(out.join(format!("{}.json", train::stem(run.model))))?;
        let path = self.history(run, seed);
        let folder = path.parent().expect("it has a folder");
        std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("can't be created ({e})")))?;
        history.write(path)
    }

    fn folder(&self, run: &Run, seed: i64) -> PathBuf {
        self.out.join(&run.name).join(format!("seed{seed}"))
    }
}
