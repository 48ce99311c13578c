//! A list of trainings in JSON.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::ensure;
use crate::learner::ModelKind;
use crate::{Config, Error, Result};

/// Trainings in the order in which they run. The JSON form is a list of objects with the fields of [`Run`].
///
/// ```
/// use vitlab::{evidence::Plan, learner::ModelKind};
/// let plan = Plan::from_json(r#"[
///     {"name": "teacher", "model": "cnn", "seeds": [1, 2]},
///     {"name": "student", "model": "deit", "teachers": ["teacher"], "seeds": [1, 2], "config": {"EPOCHS": 20}},
///     {"name": "other", "model": "deit", "teachers": ["../further/teacher.pt"], "seeds": [1]}
/// ]"#)?;
/// assert_eq!(plan.runs[1].model, ModelKind::Deit);
/// assert_eq!(plan.runs[1].config(2)?.seed, 2);
/// // A student of seed 2 learns from the teacher of seed 2.
/// assert_eq!(plan.runs[1].teachers[0].run_and_seed(2), Some(("teacher", 2)));
/// assert_eq!(plan.runs[1].constants(), "EPOCHS 20");
/// assert_eq!(plan.runs[2].teachers[0].run_and_seed(1), None);
/// assert_eq!(plan.runs[2].teachers[0].to_string(), "../further/teacher.pt");
/// # Ok::<(), vitlab::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Plan {
    pub runs: Vec<Run>,
}

/// One configuration, trained with each of several seeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name of the folder of its histories.
    pub name: String,
    pub model: ModelKind,
    /// The teachers, none for a network that learns from the labels alone.
    #[serde(default)]
    pub teachers: Vec<Teacher>,
    pub seeds: Vec<i64>,
    /// Takes the networks with their initial weights: they are measured, and have no history.
    #[serde(default)]
    pub untrained: bool,
    /// Takes the accuracy of the history alone: the networks are not measured.
    #[serde(default)]
    pub accuracy_only: bool,
    /// Constants that differ from the homework's.
    #[serde(default)]
    config: serde_json::Map<String, serde_json::Value>,
}

/// A network that teaches. The text form is NAME or NAME/SEED for the network of another run, or the path of a checkpoint, such
/// as FILE.pt or FILE.safetensors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Teacher {
    /// The network of another run. `None`: of the student's seed.
    Run { name: String, seed: Option<i64> },
    /// A checkpoint, by its path from the folder of the plan.
    File(PathBuf),
}

impl From<String> for Teacher {
    fn from(text: String) -> Self {
        if Path::new(&text).extension().is_some() {
            return Teacher::File(text.into());
        }
        let fixed = text.rsplit_once('/').and_then(|(name, seed)| Some((name.to_string(), seed.parse().ok()?)));
        match fixed {
            Some((name, seed)) => Teacher::Run { name, seed: Some(seed) },
            None => Teacher::Run { name: text, seed: None },
        }
    }
}

/// As in a plan.
impl fmt::Display for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Teacher::Run { name, seed: Some(seed) } => write!(f, "{name}/{seed}"),
            Teacher::Run { name, seed: None } => f.write_str(name),
            Teacher::File(path) => path.display().fmt(f),
        }
    }
}

impl Teacher {
    /// Name of the run, and the seed, of the teacher of a student of seed `student`. `None` for a checkpoint.
    pub fn run_and_seed(&self, student: i64) -> Option<(&str, i64)> {
        match self {
            Teacher::Run { name, seed } => Some((name, seed.unwrap_or(student))),
            Teacher::File(_) => None,
        }
    }
}

impl Plan {
    /// Reads a plan from a JSON file.
    ///
    /// # Errors
    /// A file that can't be read, or that isn't a plan.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file(path, format!("can't be read ({e}); name a plan of trainings in JSON")))?;
        Plan::from_json(&text).map_err(|e| Error::file(path, e.to_string()))
    }

    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// Text that isn't a plan; a name twice; a teacher that isn't trained before its student; an impossible configuration.
    pub fn from_json(text: &str) -> Result<Self> {
        let plan: Plan =
            serde_json::from_str(text).map_err(|e| Error::argument(format!("is not a plan of trainings ({e})")))?;
        let mut trained = BTreeSet::new();
        for run in &plan.runs {
            let name = &run.name;
            let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            ensure!(plain, "run {name:?}: give a name of letters, digits and _, because a folder has it");
            ensure!(!run.seeds.is_empty(), "run {name}: give at least one seed");
            for &seed in &run.seeds {
                run.config(seed)?;
                ensure!(!run.untrained || run.teachers.is_empty(), "run {name}: an untrained network has no teachers");
                for (of, seed) in run.teachers.iter().filter_map(|teacher| teacher.run_and_seed(seed)) {
                    let usable = plan.run(of).is_some_and(|run| !run.untrained) && trained.contains(&(of, seed));
                    ensure!(usable, "run {name}: no run {of} of seed {seed} stands before it");
                }
            }
            for &seed in &run.seeds {
                ensure!(trained.insert((name.as_str(), seed)), "run {name} has seed {seed} twice");
            }
            ensure!(plan.runs.iter().filter(|other| other.name == *name).count() == 1, "two runs have the name {name}");
        }
        Ok(plan)
    }

    /// The seeds of all runs, each once, in ascending order.
    pub fn seeds(&self) -> BTreeSet<i64> {
        self.runs.iter().flat_map(|run| run.seeds.iter().copied()).collect()
    }

    /// The run, and the seed, of the teacher of a student of seed `student`. `None` for a checkpoint.
    pub fn run_of(&self, teacher: &Teacher, student: i64) -> Option<(&Run, i64)> {
        let (name, seed) = teacher.run_and_seed(student)?;
        Some((self.run(name).expect("a plan's teachers are checked when it is read"), seed))
    }

    /// The run of that name.
    pub fn run(&self, name: &str) -> Option<&Run> {
        self.runs.iter().find(|run| run.name == name)
    }
}

/// The checkpoint that a teacher is; its path begins at the folder of the plan. `None` for the network of a run.
pub fn checkpoint_path(plan: &Path, teacher: &Teacher) -> Option<PathBuf> {
    match teacher {
        Teacher::File(path) => Some(plan.with_file_name(path)),
        Teacher::Run { .. } => None,
    }
}

/// The history of one training, beside the file of its plan.
pub fn history_path(plan: &Path, run: &Run, seed: i64) -> PathBuf {
    plan.with_file_name(&run.name).join(format!("seed{seed}.json"))
}

/// The measures of one network, beside its history.
pub fn measures_path(plan: &Path, run: &Run, seed: i64) -> PathBuf {
    history_path(plan, run, seed).with_extension("measures.json")
}

impl Run {
    /// Whether the networks are measured. A run with VALIDATION_IMAGES is not: it serves to choose constants, which must
    /// not depend on the test set.
    pub fn is_measured(&self) -> bool {
        !self.accuracy_only && !self.config.contains_key("VALIDATION_IMAGES")
    }

    /// The constants that differ from the homework's, such as `EPOCHS 20, OPTIMIZER "muon"`.
    pub fn constants(&self) -> String {
        let each = self.config.iter().map(|(name, value)| format!("{name} {value}"));
        Vec::from_iter(each).join(", ")
    }

    /// The configuration of one training.
    ///
    /// # Errors
    /// Constants that don't exist or are impossible. The message begins with the run's name.
    pub fn config(&self, seed: i64) -> Result<Config> {
        let mut constants = self.config.clone();
        constants.insert("SEED".into(), seed.into());
        let text = serde_json::Value::Object(constants).to_string();
        Config::from_json(&text).map_err(|e| Error::argument(format!("run {}: {e}", self.name)))
    }
}
