//! Choices of constants on held-out training images.

use super::Results;
use super::cells::{UNTRAINED, percent};
use crate::notebook::Table;
use crate::statistics::number;
use crate::train::History;

/// The validation accuracy of each after its last epoch.
pub(super) fn table(runs: &[Results]) -> Table {
    let row = |results: &Results| {
        let accuracies = results.of_histories(History::accuracy);
        let values = Vec::from_iter(accuracies.iter().map(|(_, accuracy)| *accuracy));
        let start = [results.run.name.clone(), format!("{} of {}", values.len(), results.run.seeds.len())];
        if values.is_empty() {
            return start.into_iter().chain([UNTRAINED.to_string()]).collect();
        }
        let training = results.of_histories(|history| history.epochs.last().map(|epoch| epoch.train_accuracy));
        let each = accuracies.iter().map(|(seed, accuracy)| format!("{seed}: {}", number(100.0 * accuracy, 2)));
        let training = Vec::from_iter(training.into_iter().map(|(_, accuracy)| accuracy));
        start.into_iter().chain([percent(&values), percent(&training), Vec::from_iter(each).join(", ")]).collect()
    };
    let header = ["trial", "seeds", "validation accuracy (%)", "training accuracy (%)", "by seed"];
    let title = format!("Trials on held-out training images: {}", count(runs));
    Table::new(&title, &header, &Vec::from_iter(runs.iter().map(row)))
}

/// The number of trials.
pub(super) fn count(runs: &[Results]) -> String {
    let networks = || runs.iter().flat_map(|results| &results.networks);
    let trained = networks().filter(|network| network.history.is_some()).count();
    format!("{} configurations, {} trainings, {trained} of them done", runs.len(), networks().count())
}
