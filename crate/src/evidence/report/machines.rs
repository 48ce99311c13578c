//! The processors that trained the runs.

use std::collections::BTreeMap;

use super::Results;
use super::cells::UNTRAINED;
use crate::notebook::Table;
use crate::train::History;

/// The kind of the processor that trained a network, without the number of threads.
pub(super) fn machine(history: &History) -> &str {
    let device = history.made_with.get("device").map_or("unknown", String::as_str);
    device.rsplit_once(", ").filter(|(_, end)| end.ends_with(" threads")).map_or(device, |(name, _)| name)
}

/// The runs of each block: a seed on one kind of processor.
pub(super) fn table(plans: &[&Vec<Results>]) -> Table {
    let mut blocks: BTreeMap<(i64, &str), Vec<&str>> = BTreeMap::new();
    for results in plans.iter().flat_map(|runs| runs.iter()) {
        for network in &results.networks {
            if let Some(history) = &network.history {
                blocks.entry((network.seed, machine(history))).or_default().push(&results.run.name);
            }
        }
    }
    let mut rows = Vec::from_iter(
        blocks.iter().map(|((seed, machine), runs)| vec![seed.to_string(), machine.to_string(), runs.join(", ")]),
    );
    if rows.is_empty() {
        rows.push(vec![UNTRAINED.to_string()]);
    }
    Table::new("Processors of the trainings", &["seed", "processor", "runs"], &rows)
}
