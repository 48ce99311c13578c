//! The protocol between a cell and the kernel: lines on the standard output, and files in a folder that both know.
//!
//! The kernel of vitlab shows several things in a cell, each where it occurs, changes them in place, and asks a training
//! to stop. A plain evcxr_jupyter shows the last content of each MIME type at the end of the cell.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

/// The folder through which the kernel of vitlab and its cells exchange files, or `None` on any other kernel.
pub(crate) fn kernel() -> Option<PathBuf> {
    std::env::var_os("VITLAB_KERNEL").map(PathBuf::from)
}

/// The number of the running cell, or `None` on any other kernel than that of vitlab.
pub(crate) fn cell() -> Option<String> {
    std::fs::read_to_string(kernel()?.join("cell")).ok()
}

/// Sends whole lines in one write: evcxr appends its mark for the end of a cell to an incomplete line and then waits
/// for the mark forever.
pub(super) fn write(lines: &str) {
    let mut stdout = std::io::stdout().lock();
    // A kernel that has closed its end of the pipe shows nothing more, an error message included.
    _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}

/// A message to the kernel of vitlab.
pub(super) fn message(output: &Value) -> String {
    format!("VITLAB_OUTPUT {output}\n")
}

/// Content by MIME type in Jupyter's form. The plain text of a picture becomes its alternative text.
pub(super) fn bundle(contents: &[(&str, String)]) -> Value {
    let data: Map<String, Value> =
        contents.iter().map(|(mime, content)| (mime.to_string(), Value::from(content.as_str()))).collect();
    let metadata = match (data.get("image/png"), data.get("text/plain")) {
        (Some(_), Some(text)) => json!({ "image/png": { "alt": text } }),
        _ => json!({}),
    };
    json!({ "data": data, "metadata": metadata })
}

/// Content by MIME type in the form of evcxr_jupyter.
pub(super) fn evcxr_blocks(contents: &[(&str, String)]) -> String {
    let block = |(mime, content): &(&str, String)| {
        format!("EVCXR_BEGIN_CONTENT {mime}\n{}\nEVCXR_END_CONTENT\n", content.trim_end_matches('\n'))
    };
    contents.iter().map(block).collect()
}

/// Listens for the user's interrupt of a training. While a value exists, the kernel does not end the cell's process on
/// an interrupt: the training is expected to stop by itself.
#[derive(Debug)]
pub(crate) struct Interrupt(Option<PathBuf>);

/// How many values of [`Interrupt`] exist.
static LISTENERS: Mutex<usize> = Mutex::new(0);

impl Interrupt {
    /// Announces to the kernel that [`Interrupt::asked`] is called after every step.
    pub(crate) fn listen() -> Self {
        let folder = kernel();
        if let Some(folder) = &folder {
            *LISTENERS.lock().unwrap() += 1;
            // Without this file the kernel ends the cell's process, which interrupts the training as well.
            _ = std::fs::write(folder.join("listening"), "");
        }
        Interrupt(folder)
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.as_ref().is_some_and(|folder| folder.join("interrupt").exists())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let mut listeners = LISTENERS.lock().unwrap();
            *listeners -= 1;
            if *listeners == 0 {
                _ = std::fs::remove_file(folder.join("listening"));
            }
        }
    }
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
