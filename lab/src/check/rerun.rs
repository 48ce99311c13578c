//! Compares a notebook's outputs with those of another execution of the same cells.

use std::path::Path;

use super::comparison;
use super::finding::{Finding, Rule};
use super::notebook::Notebook;
use crate::execution::Executor;
use crate::system::{Error, Progress, Result};

/// Executes a copy of the notebook, which itself stays as it is, and compares.
///
/// # Errors
/// Fails if the run is interrupted or the temporary folder can't be used.
pub fn find(notebook: &Notebook, shown: &str, executor: &Executor) -> Result<Vec<Finding>> {
    let folder = tempfile::tempdir().map_err(|error| Error::argument(format!("no temporary folder ({error})")))?;
    let ipynb = folder.path().join("again.ipynb");
    let progress = Progress::new(shown.to_string());
    let outcome = executor.execute(&notebook.path, &ipynb, &progress);
    progress.clear();
    if executor.is_interrupted() {
        return Err(Error::argument("interrupted; nothing was changed"));
    }
    let Err(stopped) = outcome else { return against(notebook, shown, &ipynb) };
    let first = stopped.message.lines().next().unwrap_or_default();
    Ok(vec![Finding {
        notebook: shown.to_string(),
        cell: None,
        execution_count: None,
        rule: Rule::Rerun,
        message: format!("a new run fails: {first}; correct the cell and run it again"),
        difference: Some(stopped.message),
    }])
}

/// Compares with the file `executed`.
///
/// # Errors
/// Fails if the file can't be read or holds other code.
pub fn against(notebook: &Notebook, shown: &str, executed: &Path) -> Result<Vec<Finding>> {
    let again = Notebook::read(executed)?;
    let sources = |notebook: &Notebook| notebook.code().map(|(_, cell)| cell.source.clone()).collect::<Vec<_>>();
    if sources(notebook) != sources(&again) {
        let problem = format!("has other code than {shown}; execute {shown} again and compare with that");
        return Err(Error::file(executed, problem));
    }
    // Without an execution there is nothing to compare, which is a finding of its own.
    let pairs = notebook.code().zip(again.code()).filter(|((_, old), _)| old.execution_count.is_some());
    let findings = pairs.filter_map(|((number, old), (_, new))| {
        let (message, difference) = comparison::compare(&old.outputs, &new.outputs)?;
        Some(Finding {
            notebook: shown.to_string(),
            cell: Some(number),
            execution_count: old.execution_count,
            rule: Rule::Rerun,
            message,
            difference,
        })
    });
    Ok(findings.collect())
}
