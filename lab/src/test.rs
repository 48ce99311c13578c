//! `cargo lab test`: all tests, after the set-up they need.

use std::process::Command;
use std::thread;

use crate::setup::{Setup, kernel_build, venv};
use crate::system::process::run_in_foreground;
use crate::system::{Repository, Result, toolchain};

/// libtorch's threads sleep while they have no work. Otherwise they spin, which takes the cores from the tests beside them.
const WAITING: [(&str, &str); 1] = [("OMP_WAIT_POLICY", "passive")];

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo lab test                           every test but the long ones
  cargo lab test --long                    every test
  cargo lab test -- --test model views     only tests of tests/model.rs with `views` in their name
  cargo lab test -- -p lab                 only the tests of set-up, kernel and run")]
pub struct Test {
    /// Also run the long tests: benchmarks, rare faults of the kernel, containers
    #[arg(long, conflicts_with = "arguments")]
    long: bool,
    /// Arguments for `cargo test`, which tests all packages but lab and the kernel unless they name one
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    /// Sets the clone up, then runs the tests that the arguments select, or all but the long ones.
    pub fn run(&self, repository: &Repository) -> Result<()> {
        Setup::default().run(repository)?;
        let long: &[&str] = if self.long { &["--", "--include-ignored"] } else { &[] };
        let cargo_test = |options: &[&str]| {
            let mut command = toolchain::cargo(&repository.root);
            run_in_foreground(command.envs(WAITING).arg("test").args(options).args(&self.arguments).args(long))
        };
        if !self.arguments.is_empty() {
            return cargo_test(&[]);
        }
        cargo_test(&["--locked"])?;
        // Separately: lab's dependencies could enable features with which crates would be compiled again.
        cargo_test(&["--locked", "--profile", "lab", "--package", "lab"])?;
        let mut kernel = Command::new("cargo");
        kernel
            .args(["test", "--locked", "--release", "--manifest-path"])
            .arg(repository.root.join("kernel/Cargo.toml"));
        // Set-up has compiled the kernel's dependencies there.
        kernel.arg("--target-dir").arg(kernel_build::target());
        toolchain::clean_environment(&mut kernel);
        run_in_foreground(&mut kernel)?;
        let mut pytest = venv::command(repository, "python");
        // One file per core, and two on a single core, because these tests also wait. A kernel takes half a gigabyte.
        let files = thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 6)).to_string();
        pytest.args(["-m", "pytest", "tests", "-n", &files, "--dist", "loadfile"]);
        pytest.envs(WAITING).current_dir(&repository.root);
        if self.long {
            pytest.arg("--long");
        }
        run_in_foreground(&mut pytest)
    }
}
