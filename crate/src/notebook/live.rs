//! What vitlab's own kernel can do beyond evcxr_jupyter: show several things in a cell, each where it occurs, change them
//! in place, and ask a training to stop. On a plain evcxr_jupyter the same calls show the last thing of each kind.

use std::path::PathBuf;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::display::{display, write};
use crate::plot::Figure;

/// What a notebook can show: the same content by MIME type, of which a front end takes the richest it can.
pub trait Show {
    fn contents(&self) -> Vec<(&'static str, String)>;
}

impl Show for Figure {
    fn contents(&self) -> Vec<(&'static str, String)> {
        vec![("image/png", STANDARD.encode(self.png())), ("text/plain", self.alt().to_string())]
    }
}

/// Shows something in the middle of a cell.
///
/// ```
/// use vitlab::notebook::{Table, show};
/// for run in 1..=3 {
///     show(&Table::new(&format!("Run {run}"), &["epoch"], &[vec!["1".into()]]));
/// }
/// ```
pub fn show(what: &impl Show) {
    display(&borrowed(&what.contents()));
}

/// A place in a cell's output whose content can change, from later cells as well.
///
/// ```
/// use vitlab::notebook::{Place, Table};
/// let mut place = Place::new();
/// for epoch in 1..=3 {
///     place.show(&Table::new("So far", &["epochs"], &[vec![epoch.to_string()]]));
/// }
/// ```
#[derive(Debug)]
pub struct Place {
    id: String,
    shown: bool,
}

impl Place {
    /// Where the first [`Place::show`] is.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Place { id: format!("{:016x}", fastrand::Rng::new().u64(..)), shown: false }
    }

    /// Shows something here, instead of what was shown here before.
    pub fn show(&mut self, what: &impl Show) {
        if kernel().is_none() {
            return show(what);
        }
        let kind = if self.shown { "update" } else { "display" };
        self.shown = true;
        let bundle = bundle(&borrowed(&what.contents()));
        write(&line(&json!({ kind: { "id": self.id, "bundle": bundle } })));
    }
}

/// Takes away what the cell has shown and printed so far, at once or, without flicker, with the next output. A plain
/// evcxr_jupyter keeps it.
pub fn clear_output(with_the_next: bool) {
    if kernel().is_some() {
        write(&line(&json!({ "clear": { "wait": with_the_next } })));
    }
}

/// The folder where vitlab's kernel and its cells leave notes for each other; none on any other kernel.
pub(crate) fn kernel() -> Option<PathBuf> {
    std::env::var_os("VITLAB_KERNEL").map(PathBuf::from)
}

/// The number of the cell that runs.
pub(crate) fn cell() -> Option<String> {
    std::fs::read_to_string(kernel()?.join("cell")).ok()
}

/// A user's wish that a running training stops. While a value lives, the kernel leaves the stopping to its owner.
#[derive(Debug)]
pub(crate) struct Interrupt(Option<PathBuf>);

/// How many values live.
static LISTENERS: Mutex<usize> = Mutex::new(0);

impl Interrupt {
    /// Tells the kernel that somebody looks for it after every step.
    pub(crate) fn listen() -> Self {
        let folder = kernel();
        if let Some(folder) = &folder {
            let mut listeners = LISTENERS.lock().unwrap();
            *listeners += 1;
            // Without it the kernel ends the cell's process.
            let _ = std::fs::write(folder.join("listening"), "");
        }
        Interrupt(folder)
    }

    pub(crate) fn asked(&self) -> bool {
        let folder = self.0.as_ref();
        folder.is_some_and(|folder| folder.join("interrupt").exists())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let mut listeners = LISTENERS.lock().unwrap();
            *listeners -= 1;
            if *listeners == 0 {
                let _ = std::fs::remove_file(folder.join("listening"));
            }
        }
    }
}

fn borrowed<'a>(contents: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let pair = |(mime, content): &'a (&'static str, String)| (*mime, content.as_str());
    contents.iter().map(pair).collect()
}

/// Contents as the kernel wants them, with the text of a picture as its description.
pub(super) fn bundle(contents: &[(&str, &str)]) -> Value {
    let data: Map<String, Value> =
        contents.iter().map(|(mime, content)| (mime.to_string(), Value::from(*content))).collect();
    let metadata = match (data.get("image/png"), data.get("text/plain")) {
        (Some(_), Some(text)) => json!({ "image/png": { "alt": text } }),
        _ => json!({}),
    };
    json!({ "data": data, "metadata": metadata })
}

/// One line for the kernel.
pub(super) fn line(output: &Value) -> String {
    format!("VITLAB_OUTPUT {output}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_one_line_with_its_description() {
        let contents = [("image/png", "iVBOR"), ("text/plain", "two\nlines")];
        let text = line(&json!({ "show": bundle(&contents) }));
        assert_eq!(text.lines().count(), 1);
        let output: Value = serde_json::from_str(text.strip_prefix("VITLAB_OUTPUT ").unwrap()).unwrap();
        assert_eq!(output["show"]["data"]["text/plain"], "two\nlines");
        assert_eq!(output["show"]["metadata"]["image/png"]["alt"], "two\nlines");
    }
}
