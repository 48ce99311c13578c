//! Runs the independent references in `tests/reference` with the project's Python.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Runs `tests/reference/SCRIPT` with the project's Python and returns its standard output.
pub fn reference<S: AsRef<OsStr>>(script: &str, arguments: &[S]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the repository");
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "{} is missing: run `cargo lab setup`", python.display());
    let output = Command::new(python)
        .arg(root.join("tests/reference").join(script))
        .args(arguments)
        .output()
        .expect("Python starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script} failed:\n{}", text(&output.stderr));
    text(&output.stdout)
}
