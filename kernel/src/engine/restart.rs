//! The command `:restart`. After it, evcxr itself expects the variables of the process that has ended.

use evcxr::CommandContext;

use super::commands::commands;
use super::failure::Failure;
use super::rewrite::Edit;

/// Carries out a cell's commands `:restart` before the cell. Returns the edits that remove them.
pub fn restart(context: &mut CommandContext, code: &str) -> Result<Vec<Edit>, Failure> {
    let Some(last) = commands(code).filter(|command| command.name == ":restart").last() else { return Ok(Vec::new()) };
    // The new process gets the variables of the environment that are set before.
    let before = commands(code).take_while(|command| command.range.start < last.range.start);
    let mut text: String = before.filter(|it| it.name == ":env").map(|it| format!("{}\n", it.line)).collect();
    // The second command makes evcxr go on with its state after the first.
    text += ":restart\n:load_config --quiet";
    context.execute(&text).map_err(|error| Failure::error(error.to_string()))?;
    let restarts = commands(code).filter(|command| command.name == ":restart");
    Ok(restarts.map(|command| Edit { range: command.range, pieces: Vec::new() }).collect())
}
