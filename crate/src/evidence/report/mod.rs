//! Tables of the evidence, from the histories and measures beside the plans, for notebooks and in Markdown.

mod accuracy;
mod cells;
mod data;
mod depth;
mod differences;
mod machines;
mod rollouts;
mod runs;
mod tokens;
mod trials;

use std::collections::BTreeMap;
use std::path::Path;

use super::{Measures, Plan, Run, history_path, measures_path};
use crate::data::Origin;
use crate::error::ensure;
use crate::notebook::Table;
use crate::train::History;
use crate::{Error, Result};

/// The results of the plans of a folder.
#[derive(Debug)]
pub struct Evidence {
    /// Results of the plan itself.
    runs: Vec<Results>,
    /// Results of `data.json` beside it: trainings on parts of the images.
    data: Vec<Results>,
    /// Results of `trials.json` beside it: constants chosen on held-out training images.
    trials: Vec<Results>,
}

/// The networks of one run, in the order of its seeds.
#[derive(Debug)]
struct Results {
    run: Run,
    networks: Vec<Network>,
}

/// The history and the measures of one network, as far as the files exist.
#[derive(Debug)]
struct Network {
    seed: i64,
    history: Option<History>,
    measures: Option<Measures>,
}

/// The names of the tables.
const TABLES: [&str; 15] = [
    "runs",
    "machines",
    "accuracies",
    "differences",
    "heads",
    "teachers",
    "tokens",
    "depth",
    "orderings",
    "layer_correlations",
    "lengths",
    "own_share",
    "shifts",
    "data",
    "trials",
];

impl Evidence {
    /// Reads the plan of a folder, `plan.json`, or a plan by its file, and `data.json` and `trials.json` beside it as far as
    /// they are there, with the histories and measures.
    ///
    /// ```no_run
    /// use vitlab::evidence::Evidence;
    /// // In a notebook; trainings that don't exist yet are said in the table.
    /// Evidence::read("../models/evidence")?.table("accuracies")?;
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// A plan, history or measures that can't be read; a history of another configuration than the plan's, or of a training
    /// that isn't finished.
    pub fn read(plan: impl AsRef<Path>) -> Result<Self> {
        let plan = plan.as_ref();
        let plan = if plan.is_dir() { &plan.join("plan.json") } else { plan };
        let beside = |name: &str| {
            let path = plan.with_file_name(name);
            if path.exists() && path != plan { results(&path) } else { Ok(Vec::new()) }
        };
        Ok(Evidence { runs: results(plan)?, data: beside("data.json")?, trials: beside("trials.json")? })
    }

    /// The table with that name, which has the rows of the evidence page, for a notebook.
    ///
    /// # Errors
    /// A name that no table has; the message lists the names.
    pub fn table(&self, name: &str) -> Result<Table> {
        let table = self.find(name)?;
        let origin = Origin { synthetic: self.is_synthetic(), ..Origin::default() };
        Ok(Table { title: origin.title(&table.title), ..table })
    }

    /// The table with that name in Markdown, for the evidence page.
    ///
    /// # Errors
    /// A name that no table has.
    pub fn markdown(&self, name: &str) -> Result<String> {
        let note =
            if self.is_synthetic() { "Not FashionMNIST: some networks saw the generated stand-in.\n\n" } else { "" };
        let count = if name == "trials" { format!("{}.\n\n", trials::count(&self.trials)) } else { String::new() };
        Ok(note.to_string() + &count + &self.find(name)?.markdown())
    }

    /// Test accuracies after the last epoch, from 0 to 1, by seed: of the run's networks that are trained.
    ///
    /// ```no_run
    /// use vitlab::{evidence::Evidence, statistics::Interval};
    /// // In a notebook: by how much is the student better than the ViT?
    /// let evidence = Evidence::read("../models/evidence")?;
    /// let [student, vit] = [evidence.accuracies("student")?, evidence.accuracies("vit")?];
    /// Interval::welch(&Vec::from_iter(student.into_values()), &Vec::from_iter(vit.into_values()));
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// A run that no plan has; the message lists the runs.
    pub fn accuracies(&self, run: &str) -> Result<BTreeMap<i64, f64>> {
        let last = |(seed, history): (i64, &History)| Some((seed, history.accuracy()?));
        Ok(self.histories(run)?.into_iter().filter_map(last).collect())
    }

    /// The histories of the run's networks that are trained, by seed.
    ///
    /// # Errors
    /// A run that no plan has; the message lists the runs.
    pub fn histories(&self, run: &str) -> Result<BTreeMap<i64, &History>> {
        self.of_networks(run, |network| network.history.as_ref())
    }

    /// The measures of the run's networks that are measured, by seed.
    ///
    /// # Errors
    /// A run that no plan has; the message lists the runs.
    pub fn measures(&self, run: &str) -> Result<BTreeMap<i64, &Measures>> {
        self.of_networks(run, |network| network.measures.as_ref())
    }

    fn of_networks<'a, T>(&'a self, run: &str, part: fn(&'a Network) -> Option<&'a T>) -> Result<BTreeMap<i64, &'a T>> {
        let runs = [&self.runs, &self.data, &self.trials].into_iter().flatten();
        let Some(results) = runs.clone().find(|results| results.run.name == run) else {
            let names = Vec::from_iter(runs.map(|results| results.run.name.as_str())).join(", ");
            return Err(Error::argument(format!("there is no run {run} in the evidence; the runs are {names}")));
        };
        Ok(results.networks.iter().filter_map(|network| Some((network.seed, part(network)?))).collect())
    }

    fn find(&self, name: &str) -> Result<Table> {
        Ok(match name {
            "runs" => runs::table(&self.runs),
            "accuracies" => accuracy::table(&self.runs),
            "differences" => differences::table(&self.runs),
            "heads" => tokens::heads(&self.runs),
            "teachers" => tokens::teachers(&self.runs),
            "tokens" => tokens::cosines(&self.runs),
            "depth" => depth::layers(&self.runs),
            "orderings" => depth::orderings(&self.runs),
            "layer_correlations" => depth::correlations(&self.runs),
            "lengths" => rollouts::lengths(&self.runs),
            "own_share" => rollouts::own_share(&self.runs),
            "shifts" => accuracy::shifts(&self.runs),
            "data" => data::table(&self.data),
            "trials" => trials::table(&self.trials),
            "machines" => machines::table(&[&self.runs, &self.data, &self.trials]),
            _ => {
                let names = TABLES.join(", ");
                return Err(Error::argument(format!(
                    "there is no table {name} of the evidence; the tables are {names}"
                )));
            }
        })
    }

    fn is_synthetic(&self) -> bool {
        let networks =
            [&self.runs, &self.data, &self.trials].into_iter().flatten().flat_map(|results| &results.networks);
        let mut origins = networks.flat_map(|network| {
            let history = network.history.as_ref().map(|history| &history.origin);
            history.into_iter().chain(network.measures.as_ref().map(|measures| &measures.origin))
        });
        origins.any(|origin| origin.synthetic)
    }
}

/// Reads a plan with the histories and measures that exist.
fn results(path: &Path) -> Result<Vec<Results>> {
    let network = |run: &Run, seed| {
        let (history, measures) = (history_path(path, run, seed), measures_path(path, run, seed));
        let history = if history.exists() { Some(read_history(&history, run, seed)?) } else { None };
        let measures = if measures.exists() { Some(read_measures(&measures, run, seed)?) } else { None };
        Ok(Network { seed, history, measures })
    };
    let of_run = |run: Run| {
        let networks = run.seeds.iter().map(|&seed| network(&run, seed)).collect::<Result<_>>()?;
        Ok(Results { run, networks })
    };
    Plan::read(path)?.runs.into_iter().map(of_run).collect()
}

fn read_history(path: &Path, run: &Run, seed: i64) -> Result<History> {
    let history = History::read(path)?;
    let differences = run.config(seed)?.differences(&history.config).join("; ");
    let problem = if !differences.is_empty() {
        format!("is the history of another configuration than the plan's ({differences})")
    } else if history.whole_epochs() < history.config.epochs {
        format!("has {} of {} epochs", history.whole_epochs(), history.config.epochs)
    } else {
        return Ok(history);
    };
    Err(Error::file(path, format!("{problem}; delete it to train anew")))
}

fn read_measures(path: &Path, run: &Run, seed: i64) -> Result<Measures> {
    let measures = Measures::read(path)?;
    let differences = run.config(seed)?.differences(&measures.config).join("; ");
    if differences.is_empty() {
        return Ok(measures);
    }
    let problem =
        format!("are measures of another configuration than the plan's ({differences}); delete it to measure anew");
    Err(Error::file(path, problem))
}

impl Results {
    /// Values of the histories that are there, with their seeds.
    fn of_histories(&self, value: impl Fn(&History) -> Option<f64>) -> Vec<(i64, f64)> {
        let of = |network: &Network| Some((network.seed, value(network.history.as_ref()?)?));
        self.networks.iter().filter_map(of).collect()
    }

    /// Values of the measures that are there.
    fn of_measures(&self, value: impl Fn(&Measures) -> Option<f64>) -> Vec<f64> {
        self.measures().filter_map(value).collect()
    }

    fn measures(&self) -> impl Iterator<Item = &Measures> {
        self.networks.iter().filter_map(|network| network.measures.as_ref())
    }

    fn is_measured(&self) -> bool {
        self.measures().next().is_some()
    }
}

/// The run of that name, if the plan has it.
fn run<'a>(runs: &'a [Results], name: &str) -> Option<&'a Results> {
    runs.iter().find(|results| results.run.name == name)
}

const START: &str = "<!-- table: ";
const START_END: &str = " -->";
const END: &str = "<!-- end -->";

/// A page whose text between `<!-- table: NAME -->` and `<!-- end -->` is replaced by `table(NAME)`.
///
/// ```
/// use vitlab::evidence::fill;
/// let page = "Prose.\n<!-- table: a -->\nold\n<!-- end -->\nMore.";
/// let filled = fill(page, |name| Ok(format!("| {name} |\n")))?;
/// assert_eq!(filled, "Prose.\n<!-- table: a -->\n\n| a |\n\n<!-- end -->\nMore.");
/// assert_eq!(fill(&filled, |name| Ok(format!("| {name} |\n")))?, filled);
/// let open = fill("<!-- table: a -->\nold", |_| Ok(String::new())).unwrap_err();
/// assert_eq!(open.to_string(), "has no <!-- end --> after the table a");
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// A table without end, or the error of `table`.
pub fn fill(page: &str, table: impl Fn(&str) -> Result<String>) -> Result<String> {
    let (mut filled, mut rest) = (String::new(), page);
    while let Some((before, after)) = rest.split_once(START) {
        let (name, after) = after.split_once(START_END).unwrap_or((after, ""));
        let end = after.find(END).filter(|&end| !after[..end].contains(START));
        ensure!(end.is_some(), "has no {END} after the table {}", name.lines().next().unwrap_or_default());
        filled += &format!("{before}{START}{name}{START_END}\n\n{}\n{END}", table(name)?);
        rest = &after[end.expect("checked") + END.len()..];
    }
    Ok(filled + rest)
}
