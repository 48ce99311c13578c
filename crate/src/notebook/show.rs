//! Shows content anywhere in a cell, replaces it, and clears the output, all by lines on the standard output.
//!
//! The kernel of vitlab shows several things in a cell, each where it occurs, and changes them in place. A plain
//! evcxr_jupyter shows the last content of each MIME type at the end of the cell.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::kernel;

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

/// Sends whole lines in one write: evcxr appends its marker for the end of a cell to an incomplete line and then
/// waits for the marker forever.
fn write(lines: &str) {
    let mut stdout = std::io::stdout().lock();
    // A kernel that has closed its end of the pipe shows nothing more, an error message included.
    _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}

fn message(output: &Value) -> String {
    format!("VITLAB_OUTPUT {output}\n")
}

/// Content by MIME type in Jupyter's form. The plain text of a picture becomes its alternative text.
fn bundle(contents: &[(&str, String)]) -> Value {
    let data: Map<String, Value> =
        contents.iter().map(|(mime, content)| (mime.to_string(), content.as_str().into())).collect();
    let metadata = match (data.get("image/png"), data.get("text/plain")) {
        (Some(_), Some(text)) => json!({ "image/png": { "alt": text } }),
        _ => json!({}),
    };
    json!({ "data": data, "metadata": metadata })
}

/// Content by MIME type in the form of evcxr_jupyter.
fn evcxr_blocks(contents: &[(&str, String)]) -> String {
    let block = |(mime, content): &(&str, String)| {
        format!("EVCXR_BEGIN_CONTENT {mime}\n{}\nEVCXR_END_CONTENT\n", content.trim_end_matches('\n'))
    };
    contents.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_lines() {
        assert_eq!(
            evcxr_blocks(&[("text/html", "<b>1</b>".into()), ("text/plain", "1\n2\n".into())]),
            "EVCXR_BEGIN_CONTENT text/html\n<b>1</b>\nEVCXR_END_CONTENT\n\
             EVCXR_BEGIN_CONTENT text/plain\n1\n2\nEVCXR_END_CONTENT\n"
        );
    }

    #[test]
    fn a_picture_is_one_line_with_its_description() {
        let contents = [("image/png", "iVBOR".into()), ("text/plain", "two\nlines".into())];
        let text = message(&json!({ "show": bundle(&contents) }));
        assert_eq!(text.lines().count(), 1);
        let output: Value = serde_json::from_str(text.strip_prefix("VITLAB_OUTPUT ").unwrap()).unwrap();
        assert_eq!(output["show"]["data"]["text/plain"], "two\nlines");
        assert_eq!(output["show"]["metadata"]["image/png"]["alt"], "two\nlines");
    }
}
