//! `cargo lab test`: all tests, after the set-up they need.

use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::setup::{Setup, kernel_build, venv};
use crate::system::process::{check_status, command_line, run_in_foreground};
use crate::system::{Error, Repository, Result, toolchain};

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
        for arguments in [workspace, lab] {
            run_in_foreground(toolchain::cargo(&repository.root).arg("test").args(arguments).arg("--no-run"))?;
        }
        run_in_foreground(kernel(repository).arg("--no-run"))?;
        // Cargo runs one program after the other, and many tests in them wait for libtorch's random generator, which leaves
        // cores idle. Both end before either's failure is told, so that no test is stopped while it cleans up.
        let pytest = Beside::start(self.pytest(repository))?;
        let of_kernel = || run_in_foreground(&mut kernel(repository));
        let cargo = cargo_test(workspace).and_then(|()| cargo_test(lab)).and_then(|()| of_kernel());
        let python = pytest.finish();
        cargo.and(python)
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
        if io::stdout().is_terminal() {
            pytest.arg("--color=yes");
        }
        pytest
    }
}

/// The kernel's tests. Set-up has compiled their dependencies in that target folder.
fn kernel(repository: &Repository) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked", "--release", "--manifest-path"]).arg(repository.root.join("kernel/Cargo.toml"));
    command.arg("--target-dir").arg(kernel_build::target());
    toolchain::clean_environment(&mut command);
    command
}

/// A command that runs beside others, whose output waits for its turn.
struct Beside {
    line: String,
    child: Child,
    output: NamedTempFile,
}

impl Beside {
    fn start(command: Command) -> Result<Self> {
        let line = command_line(&command);
        let start = |mut command: Command| {
            let output = NamedTempFile::new()?;
            let [stdout, stderr] = [output.as_file().try_clone()?, output.as_file().try_clone()?];
            let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn()?;
            Ok((child, output))
        };
        let started: io::Result<_> = start(command);
        let (child, output) = started.map_err(|error| Error::argument(format!("`{line}` can't be run ({error})")))?;
        Ok(Beside { line, child, output })
    }

    /// Prints the output so far, and then the rest as it comes.
    fn finish(mut self) -> Result<()> {
        eprintln!("$ {}", self.line);
        let line = self.line.clone();
        check_status(&line, self.print())
    }

    fn print(&mut self) -> io::Result<ExitStatus> {
        let mut output = self.output.reopen()?;
        loop {
            let status = self.child.try_wait()?;
            io::copy(&mut output, &mut io::stdout())?;
            io::stdout().flush()?;
            if let Some(status) = status {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_beside_others_tells_its_status() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Beside::start(command).unwrap().finish()
        };
        shell("echo out; echo err >&2").unwrap();
        let error = shell("exit 3").unwrap_err().to_string();
        assert!(error.contains("`sh -c exit 3` failed") && error.contains('3'), "{error}");
        let missing = Beside::start(Command::new("no-such-program")).err().expect("it can't start").to_string();
        assert!(missing.contains("`no-such-program` can't be run"), "{missing}");
    }
}
