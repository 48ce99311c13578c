//! This program as cargo's wrapper around rustc. It records how a cell is compiled, for [builds without cargo](super::rustc),
//! keeps the identity of the cell's crate, and sets the level of `:opt`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::display;
use super::rustc::{
    Build, EVCXR_CACHE, EVCXR_WRAPPER, INNER_WRAPPER, PREFER_DYNAMIC, RustcCall, VARIABLE, VARIABLES, environment,
    is_set, read, write,
};

/// Runs rustc, and records how it is started if it compiles a cell.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(!arguments.is_empty(), "the wrapper around rustc got no arguments from cargo");
    let mut environment = environment();
    let record = environment.remove(VARIABLE);
    let inner = environment.remove(INNER_WRAPPER);
    let is_cell = arguments.windows(2).any(|two| two == ["--crate-name", "ctx"]);
    let wraps = environment.contains_key(EVCXR_WRAPPER);
    let given = arguments.len();
    if wraps {
        // Shared libraries of crates find each other in their folder.
        let search = is_set("EVCXR_FORCE_DYLIB").then(|| "-Crpath".to_string());
        let more: Vec<String> =
            core_metadata(&environment).into_iter().chain(search).filter(|it| !arguments.contains(it)).collect();
        arguments.extend(more);
        if is_cell || !is_downloaded(&environment) {
            environment.remove(EVCXR_CACHE);
        }
    }
    if let Some(record) = record.filter(|_| is_cell) {
        if let Some(target) = Path::new(&record).parent() {
            keep_identity(&mut arguments, target);
        }
        set_level(&mut arguments, &environment);
        if !wraps && !arguments.iter().any(|it| it == PREFER_DYNAMIC || it == "prefer-dynamic") {
            arguments.push(PREFER_DYNAMIC.to_string());
        }
        write(Path::new(&record), &RustcCall::new(wraps, &arguments, &environment)?)?;
    } else if wraps && arguments.len() == given && environment.contains_key(EVCXR_CACHE) == is_set(EVCXR_CACHE) {
        // Doesn't return.
        evcxr::runtime_hook();
    }
    // evcxr's wrapper reads the arguments of its process.
    let program = match inner.filter(|_| !is_cell) {
        _ if wraps => std::env::current_exe()?,
        Some(inner) => inner.into(),
        None => arguments.remove(0).into(),
    };
    let mut command = Command::new(program);
    command.args(&arguments).env_remove(VARIABLE).env_remove(INNER_WRAPPER);
    if !environment.contains_key(EVCXR_CACHE) {
        command.env_remove(EVCXR_CACHE);
    }
    match display::source_in(&arguments, &std::env::current_dir()?).filter(|_| is_cell) {
        Some(source) => Ok(display::compile(&mut command, &source)?),
        None => Err(command.exec().into()),
    }
}

/// Gives the cell's crate the same identity as in the last build, if variables exist and all its former dependencies are
/// the same. cargo would change it with each new dependency, and with it the identity of the variables' types.
fn keep_identity(arguments: &mut [String], target: &Path) {
    // cargo changes the names of libraries with their versions and features.
    let libraries = |arguments: &[String]| -> Vec<String> {
        arguments.windows(2).filter(|two| two[0] == "--extern").map(|two| two[1].clone()).collect()
    };
    let identity = |arguments: &[String]| arguments.iter().position(|it| it.starts_with("metadata="));
    if target.join(VARIABLES).exists()
        && let Some(last) = read::<Build>(&target.join("build.json"))
        && let (Some(own), Some(former)) = (identity(arguments), identity(&last.rustc.arguments))
    {
        let present = libraries(arguments);
        if libraries(&last.rustc.arguments).iter().all(|library| present.contains(library)) {
            arguments[own].clone_from(&last.rustc.arguments[former]);
        }
    }
}

/// Returns the argument that names the metadata of the standard library to a crate without it, for dynamic libraries.
/// evcxr only names the library itself, which no longer contains them.
fn core_metadata(environment: &BTreeMap<String, String>) -> Option<String> {
    environment.get("EVCXR_FORCE_DYLIB")?;
    let library = environment.get("EVCXR_CORE_EXTERN")?.strip_prefix("core=")?;
    let metadata = Path::new(library).with_extension("rmeta");
    metadata.exists().then(|| format!("--extern=core={}", metadata.display()))
}

/// Returns whether cargo compiles a crate of a registry or of a Git repository. Other sources may change between two
/// compilations with the same arguments, which evcxr's cache can't tell apart.
fn is_downloaded(environment: &BTreeMap<String, String>) -> bool {
    let folder = environment.get("CARGO_MANIFEST_DIR");
    folder.is_some_and(|folder| ["/registry/src/", "/git/checkouts/"].iter().any(|part| folder.contains(part)))
}

/// Compiles a cell at the level of `:opt`, which evcxr writes in its manifest. cargo reads the profile from the
/// workspace's manifest instead, so that the dependencies of the set-up needn't be built again.
fn set_level(arguments: &mut Vec<String>, environment: &BTreeMap<String, String>) {
    let manifest = environment.get("CARGO_MANIFEST_DIR").map(|folder| Path::new(folder).join("Cargo.toml"));
    let Some(text) = manifest.and_then(|path| fs::read_to_string(path).ok()) else { return };
    let Some(level) = text.lines().find_map(|line| line.strip_prefix("opt-level = ")) else { return };
    let level = format!("opt-level={}", level.trim().trim_matches('"'));
    match arguments.iter_mut().find(|argument| argument.starts_with("opt-level=")) {
        Some(argument) => *argument = level,
        None => arguments.extend(["-C".to_string(), level]),
    }
}
