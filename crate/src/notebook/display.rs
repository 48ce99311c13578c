//! The blocks by which evcxr carries rich content from a cell to the notebook.

use std::io::Write;

/// Prints one block per MIME type; a cell shows one of each type, and the front end picks the richest it can.
///
/// Written in one go with whole lines: a part of a line would glue itself to the kernel's own end-of-cell mark and
/// hang the cell.
pub(crate) fn display(contents: &[(&str, &str)]) {
    let mut out = String::new();
    for (mime, content) in contents {
        out.push_str(&format!(
            "EVCXR_BEGIN_CONTENT {mime}\n{}\nEVCXR_END_CONTENT\n",
            content.trim_end_matches('\n')
        ));
    }
    let mut stdout = std::io::stdout().lock();
    // Nobody is left to tell when the kernel has closed its end.
    _ = stdout
        .write_all(out.as_bytes())
        .and_then(|()| stdout.flush());
}
