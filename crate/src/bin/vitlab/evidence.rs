//! `vitlab evidence`.

use std::path::{Path, PathBuf};

use tch::Device;
use vitlab::data::{FashionMnist, seed_everything, source};
use vitlab::evidence::{Evidence, Measures, Plan, Run, checkpoint_path, fill, history_path, measures_path};
use vitlab::learner::Learner;
use vitlab::train::{Epoch, History};
use vitlab::{Error, Result, file};

use crate::train;

/// Train the runs of a plan that have no history yet, measure the networks, and write the tables of the evidence page.
///
/// All runs of the first seed are trained before those of the second, so that each seed's runs can share a machine. An
/// interrupted training is resumed. The measures are taken as soon as a training has ended, or later where its weights are
/// still there.
#[derive(clap::Args)]
pub struct Arguments {
    /// The trainings, with their seeds. Histories and measures are written into folders beside it.
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
    /// List the runs, the seeds without a history and those without measures; train nothing.
    #[arg(long)]
    list: bool,
    /// Write the tables of the page from the histories and measures beside the plan, and of the plans trials.json and
    /// data.json beside it; train nothing.
    #[arg(long, conflicts_with = "list")]
    report: bool,
    /// With --report: write nothing, and fail if the page's tables are not those that would be written.
    #[arg(long, requires = "report")]
    check: bool,
    /// The page with the tables, each between <!-- table: NAME --> and <!-- end -->.
    #[arg(long, value_name = "FILE.md", default_value = "models/EVIDENCE.md", requires = "report")]
    page: PathBuf,
    /// Folder with FashionMNIST, or `synthetic` for the generated stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    /// Threads. They don't change a result of the CPU engine; libtorch's change it in the last bits.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = train::threads, allow_negative_numbers = true)]
    threads: i32,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if arguments.report {
        return arguments.report();
    }
    let plan = Plan::read(&arguments.plan)?;
    if let Some(unknown) = arguments.only.iter().find(|name| plan.run(name).is_none()) {
        let names: Vec<&str> = plan.runs.iter().map(|run| run.name.as_str()).collect();
        return Err(Error::argument(format!("--only {unknown}: the plan has the runs {}", names.join(", "))));
    }
    let seeds = plan.seeds();
    if let Some(unknown) = arguments.seeds.iter().find(|seed| !seeds.contains(seed)) {
        return Err(Error::argument(format!("--seeds {unknown}: the plan has the seeds {}", list(seeds))));
    }
    let runs = || plan.runs.iter().filter(|run| arguments.only.is_empty() || arguments.only.contains(&run.name));
    runs().for_each(|run| arguments.describe(run));
    if arguments.list {
        return Ok(());
    }
    for seed in seeds.into_iter().filter(|seed| arguments.is_chosen(*seed)) {
        for run in runs().filter(|run| run.seeds.contains(&seed)) {
            if !run.untrained && !history_path(&arguments.plan, run, seed).exists() {
                arguments.train(&plan, run, seed)?;
            }
            arguments.measure(&plan, run, seed)?;
        }
    }
    Ok(())
}

fn list(numbers: impl IntoIterator<Item = i64>) -> String {
    Vec::from_iter(numbers.into_iter().map(|number| number.to_string())).join(", ")
}

/// Whether two trainings had the same scores to the last bit, in whatever time.
fn same_scores(a: &History, b: &History) -> bool {
    let timeless = |history: &History| {
        let epochs = history.epochs.iter().cloned();
        Vec::from_iter(epochs.map(|epoch| Epoch { seconds: 0.0, ..epoch }))
    };
    timeless(a) == timeless(b)
}

impl Arguments {
    fn is_chosen(&self, seed: i64) -> bool {
        self.seeds.is_empty() || self.seeds.contains(&seed)
    }

    /// Prints how many seeds of a run are trained and measured, and which are not.
    fn describe(&self, run: &Run) {
        let chosen = Vec::from_iter(run.seeds.iter().copied().filter(|&seed| self.is_chosen(seed)));
        let missing =
            |path: &dyn Fn(i64) -> PathBuf| Vec::from_iter(chosen.iter().copied().filter(|&s| !path(s).exists()));
        let state = |name: &str, missing: Vec<i64>| {
            let done = format!("{} of {} seeds are {name}", chosen.len() - missing.len(), chosen.len());
            if missing.is_empty() { done } else { format!("{done} (missing: {})", list(missing)) }
        };
        let mut parts = Vec::new();
        if !run.untrained {
            parts.push(state("trained", missing(&|seed| history_path(&self.plan, run, seed))));
        }
        if run.is_measured() {
            parts.push(state("measured", missing(&|seed| measures_path(&self.plan, run, seed))));
        }
        println!("{}: {}", run.name, parts.join(", "));
    }

    /// Trains one network, with its teachers before it where their weights are missing, and copies its history.
    fn train(&self, plan: &Plan, run: &Run, seed: i64) -> Result<()> {
        for (of, seed) in run.teachers.iter().filter_map(|teacher| plan.run_of(teacher, seed)) {
            if !self.weights(of, seed).exists() {
                println!("{} needs the weights of {}, seed {seed}", run.name, of.name);
                self.train(plan, of, seed)?;
            }
        }
        println!("--- {}, seed {seed}", run.name);
        let out = self.folder(run, seed);
        let mut training = train::Arguments::new(run.model, out.clone());
        training.teacher = self.teachers(plan, run, seed);
        training.data = self.data.clone();
        training.threads = Some(self.threads);
        training.resume = true;
        training.train(&run.config(seed)?)?;
        let history = History::read(out.join(format!("{}.json", train::stem(run.model))))?;
        let path = history_path(&self.plan, run, seed);
        // A teacher whose weights were missing is the same network again, or another one on another machine.
        if History::read(&path).is_ok_and(|kept| same_scores(&kept, &history)) {
            println!("{}, seed {seed}, has the scores of its history, which stays", run.name);
            return Ok(());
        }
        history.write(path)?;
        std::fs::remove_file(measures_path(&self.plan, run, seed)).ok();
        Ok(())
    }

    /// Measures a network that has no measures yet, if its weights and its teachers' are there.
    fn measure(&self, plan: &Plan, run: &Run, seed: i64) -> Result<()> {
        let path = measures_path(&self.plan, run, seed);
        if !run.is_measured() || path.exists() {
            return Ok(());
        }
        let (weights, teachers) = (self.weights(run, seed), self.teachers(plan, run, seed));
        let own = (!run.untrained).then_some(&weights);
        if let Some(missing) = own.into_iter().chain(&teachers).find(|weights| !weights.exists()) {
            eprintln!("note: {}, seed {seed}, can't be measured: {} is not there", run.name, missing.display());
            return Ok(());
        }
        println!("measuring {}, seed {seed}", run.name);
        tch::set_num_threads(self.threads);
        let config = run.config(seed)?;
        let data = FashionMnist::read(&source::find(self.data.as_deref())?, &config, Device::Cpu)?;
        let learner = if run.untrained {
            seed_everything(seed);
            Learner::create(run.model, &config, Device::Cpu)?
        } else {
            Learner::read(&weights, Device::Cpu)?
        };
        let teachers = teachers.iter().map(|path| Learner::read(path, Device::Cpu)).collect::<Result<Vec<_>>>()?;
        Measures::of(&learner, &teachers, &config, &data)?.write(path)
    }

    fn report(&self) -> Result<()> {
        let page = std::fs::read_to_string(&self.page).map_err(|e| {
            Error::file(&self.page, format!("can't be read ({e}); name the page of the evidence with --page"))
        })?;
        let evidence = Evidence::read(&self.plan)?;
        let filled = fill(&page, |name| evidence.markdown(name)).map_err(|e| Error::file(&self.page, e.to_string()))?;
        match (filled == page, self.check) {
            (true, _) => println!("{}: its tables are those of the histories and measures", self.page.display()),
            (false, true) => {
                let problem = "has other tables than the histories and measures give; run `vitlab evidence --report`";
                return Err(Error::file(&self.page, problem));
            }
            (false, false) => {
                file::replace(&self.page, |out| std::io::Write::write_all(out, filled.as_bytes()))?;
                println!("written: {}", self.page.display());
            }
        }
        Ok(())
    }

    fn folder(&self, run: &Run, seed: i64) -> PathBuf {
        self.out.join(&run.name).join(format!("seed{seed}"))
    }

    fn weights(&self, run: &Run, seed: i64) -> PathBuf {
        self.folder(run, seed).join(Path::new(train::stem(run.model)).with_extension("safetensors"))
    }

    /// The weights of a network's teachers.
    fn teachers(&self, plan: &Plan, run: &Run, seed: i64) -> Vec<PathBuf> {
        let of_runs = run.teachers.iter().filter_map(|teacher| plan.run_of(teacher, seed));
        let files = run.teachers.iter().filter_map(|teacher| checkpoint_path(&self.plan, teacher));
        of_runs.map(|(of, seed)| self.weights(of, seed)).chain(files).collect()
    }
}
