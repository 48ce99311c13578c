//! Functions for a notebook's author: show content anywhere in a cell, replace it, and clear the output.

use serde_json::json;

use super::protocol::{bundle, evcxr_blocks, kernel, message, write};

/// Content that a notebook can show.
pub trait Show {
    /// The same content by MIME type. A front end shows the richest type that it supports.
    fn contents(&self) -> Vec<(&'static str, String)>;
}

/// Shows `content` at this point of the cell.
///
/// ```
/// use vitlab::notebook::{Table, show};
/// for run in 1..=3 {
///     show(&Table::new(&format!("Run {run}"), &["epoch"], &[vec!["1".into()]]));
/// }
/// ```
pub fn show(content: &impl Show) {
    let contents = content.contents();
    write(&match kernel() {
        Some(_) => message(&json!({ "show": bundle(&contents) })),
        None => evcxr_blocks(&contents),
    });
}

/// A place in a cell's output whose content can be replaced, also by later cells. On a plain evcxr_jupyter each
/// replacement is shown as further output.
///
/// ```
/// use vitlab::notebook::{DisplayHandle, Table};
/// let mut handle = DisplayHandle::new();
/// for epoch in 1..=3 {
///     handle.show(&Table::new("So far", &["epochs"], &[vec![epoch.to_string()]]));
/// }
/// ```
#[derive(Debug)]
pub struct DisplayHandle {
    id: String,
    shown: bool,
}

impl DisplayHandle {
    /// A handle for the place of the first [`DisplayHandle::show`].
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        DisplayHandle { id: format!("{:016x}", fastrand::Rng::new().u64(..)), shown: false }
    }

    /// Shows `content` in place of the previous content.
    pub fn show(&mut self, content: &impl Show) {
        if kernel().is_none() {
            return show(content);
        }
        let kind = if self.shown { "update" } else { "display" };
        self.shown = true;
        write(&message(&json!({ kind: { "id": self.id, "bundle": bundle(&content.contents()) } })));
    }
}

/// Removes the cell's output so far: at once, or with `wait` when the next output arrives, which avoids flicker. A plain
/// evcxr_jupyter keeps the output.
pub fn clear_output(wait: bool) {
    if kernel().is_some() {
        write(&message(&json!({ "clear": { "wait": wait } })));
    }
}
