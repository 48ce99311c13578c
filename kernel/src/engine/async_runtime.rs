//! The runtime of tokio that evcxr keeps among the variables after the first `.await`. A dependency may change tokio's
//! features, even if it isn't tokio. tokio is then built anew, and evcxr panics on the runtime of the former build.

use std::fs;
use std::path::Path;

use evcxr::CommandContext;

use super::events::EventReader;
use super::failure::Failure;
use super::linked::split_at_path;
use super::progress::ProgressLine;
use super::state::{KernelState, Phase};
use crate::cell::event::Event;

/// The name under which evcxr keeps the runtime.
const NAME: &str = "evcxr_tokio_runtime";

/// Returns whether the source that evcxr made of a cell uses the runtime.
pub fn is_used(source: &str) -> bool {
    source.contains(NAME)
}

/// Returns whether a cell may add or change a dependency, given evcxr's folder.
pub fn changes_dependencies(code: &str, folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let is_known = |dependency: &str| {
        let (name, config) = dependency.split_once('=').unwrap_or((dependency, "\"*\""));
        let dependency = without_path(&format!("{} = {}", name.trim(), config.trim()));
        manifest.lines().any(|line| without_path(line) == dependency)
    };
    code.lines().map(str::trim).any(|line| {
        let dependency = line.strip_prefix(":dep ");
        dependency.is_some_and(|it| !is_known(it)) || line.starts_with("extern crate ")
    })
}

/// Leaves out the path of a dependency and the spaces before it, because evcxr makes it absolute.
fn without_path(dependency: &str) -> String {
    let Some((before, path)) = split_at_path(dependency) else { return dependency.to_string() };
    let after = &dependency[before.len() + path.len()..];
    format!("{}{after}", before.trim_end_matches(['"', '=', ' ']))
}

/// Takes the runtime out of evcxr's variables, while the cells still know its type. Its tasks go on; the next cell that
/// needs a runtime gets a new one.
pub fn set_apart(context: &mut CommandContext, state: &KernelState, events: &EventReader) {
    let runtime = "::std::sync::Arc<::std::sync::Mutex<::tokio::runtime::Runtime>>";
    let _ = context.execute(&format!("std::mem::forget(evcxr_variable_store.take_variable::<{runtime}>(\"{NAME}\"));"));
    // A failure of this step isn't one of the cell, and the cell's progress is still to come.
    events.wait();
    let mut cell = state.cell();
    cell.stopped_by.take_if(|event| !matches!(event, Event::Ended { .. }));
    cell.phase = Phase::Compiling;
    cell.progress = ProgressLine::default();
}

/// Says what to do about a failure for which tokio's features are the reason.
pub fn explain(mut failure: Failure) -> Failure {
    const REMEDY: &str = "`:dep tokio = { version = \"1\", features = [\"full\"] }`";
    if failure.value.contains(&format!("lazy_arc {NAME} changed type")) {
        failure.value = format!(
            "tokio was built anew with other features, and the runtime of the earlier cells belongs to the former build. `:restart` begins a new process, without the variables. {REMEDY} in the first cell avoids this"
        );
        failure.details.clear();
    } else if failure.name.starts_with("E04") && failure.value.contains("`tokio`") {
        failure.details.push(format!("  help: a dependency {REMEDY} has every part of tokio"));
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_evcxr_knows_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "[dependencies]\ntokio = { version = \"1\" }\nhere = { path = \"/a/b\" }\nserde = \"*\"\n";
        fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
        for code in [":dep tokio = { version = \"1\" }", ":dep here = { path = \"../b\" }", ":dep serde", "f();"] {
            assert!(!changes_dependencies(code, folder.path()), "{code}");
        }
        for code in [
            ":dep here = { path = \"../b\", features = [] }",
            ":dep tokio = \"1\"",
            "1;\n :dep reqwest",
            ":dep ser = \"*\"",
            "extern crate rand;",
        ] {
            assert!(changes_dependencies(code, folder.path()), "{code}");
        }
    }
}
