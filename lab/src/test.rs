//! `cargo lab test`: all tests, after the set-up they need.

use std::io;
use std::ops::ControlFlow;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use crate::setup::{Setup, kernel_build, venv};
use crate::system::process::{OutputEvent, ended, follow, run_in_foreground, text};
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
        // Separately: lab's dependencies could enable features with which crates would be compiled again.
        let [workspace, lab] = [&["--locked"][..], &["--locked", "--profile", "lab", "--package", "lab"]];
        for package in [workspace, lab] {
            run_in_foreground(toolchain::cargo(&repository.root).arg("test").args(package).arg("--no-run"))?;
        }
        // Cargo runs one program after the other, and many tests in them wait for libtorch's random generator: half of the
        // cores would be idle.
        let pytest = Beside::start(self.pytest(repository));
        cargo_test(workspace)?;
        cargo_test(lab)?;
        let mut kernel = Command::new("cargo");
        kernel
            .args(["test", "--locked", "--release", "--manifest-path"])
            .arg(repository.root.join("kernel/Cargo.toml"));
        // Set-up has compiled the kernel's dependencies there.
        kernel.arg("--target-dir").arg(kernel_build::target());
        toolchain::clean_environment(&mut kernel);
        run_in_foreground(&mut kernel)?;
        pytest.finish()
    }

    fn pytest(&self, repository: &Repository) -> Command {
        let mut pytest = venv::command(repository, "python");
        // One file per core, and two on a single core, because these tests also wait. A kernel takes half a gigabyte.
        let files = thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 6)).to_string();
        pytest.args(["-m", "pytest", "tests", "-n", &files, "--dist", "loadfile"]);
        pytest.envs(WAITING).current_dir(&repository.root);
        if self.long {
            pytest.arg("--long");
        }
        pytest
    }
}

/// A command that runs beside others, whose output waits for its turn.
struct Beside {
    text: String,
    lines: Receiver<String>,
    command: JoinHandle<io::Result<ExitStatus>>,
}

impl Beside {
    fn start(mut command: Command) -> Self {
        let text = text(&command);
        let (sender, lines) = channel();
        let keep = move |event| {
            if let OutputEvent::Stdout(line) | OutputEvent::Stderr(line) = event {
                let _ = sender.send(line);
            }
            ControlFlow::Continue(())
        };
        Beside { text, lines, command: thread::spawn(move || follow(&mut command, keep)) }
    }

    /// Prints the output so far, and then the rest as it comes.
    fn finish(self) -> Result<()> {
        eprintln!("$ {}", self.text);
        self.lines.iter().for_each(|line| println!("{line}"));
        ended(&self.text, self.command.join().expect("the thread only reads"))
    }
}
