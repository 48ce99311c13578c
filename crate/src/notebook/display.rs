//! How rich content gets from a cell to the notebook.

use std::io::Write;

use serde_json::json;

use super::live::{bundle, kernel, line};

/// Shows one thing, given by MIME type. vitlab's kernel shows each where it occurs; evcxr_jupyter shows one of each type at
/// the end of the cell.
pub(crate) fn display(contents: &[(&str, &str)]) {
    write(&match kernel() {
        Some(_) => line(&json!({ "show": bundle(contents) })),
        None => blocks(contents),
    });
}

/// Written in one go with whole lines: a part of a line would glue itself to evcxr's own end-of-cell mark and hang the
/// cell.
pub(super) fn write(lines: &str) {
    let mut stdout = std::io::stdout().lock();
    // Nobody is left to tell when the kernel has closed its end.
    _ = stdout.write_all(lines.as_bytes()).and_then(|()| stdout.flush());
}

/// What evcxr takes for rich content.
fn blocks(contents: &[(&str, &str)]) -> String {
    let block = |(mime, content): &(&str, &str)| {
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
            blocks(&[("text/html", "<b>1</b>"), ("text/plain", "1\n2\n")]),
            "EVCXR_BEGIN_CONTENT text/html\n<b>1</b>\nEVCXR_END_CONTENT\n\
             EVCXR_BEGIN_CONTENT text/plain\n1\n2\nEVCXR_END_CONTENT\n"
        );
    }
}
