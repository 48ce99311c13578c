//! The command `:restart`. After it, evcxr itself expects the variables of the process that has ended.

use evcxr::{CommandContext, Error};

use super::commands::commands;
use super::failure::Failure;
use super::rewrite::Edit;

/// Begins a new process for the cells, after the commands `before`. Types, functions and dependencies remain.
pub fn restart(context: &mut CommandContext, before: &str) -> Result<(), Error> {
    // The second command makes evcxr go on with its state after the first.
    context.execute(&format!("{before}:restart\n:load_config --quiet")).map(drop)
}

/// Obeys a cell's commands `:restart` before the cell. Returns the edits that remove them.
pub fn obey(context: &mut CommandContext, code: &str) -> Result<Vec<Edit>, Failure> {
    let Some(last) = commands(code).filter(|command| command.name == ":restart").last() else { return Ok(Vec::new()) };
    // The new process gets the variables of the environment that are set before.
    let before = commands(code).take_while(|command| command.range.start < last.range.start);
    let text: String = before.filter(|it| it.name == ":env").map(|it| format!("{}\n", it.line)).collect();
    restart(context, &text).map_err(|error| Failure::error(error.to_string()))?;
    let restarts = commands(code).filter(|command| command.name == ":restart");
    Ok(restarts.map(|command| Edit { range: command.range, pieces: Vec::new() }).collect())
}
