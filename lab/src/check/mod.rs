//! `cargo lab check`: is a notebook fit to hand in?
//!
//! | module | purpose |
//! |---|---|
//! | [`notebook`], [`finding`] | what is read and what is found |
//! | [`assignment`] | the headings that each notebook must have |
//! | [`execution`], [`text`], [`numbers`], [`content`] | the rules on a notebook as it is |
//! | [`rerun`] | executes a notebook again and compares the outputs, by [`comparison`], [`values`] and [`picture`] |

mod assignment;
mod comparison;
mod content;
mod execution;
mod finding;
mod notebook;
mod numbers;
mod picture;
mod rerun;
mod text;
mod values;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::execution::{Executor, Options};
use crate::system::{Error, Repository, Result};
pub use finding::Finding;
use finding::{Found, Rule};
pub use notebook::{Cell, CellType, Notebook};
pub use text::author_line;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab check                          all notebooks of notebooks/, as they are
  cargo lab check 2                        one of them
  cargo lab check 2 --run                  executes it again and compares the outputs
  cargo lab check 3 --run --load-model     likewise, with the committed weights
  cargo lab check 3 --against outputs/3_distillation.ipynb
                                           compares with what `cargo lab run` has written
  cargo lab check --json                   for scripts; status 1 if there is a finding

A number of the text that looks like a result (with decimals, in %, from 100 on) must stand in an output or in code, rounded
to the digits of the text. Exceptions stand in the cell's metadata: \"vitlab\": {\"numbers\": {\"0.65\": \"Table 4 of …\"}}.

With --run and --against, durations and rates aren't compared. Numbers with decimals may differ by one in the last printed
digit, by 0.1 % or by 0.000001, other numbers and texts not at all; pixels by 2 of 255. A figure whose alt text quotes
durations is compared by that text only.")]
pub struct Check {
    /// Notebooks by name, unique beginning of the name, or path [default: all of notebooks/]
    notebooks: Vec<String>,
    /// Also execute the notebooks on fresh kernels and compare the outputs
    #[arg(long)]
    run: bool,
    #[command(flatten)]
    options: Options,
    /// Compare the outputs of one notebook with those of this file, such as one of outputs/, instead of executing it
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    against: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Checks the selected notebooks and prints the findings. Returns status 1 if there are any.
    ///
    /// # Errors
    /// Fails if a notebook isn't found or can't be read, an option needs --run, or the set-up for --run fails.
    pub fn run(&self, repository: &Repository) -> Result<ExitCode> {
        if !self.run && (self.options.quick || self.options.load_model || self.options.data.is_some()) {
            return Err(Error::argument("--quick, --load-model and --data need --run: without it nothing is executed"));
        }
        let paths = repository.select_notebooks(&self.notebooks)?;
        if self.against.is_some() && paths.len() != 1 {
            return Err(Error::argument("--against compares one notebook; name it"));
        }
        let notebooks: Vec<Notebook> = paths.iter().map(|path| Notebook::read(path)).collect::<Result<_>>()?;
        let executor = if self.run { Some(Executor::new(repository, &self.options)?) } else { None };
        let (mut findings, mut notes) = (Vec::new(), Vec::new());
        for notebook in &notebooks {
            let shown = repository.relative(&notebook.path).display().to_string();
            let mut of_notebook: Vec<Finding> = find(notebook, &remedy(repository, notebook))
                .into_iter()
                .map(|found| finding(&shown, notebook, found))
                .collect();
            if let Some(executed) = &self.against {
                of_notebook.extend(rerun::against(notebook, &shown, executed)?);
            }
            if let Some(executor) = &executor {
                of_notebook.extend(rerun::find(notebook, &shown, executor)?);
            }
            of_notebook.sort_by_key(|finding| finding.cell);
            findings.extend(of_notebook);
            notes.extend(unknown_sources(notebook, &shown));
        }
        match self.json {
            true => println!("{:#}", json!({ "findings": findings, "notes": notes })),
            false => print(&findings, &notes, notebooks.len()),
        }
        Ok(ExitCode::from(u8::from(!findings.is_empty())))
    }
}

/// Returns the findings in notebooks as they are. Their paths are shown relative to `folder`.
///
/// # Errors
/// Fails if a notebook can't be read.
pub fn findings(repository: &Repository, paths: &[PathBuf], folder: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in paths {
        let notebook = Notebook::read(path)?;
        let shown = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        findings.extend(
            find(&notebook, &remedy(repository, &notebook)).into_iter().map(|found| finding(&shown, &notebook, found)),
        );
    }
    Ok(findings)
}

/// Applies the rules on a notebook as it is.
fn find(notebook: &Notebook, run: &str) -> Vec<Found> {
    let execution = execution::find(notebook, run);
    // Outputs that are missing or of another run don't have the text's numbers.
    let incomplete = |(_, rule, _): &Found| matches!(rule, Rule::Unexecuted | Rule::Failed | Rule::QuickRun);
    let numbers = if execution.iter().any(incomplete) { Vec::new() } else { numbers::find(notebook) };
    [execution, text::find(notebook), numbers, content::find(notebook)].concat()
}

fn finding(shown: &str, notebook: &Notebook, (cell, rule, message): Found) -> Finding {
    let execution_count = cell.and_then(|number| notebook.cells[number - 1].execution_count);
    Finding { notebook: shown.to_string(), cell, execution_count, rule, message, difference: None }
}

/// Tells how to execute the notebook again.
fn remedy(repository: &Repository, notebook: &Notebook) -> String {
    let inside = notebook.path.parent() == Some(repository.notebooks().as_path());
    let name = match inside {
        true => notebook.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        false => notebook.path.display().to_string(),
    };
    format!("run `cargo lab run {name} --in-place`")
}

/// Notes how many cells have nothing to tell by whether they were edited after they ran.
fn unknown_sources(notebook: &Notebook, shown: &str) -> Option<String> {
    let executed = notebook.code().filter(|(_, cell)| cell.execution_count.is_some());
    let unknown = executed.filter(|(_, cell)| cell.is_unedited().is_none()).count();
    let cells = if unknown == 1 { "one executed cell has" } else { &format!("{unknown} executed cells have") };
    let note = format!(
        "{shown}: {cells} no checksum of the source that ran, so an edit after the run isn't seen; `cargo lab run` writes them, and --run compares"
    );
    (unknown > 0).then_some(note)
}

/// Prints the findings, and on standard error how many there are.
pub fn print(findings: &[Finding], notes: &[String], notebooks: usize) {
    for finding in findings {
        let cell = finding.cell.map_or(String::new(), |number| format!(", cell {number}"));
        let count = finding.execution_count.map_or(String::new(), |count| format!(" [{count}]"));
        println!("{}{cell}{count}: {}", finding.notebook, finding.message);
        for line in finding.difference.iter().flat_map(|text| text.lines()) {
            println!("    {line}");
        }
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    let checked = if notebooks == 1 { "one notebook".to_string() } else { format!("{notebooks} notebooks") };
    match findings.len() {
        0 => eprintln!("✓ {checked} checked, nothing found"),
        1 => eprintln!("✗ {checked} checked, one finding"),
        count => eprintln!("✗ {checked} checked, {count} findings"),
    }
}
