//! The project's own Python, for tests against PyTorch.

use std::path::{Path, PathBuf};
use std::process::Command;

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs a script of `tests/reference` and returns what it printed. `VITLAB_PYTHON` names another interpreter.
pub fn reference(script: &str, arguments: &[&str]) -> String {
    let interpreter = std::env::var_os("VITLAB_PYTHON")
        .map_or_else(|| repository().join(".venv/bin/python"), PathBuf::from);
    let output = Command::new(&interpreter)
        .arg(repository().join("tests/reference").join(script))
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `cargo lab test` sets it up",
                interpreter.display()
            )
        });
    assert!(
        output.status.success(),
        "{script} {arguments:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
