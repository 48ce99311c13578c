//! `cargo lab setup` in temporary clones, whose Python environment needs only pip: repair after an interruption, concurrent
//! set-ups, errors. The last test checks the real set-up of this clone, which the other test files use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::system::process::{output, succeeds};

/// A clone with only the files that a set-up begins with, and a cache folder of its own.
struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clone = Clone { folder };
        fs::create_dir_all(clone.root().join("crate")).unwrap();
        fs::write(clone.root().join("crate/Cargo.toml"), "").unwrap();
        // The version of pip that `venv` unpacks: installing it needs no network.
        let pip = "import ensurepip; print(ensurepip.version())";
        let pip = output(Command::new("python3").args(["-c", pip])).expect("a python3 with ensurepip");
        let text = format!("dependencies:\n  - python>=3.8,<3.20\n  - pip:\n      - pip=={pip}\n");
        fs::write(clone.root().join("environment.yml"), text).unwrap();
        clone
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("clone")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn setup(&self) -> Command {
        self.setup_with("synthetic")
    }

    fn setup_with(&self, data: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(["setup", "--data", data]).current_dir(self.root()).env("VITLAB_HOME", self.home());
        command.env_remove("VITLAB_PYTHON").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The Python environment in the cache folder.
    fn environment(&self) -> Option<PathBuf> {
        let mut entries = fs::read_dir(self.home()).ok()?.flatten().map(|entry| entry.path());
        entries.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("env-"))
    }

    fn is_complete(&self) -> bool {
        let environment = self.environment().expect("an environment");
        environment.join("complete").is_file()
            && succeeds(Command::new(environment.join("bin/python")).args(["-m", "pip", "--version"]))
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The error of a set-up that has completed a Python environment without torch.
const NO_TORCH: &str = "holds no torch";

#[test]
fn an_interrupted_setup_is_repaired_by_the_next() {
    let clone = Clone::new();
    let mut first = clone.setup().stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while clone.environment().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "no environment was begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let environment = clone.environment().unwrap();
    assert!(!environment.join("complete").exists());
    // A killed pip may leave such files behind.
    fs::write(environment.join("half-written"), "").unwrap();

    let second = clone.setup().output().unwrap();
    assert!(text(&second).contains(NO_TORCH), "{}", text(&second));
    assert!(clone.is_complete());
    assert!(!environment.join("half-written").exists());
}

#[test]
fn two_setups_at_once_wait_for_each_other() {
    let clone = Clone::new();
    let both: Vec<_> = (0..2).map(|_| clone.setup().spawn().unwrap()).collect();
    let texts: Vec<String> = both.into_iter().map(|child| text(&child.wait_with_output().unwrap())).collect();
    assert!(clone.is_complete());
    for text in &texts {
        assert!(text.contains(NO_TORCH), "{text}");
    }
    // The kernel's step, on a thread of its own, may wait as well.
    let waits =
        |line: &str| line.contains("Python environment") && line.contains("another set-up is running this step");
    let waited = texts.iter().filter(|text| text.lines().any(waits)).count();
    assert_eq!(waited, 1, "{texts:?}");
}

#[test]
fn a_venv_from_elsewhere_is_left_alone() {
    let clone = Clone::new();
    let venv = clone.root().join(".venv");
    fs::create_dir(&venv).unwrap();
    fs::write(venv.join("mine"), "").unwrap();
    let output = clone.setup().output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("wasn't made by vitlab"), "{}", text(&output));
    assert!(venv.join("mine").exists());
}

#[test]
fn a_python_without_the_packages_says_what_to_type() {
    let clone = Clone::new();
    fs::write(
        clone.root().join("environment.yml"),
        "dependencies:\n  - python>=3.8,<3.20\n  - pip:\n      - torch==0.0.1\n      - no-such-package-here==1.0\n",
    )
    .unwrap();
    let output = clone.setup().args(["--python", "python3"]).output().unwrap();
    assert!(!output.status.success());
    let text = text(&output);
    assert!(text.contains("-m pip install torch==0.0.1 no-such-package-here==1.0"), "{text}");
    assert!(!clone.root().join(".venv").exists());
}

#[test]
fn a_data_folder_named_in_vain_is_told_before_anything_is_built() {
    let clone = Clone::new();
    let output = clone.setup_with("/nowhere/at/all").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output).contains("/nowhere/at/all: doesn't exist"), "{}", text(&output));
    assert!(clone.environment().is_none());
}

/// Checks the `.venv` of the clone under test.
#[test]
fn the_overlay_runs_the_environments_programs_with_its_own_python() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let bin = root.join(".venv/bin");
    let script = "import sys, torch, nbclient; print(sys.prefix); print(torch.__version__.split('+')[0])";
    let text = output(Command::new(bin.join("python")).args(["-c", script])).expect("run `cargo lab setup` first");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(Path::new(lines[0]).canonicalize().unwrap(), root.join(".venv").canonicalize().unwrap());
    assert_eq!(lines[1], "2.11.0");
    let kernels = output(Command::new(bin.join("jupyter")).args(["kernelspec", "list", "--json"])).unwrap();
    let kernels: serde_json::Value = serde_json::from_str(&kernels).unwrap();
    let spec = &kernels["kernelspecs"]["vitlab"];
    assert_eq!(spec["spec"]["display_name"], "Rust (vitlab)");
    assert!(Path::new(spec["resource_dir"].as_str().unwrap()).starts_with(root.join(".venv")));
}
