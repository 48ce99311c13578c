//! Accuracies of each run, and accuracies of translated images.

use super::Results;
use super::cells::{NONE, UNMEASURED, UNTRAINED, percent, percent_interval, spread};
use crate::notebook::Table;
use crate::statistics::{Interval, number};
use crate::train::History;

/// Test accuracy after the last epoch.
pub(super) fn table(runs: &[Results]) -> Table {
    let row = |results: &Results| {
        let accuracies = results.of_histories(History::accuracy);
        let values = Vec::from_iter(accuracies.iter().map(|(_, accuracy)| *accuracy));
        let seeds = format!("{} of {}", values.len(), results.run.seeds.len());
        if values.is_empty() {
            return vec![results.run.name.clone(), seeds, UNTRAINED.to_string()];
        }
        let each = accuracies.iter().map(|(seed, accuracy)| format!("{seed}: {}", number(100.0 * accuracy, 2)));
        let interval = Interval::of(&values).map_or(NONE.to_string(), percent_interval);
        vec![results.run.name.clone(), seeds, percent(&values), interval, Vec::from_iter(each).join(", ")]
    };
    let rows = Vec::from_iter(runs.iter().filter(|results| !results.run.untrained).map(row));
    let header =
        ["run", "seeds", "test accuracy (%), mean ± standard deviation", "95 % interval of the mean", "by seed"];
    Table::new("Test accuracy after the last epoch", &header, &rows)
}

/// Accuracy of translated images, by pixels.
pub(super) fn shifts(runs: &[Results]) -> Table {
    let most = runs.iter().flat_map(Results::measures).map(|measures| measures.shifts.len()).max().unwrap_or(1);
    let row = |results: &Results| {
        let name = results.run.name.clone();
        if !results.is_measured() {
            return vec![name, UNMEASURED.to_string()];
        }
        let at = |pixels: usize| results.of_measures(|measures| measures.shifts.get(pixels).copied());
        let lost = results.of_measures(|measures| Some(measures.shifts.first()? - measures.shifts.last()?));
        let accuracies = (0..most).map(|pixels| percent(&at(pixels)));
        [name].into_iter().chain(accuracies).chain([spread(&lost, 100.0, 2)]).collect()
    };
    let rows = Vec::from_iter(runs.iter().filter(|results| !results.run.untrained).map(row));
    let pixels = Vec::from_iter((0..most).map(|pixels| format!("{pixels} pixels")));
    let header = ["run"].into_iter().chain(pixels.iter().map(String::as_str)).chain(["points lost"]);
    Table::new("Accuracy of translated images", &Vec::from_iter(header), &rows)
}
