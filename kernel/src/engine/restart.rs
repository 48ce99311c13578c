//! `:restart`: begins a new process for the cells. Types, functions and dependencies remain.

use evcxr::CommandContext;
use serde_json::json;

use super::rewrite::{Edit, Piece};
use super::state::KernelState;
use crate::cell::event::Bundle;

/// Begins a new process.
pub fn restart(context: &mut CommandContext) {
    // evcxr would keep the names of the lost variables, and each later cell would crash. After an error it forgets them:
    // it has already begun the process, and doesn't keep the state of a cell that fails.
    let _ = context.execute(":restart\n:no_such_command");
}

/// Obeys a cell's `:restart`. Returns the edits that remove it from the cell.
pub fn obey(context: &mut CommandContext, state: &KernelState, code: &str) -> Vec<Edit> {
    let mut offset = 0;
    let lines = code.split_inclusive('\n').filter_map(|line| {
        let start = offset;
        offset += line.len();
        (line.trim() == ":restart").then(|| start..start + line.trim_end().len())
    });
    let edits: Vec<Edit> = lines.map(|range| Edit { range, pieces: vec![Piece::Added(String::new())] }).collect();
    if !edits.is_empty() {
        restart(context);
        let data = json!({ "text/plain": "Child process restarted" });
        let data = data.as_object().cloned().unwrap_or_default();
        state.publish_result(Bundle { data, ..Bundle::default() });
    }
    edits
}
