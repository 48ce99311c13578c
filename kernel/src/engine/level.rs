//! `:opt LEVEL`: the optimisation level of cells.

use super::failure::Failure;

/// The levels that rustc knows, as evcxr writes them in a manifest.
const LEVELS: [&str; 6] = ["0", "1", "2", "3", "\"s\"", "\"z\""];

/// Refuses other levels. With one of these, evcxr would compile no later cell.
pub fn check(code: &str) -> Result<(), Failure> {
    let levels = code.lines().filter_map(|line| line.trim_start().strip_prefix(":opt ")).map(str::trim);
    match levels.filter(|level| !level.is_empty()).find(|level| !LEVELS.contains(level)) {
        Some(level) => Err(Failure::error(format!("`:opt {level}`: the levels are {}", LEVELS.join(", ")))),
        None => Ok(()),
    }
}
