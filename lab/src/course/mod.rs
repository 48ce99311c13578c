//! `cargo lab course`: a course for nbgrader from the committed notebooks.
//!
//! | module | purpose |
//! |---|---|
//! | [`mark`] | the marks in the cells' metadata |
//! | [`task`], [`region`] | the tests in course/tasks, and the solutions in notebooks and crate |
//! | [`notebook`], [`cells`] | the notebooks of the course |

mod cells;
mod mark;
mod notebook;
mod region;
mod task;

use std::path::{Path, PathBuf};

use crate::setup::venv;
use crate::system::{Error, Progress, Repository, Result, file, process};
use notebook::{Assignment, Row};

#[derive(clap::Args)]
#[command(after_help = "Example:
  cargo lab course ../course    writes source/, README.md and what grading needs, and with nbgrader release/

README.md in the folder says how to hand the assignments out and how to grade. nbgrader isn't part of the set-up:
  .venv/bin/python -m pip install nbgrader==0.9.6

Running the command again renews everything but nbgrader_config.py, which is yours, and what nbgrader writes.")]
pub struct Course {
    /// Folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Notebooks by name, unique beginning of the name, or path [default: all of notebooks/ that have tasks]
    notebooks: Vec<String>,
}

/// Files that nbgrader loads: settings, which belong to the teacher, and code.
const SETTINGS: &str = "nbgrader_config.py";
const GRADING: &str = "vitlab_grading.py";
/// Runs the kernel of a submission without network and out of sight of the course.
const SEALED: &str = "sealed.sh";
const PAGE: &str = "README.md";

impl Course {
    /// Writes the course. Makes the released notebooks if nbgrader is installed.
    ///
    /// # Errors
    /// Fails if a notebook or a task can't be read, a mark doesn't fit its cell, or the folder can't be written.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        let templates = repository.root.join("course");
        let folder = std::path::absolute(&self.folder).map_err(|error| Error::file(&self.folder, error.to_string()))?;
        let progress = Progress::new(folder.display().to_string());
        let assignments = assignments(repository, &self.notebooks, &templates.join("tasks"))?;
        for Assignment { name, source, .. } in &assignments {
            file::write_json(&folder.join("source").join(name).join(format!("{name}.ipynb")), source)?;
        }
        let clone = repository.root.display().to_string();
        let template = |name: &str| Ok::<_, Error>(file::read(&templates.join(name))?.replace("{CLONE}", &clone));
        for name in [GRADING, SEALED] {
            file::write(&folder.join(name), &template(name)?)?;
        }
        if !folder.join(SETTINGS).exists() {
            file::write(&folder.join(SETTINGS), &template(SETTINGS)?)?;
        }
        file::write(&folder.join(PAGE), &template(PAGE)?.replace("{TASKS}\n", &table(&assignments)))?;
        let released = release(repository, &folder, &assignments, &progress)?;
        let remedy =
            "; release/ needs nbgrader: `.venv/bin/python -m pip install nbgrader==0.9.6`, then the command again";
        let note = if released { " and release/" } else { remedy };
        progress.finish(&format!("{} assignments in source/{note}", assignments.len()));
        Ok(())
    }
}

/// Makes the course's versions of the notebooks that have marks.
fn assignments(repository: &Repository, names: &[String], tasks: &Path) -> Result<Vec<Assignment>> {
    let crate_files = notebook::crate_files(&repository.root.join("crate/src"))?;
    let mut assignments = Vec::new();
    for path in repository.select_notebooks(names)? {
        match notebook::make(&path, tasks, &crate_files)? {
            Some(assignment) => assignments.push(assignment),
            None if names.is_empty() => {}
            None => return Err(Error::file(&path, "has no task: no cell's metadata has a mark for the course")),
        }
    }
    Ok(assignments)
}

/// Lets nbgrader make the released notebooks. Returns false if nbgrader isn't installed.
fn release(repository: &Repository, folder: &Path, assignments: &[Assignment], progress: &Progress) -> Result<bool> {
    let python = || venv::command(repository, "python");
    if !process::succeeds(python().args(["-c", "import nbgrader"])) {
        return Ok(false);
    }
    for Assignment { name, .. } in assignments {
        progress.message(&format!("nbgrader makes {name}"));
        let mut nbgrader = python();
        nbgrader.args(["-m", "nbgrader", "generate_assignment", "--force", name]).current_dir(folder);
        progress.run(&mut nbgrader, |_| None)?;
    }
    Ok(true)
}

/// A Markdown table of all tasks and their points.
fn table(assignments: &[Assignment]) -> String {
    let mut table = "| assignment | task | points | graded by |\n|---|---|---|---|\n".to_string();
    for Assignment { name, tasks, .. } in assignments {
        for Row { name: task, points, tested } in tasks {
            let by = if *tested { "test" } else { "hand" };
            table += &format!("| {name} | {task} | {points} | {by} |\n");
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_mark_of_the_committed_notebooks_fits_its_cell() {
        let repository = Repository::containing(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let assignments = assignments(&repository, &[], &repository.root.join("course/tasks")).unwrap();
        let attention = assignments.iter().find(|assignment| assignment.name == "2_attention").unwrap();
        assert!(attention.tasks.iter().any(|row| row.name == "fuse" && row.points == 3 && row.tested));
        for Assignment { name, source, .. } in &assignments {
            let cells = source["cells"].as_array().unwrap();
            let ids: HashSet<_> = cells.iter().map(|cell| cell["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), cells.len(), "{name} has an id twice");
            let text = |id: &str| cells.iter().find(|cell| cell["id"] == id).unwrap()["source"].as_str().unwrap();
            if name == "2_attention" {
                assert!(text("fuse").starts_with("/// The heads of one layer"), "{}", text("fuse"));
                assert!(
                    text("joint_attentions-needs")
                        .contains("\nfn with_residual(kept: &Tensor) -> Tensor {\n    let sum")
                );
                // From the crate's source.
                assert!(
                    text("self_attention").contains("\n        // BEGIN SOLUTION\n        let (batch, tokens, embed)")
                );
            }
        }
    }
}
