//! Checkpoints as people have them: dictionaries around a state dict, shards, folders, NumPy's archives, models of the
//! hub; and what describes their model, through every conversion.

#[path = "../common/mod.rs"]
mod common;
#[path = "../content.rs"]
mod content;
mod description;
mod entries;
mod folders;
mod hub;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use content::{Content, content, sorted};
use vitlab::checkpoint::Checkpoint;

/// A folder of files that PyTorch and NumPy write once for all tests of this program.
static FILES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    common::reference("checkpoints.py", &["make".as_ref(), folder.path()]);
    folder
});

fn file(name: &str) -> PathBuf {
    FILES.path().join(name)
}

fn expected(name: &str) -> Content {
    serde_json::from_str(&std::fs::read_to_string(file(&format!("{name}.json"))).unwrap()).unwrap()
}

/// Compares names, types, shapes and bytes; the order doesn't count.
#[track_caller]
fn assert_content(checkpoint: &Checkpoint, name: &str) {
    assert_eq!(sorted(content(&checkpoint.tensors)), sorted(expected(name)), "{}", checkpoint.path.display());
}

#[track_caller]
fn refusal(path: impl AsRef<Path>, entry: Option<&str>) -> String {
    let message = Checkpoint::open(path, entry).map(|found| content(&found.tensors)).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// The command with its environment cleared of the hub's variables.
fn vitlab() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitlab"));
    for name in ["HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    command
}

/// Runs the command; returns whether it succeeded, its standard output and its standard error.
fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}
