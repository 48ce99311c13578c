//! Time until a student reaches an accuracy by the recipe of 20 epochs: the epochs of the committed histories, at the speed of
//! the steps that were measured before.

use std::path::Path;

use serde_json::{Value, json};

use super::train::MATCHING;
use super::{Sample, Section};
use crate::system::{Error, Repository, Result, file};

/// Folder of the histories, one per seed.
const HISTORIES: &str = "models/evidence/matching";
/// Test accuracies in percent.
const GOALS: [u32; 4] = [85, 89, 90, 92];

/// The test accuracy after each epoch, of each seed.
fn accuracies(folder: &Path) -> Result<Vec<Vec<f64>>> {
    let files = std::fs::read_dir(folder).map_err(|error| Error::file(folder, format!("can't be read ({error})")))?;
    let mut files: Vec<_> = files.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| {
        path.extension().is_some_and(|end| end == "json") && !path.to_string_lossy().ends_with(".measures.json")
    });
    let of_file = |path: &std::path::PathBuf| {
        let history: Value = serde_json::from_str(&file::read(path)?)
            .map_err(|error| Error::file(path, format!("is no history ({error})")))?;
        let epochs = history["epochs"].as_array().into_iter().flatten();
        Ok(epochs.filter_map(|epoch| epoch["test_accuracy"].as_f64()).collect())
    };
    files.iter().map(of_file).collect()
}

/// The first epoch that reaches the goal, of each seed; nothing if a seed never does.
fn epochs(accuracies: &[Vec<f64>], goal: u32) -> Option<Sample> {
    let first = |of_seed: &Vec<f64>| of_seed.iter().position(|accuracy| 100.0 * accuracy >= f64::from(goal));
    let epochs: Option<Vec<f64>> = accuracies.iter().map(|seed| Some(first(seed)? as f64 + 1.0)).collect();
    epochs.filter(|epochs| !epochs.is_empty()).map(Sample)
}

pub fn measure(repository: &Repository, result: &mut Value) -> Result<Section> {
    let accuracies = accuracies(&repository.root.join(HISTORIES))?;
    let seconds = |side: &str| result["train"]["models"][MATCHING][side]["epoch_seconds"]["median"].as_f64();
    let (Some(vitlab), Some(pytorch)) = (seconds("ours"), seconds("eager")) else {
        return Err(Error::argument("the steps of the recipe of 20 epochs were not measured"));
    };
    let (mut rows, mut values) = (Vec::new(), json!({}));
    for goal in GOALS {
        let Some(epochs) = epochs(&accuracies, goal) else { continue };
        let [ours, theirs] = [vitlab, pytorch].map(|seconds| epochs.map(|count| count * seconds));
        values[goal.to_string()] = json!({ "epochs": epochs.json(), "ours": ours.json(), "eager": theirs.json() });
        rows.push(vec![format!("{goal} %"), epochs.text(0), ours.text(0), theirs.text(0)]);
    }
    result["to_accuracy"] = values;
    let method = format!(
        "Median (minimum–maximum) over {} seeds whose histories are in `{HISTORIES}`: the epochs until the student reaches the \
         test accuracy, at this run's speed of a step ({vitlab:.1} and {pytorch:.1} s per epoch). Evaluations after the epochs \
         are not counted. PyTorch's epochs are not trained: it is the homework's code with the same recipe, and torch.optim.Muon.",
        accuracies.len()
    );
    let columns = "test accuracy | epochs | vitlab, s | PyTorch, s";
    Ok(Section {
        name: "to_accuracy",
        title: "Time to an accuracy",
        columns,
        rows,
        notes: vec![method],
        bars: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_of_each_seed() {
        let seeds = [vec![0.84, 0.86, 0.91], vec![0.85, 0.84, 0.90]];
        assert_eq!(epochs(&seeds, 85).unwrap().0, [2.0, 1.0]);
        assert_eq!(epochs(&seeds, 90).unwrap().0, [3.0, 3.0]);
        assert!(epochs(&seeds, 91).is_none() && epochs(&[], 85).is_none());
    }
}
