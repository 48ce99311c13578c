//! Runs a script of tests/reference in the project's Python environment.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use tch::Tensor;

/// The tensors that `tests/reference/SCRIPT` writes to the file it is given.
pub fn reference(script: &str) -> HashMap<String, Tensor> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = std::env::var_os("VITLAB_PYTHON").unwrap_or(root.join(".venv/bin/python").into());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("reference.safetensors");
    let status = Command::new(&python)
        .arg(root.join("tests/reference").join(script))
        .arg(&file)
        .status();
    let status = status.unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run `cargo lab setup` or name a Python in VITLAB_PYTHON",
            python.display()
        )
    });
    assert!(status.success(), "{script}: {status}");
    Tensor::read_safetensors(&file)
        .expect("a safetensors file")
        .into_iter()
        .collect()
}
