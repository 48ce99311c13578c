//! The blocks by which evcxr carries rich content from a cell to the notebook.

use std::io::Write;

/// Prints one block per MIME type; a cell shows one of each type, and the front end picks the richest it can.
///
/// Written in one go with whole lines: a part of a line would glue itself to the kernel's own end-of-cell mark and
/// hang the cell.
pub(crate) fn display(contents: &[(&str, &str)]) {
    let mut stdout = std::io::stdout().lock();
    // Nobody is left to tell when the kernel has closed its end.
    _ = stdout
        .write_all(blocks(contents).as_bytes())
        .and_then(|()| stdout.flush());
}

fn blocks(contents: &[(&str, &str)]) -> String {
    let block = |(mime, content): &(&str, &str)| {
        format!(
            "EVCXR_BEGIN_CONTENT {mime}\n{}\nEVCXR_END_CONTENT\n",
            content.trim_end_matches('\n')
        )
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
