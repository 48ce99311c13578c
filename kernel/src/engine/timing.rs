//! The durations that evcxr measures after `:timing`.

use std::time::Duration;

use evcxr::EvalOutputs;

/// Describes how long a cell took. `None` unless the user has asked for it.
pub fn sentence(outputs: &EvalOutputs) -> Option<String> {
    let total = outputs.timing?;
    let of = |running: bool| {
        let phases = outputs.phases.iter().filter(move |phase| (phase.name == "Execution") == running);
        phases.map(|phase| phase.duration)
    };
    let sum = |running| of(running).sum::<Duration>().as_millis();
    let parts = match of(false).count() {
        0 => String::new(),
        1 => format!(": compiling {} ms, running {} ms", sum(false), sum(true)),
        count => format!(": compiling {count} times {} ms, running {} ms", sum(false), sum(true)),
    };
    Some(format!("Took {} ms{parts}\n", total.as_millis()))
}
