//! Time until a student reaches an accuracy by the recipe of 20 epochs: the epochs of the committed histories, at the speed of
//! the steps that were measured before.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::train::MATCHING;
use super::{Sample, Section, number};
use crate::system::{Error, Repository, Result, file};

/// Folder of the histories, one per seed.
const HISTORIES: &str = "models/evidence/matching";
/// Test accuracies in percent.
const GOALS: [u32; 4] = [85, 89, 90, 92];

/// The test accuracy after each epoch, of each seed.
pub fn accuracies(repository: &Repository) -> Result<Vec<Vec<f64>>> {
    let is_history = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "json") && !file::name(path).ends_with(".measures.json")
    };
    let mut files: Vec<PathBuf> = file::entries(&repository.root.join(HISTORIES)).filter(is_history).collect();
    files.sort();
    files.iter().map(|path| of_history(path)).collect()
}

fn of_history(path: &Path) -> Result<Vec<f64>> {
    let problem = |what: String| Error::file(path, format!("is no history of a training ({what})"));
    let history: Value = serde_json::from_str(&file::read(path)?).map_err(|error| problem(error.to_string()))?;
    let epochs = history["epochs"].as_array().ok_or_else(|| problem("it has no epochs".into()))?;
    let accuracy =
        |epoch: &Value| epoch["test_accuracy"].as_f64().ok_or_else(|| problem("an accuracy is missing".into()));
    epochs.iter().map(accuracy).collect()
}

/// The first epoch that reaches the goal, of each seed. `None` if a seed never reaches it.
fn epochs(accuracies: &[Vec<f64>], goal: u32) -> Option<Sample> {
    let first = |of_seed: &Vec<f64>| of_seed.iter().position(|accuracy| 100.0 * accuracy >= f64::from(goal));
    let epochs: Option<Vec<f64>> = accuracies.iter().map(|seed| Some(first(seed)? as f64 + 1.0)).collect();
    epochs.filter(|epochs| !epochs.is_empty()).map(Sample)
}

/// From the speed of the steps in `result`.
pub fn derive(accuracies: &[Vec<f64>], result: &mut Value) -> Result<Section> {
    let model = &result["train"]["models"][MATCHING];
    let [vitlab, pytorch] =
        [number(&model["ours"]["epoch_seconds"], "median")?, number(&model["eager"]["epoch_seconds"], "median")?];
    let (mut rows, mut values, mut notes) = (Vec::new(), json!({}), Vec::new());
    for goal in GOALS {
        let Some(epochs) = epochs(accuracies, goal) else {
            notes.push(format!("{goal} % are not reached with every seed."));
            continue;
        };
        let [ours, theirs] = [vitlab, pytorch].map(|seconds| epochs.map(|count| count * seconds));
        values[goal.to_string()] = json!({ "epochs": epochs.json(), "ours": ours.json(), "eager": theirs.json() });
        rows.push(vec![format!("{goal} %"), epochs.text(0), ours.text(0), theirs.text(0)]);
    }
    result["to_accuracy"] = values;
    let method = format!(
        "Median (minimum–maximum) over {} seeds whose histories are in `{HISTORIES}`: the epochs until the student reaches the \
         test accuracy, at this run's speed of a step ({vitlab:.1} and {pytorch:.1} s per epoch). Evaluations after the epochs \
         are not counted. PyTorch is the homework's code with this recipe and torch.optim.Muon, which computes in bfloat16 (vitlab: float32); its \
         epochs are not trained again. An expert's PyTorch code isn't measured.",
        accuracies.len()
    );
    notes.insert(0, method);
    let columns = "test accuracy | epochs | vitlab, s | PyTorch, s";
    Ok(Section { name: "to_accuracy", title: "Time to an accuracy", columns, rows, notes, bars: Vec::new() })
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
