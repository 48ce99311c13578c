//! Notebooks through `cargo lab run`, and kernels through the kernelspec that `cargo lab setup` wrote for this clone.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::setup::Launch;
use lab::system::Repository;
use serde_json::{Value, json};

fn repository() -> Repository {
    Repository::containing(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A notebook with the given code cells in a temporary folder.
struct Notebook {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Notebook {
    fn new(name: &'static str, cells: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cell = |(number, source): (usize, &&str)| json!({ "cell_type": "code", "id": format!("c{number}"), "metadata": {}, "source": source, "outputs": [], "execution_count": null });
        let title = json!({ "cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Title" });
        let cells: Vec<Value> = std::iter::once(title).chain(cells.iter().enumerate().map(cell)).collect();
        let notebook = json!({ "nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells });
        fs::write(folder.path().join(format!("{name}.ipynb")), notebook.to_string()).unwrap();
        Notebook { folder, name }
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command
            .arg("run")
            .arg(self.folder.path().join(format!("{}.ipynb", self.name)))
            .args(["--quick", "--data", "synthetic", "--out"])
            .arg(self.out())
            .current_dir(repository().root)
            .stdin(Stdio::null());
        command
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn executed(&self) -> Value {
        let path = self.out().join(format!("{}-quick.ipynb", self.name));
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the text that a cell printed or returned, in order.
fn outputs(cell: &Value) -> String {
    let one = |output: &Value| {
        let text = if output["output_type"] == "stream" { &output["text"] } else { &output["data"]["text/plain"] };
        match text {
            Value::Array(lines) => lines.iter().map(|line| line.as_str().unwrap()).collect(),
            text => text.as_str().unwrap_or_default().to_string(),
        }
    };
    cell["outputs"].as_array().unwrap().iter().map(one).collect()
}

/// Asserts that a failing cell ends the run with an error that names notebook, cell and problem, and that the cells before it
/// are written.
fn assert_fails(name: &'static str, cells: &[&str], expected: &str, position: usize) {
    let notebook = Notebook::new(name, cells);
    let output = notebook.run();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let sentence = format!("{name}.ipynb: cell {position}, [{}]: ", position - 1);
    assert!(said.contains(&sentence) && said.contains(expected), "{said}");
    let executed = notebook.executed();
    let text: String = executed["cells"].as_array().unwrap()[1..].iter().map(outputs).collect();
    assert!(text.contains("reached"), "{text}");
    assert!(!text.contains("went on"), "{text}");
}

#[test]
fn a_panic_fails() {
    let cells = ["let v: Vec<i32> = vec![];\nprintln!(\"reached\");", "let x = v[3];", "println!(\"went on\");"];
    assert_fails("panicking", &cells, "panicked: index out of bounds: the len is 0 but the index is 3", 3);
}

#[test]
fn a_failing_question_mark_fails() {
    let cells = ["println!(\"reached\");", "let n: i32 = \"x\".parse::<i32>()?;", "println!(\"went on\");"];
    assert_fails("question", &cells, "invalid digit", 3);
}

#[test]
fn a_compile_error_fails() {
    let cells = ["let n: i32 = 1;\nprintln!(\"reached\");", "let s: String = n;", "println!(\"went on\");"];
    assert_fails("compile", &cells, "mismatched types", 3);
}

#[test]
fn two_kernels_at_once_use_the_crate_without_disturbing_each_other() {
    let run = |number: u32| {
        let value = format!("let number: u32 = {number};");
        let cells = [
            ":dep vitlab = { path = \"../crate\" }\nuse vitlab::Error;",
            &value,
            "std::thread::sleep(std::time::Duration::from_secs(1));\nprintln!(\"{}\", Error::argument(format!(\"kernel {number}\")));",
            "std::env::var(\"VITLAB_QUICK\").unwrap() + &std::env::var(\"VITLAB_DATA\").unwrap()",
            "println!(\"{}\", std::env::current_dir()?.display());",
        ];
        let notebook = Notebook::new("pair", &cells);
        let started = Instant::now();
        let output = notebook.run();
        assert!(output.status.success(), "{}", said(&output));
        println!("kernel {number}: `:dep`, four cells, start and end in {:.1} s", started.elapsed().as_secs_f64());
        let executed = notebook.executed();
        let cells = executed["cells"].as_array().unwrap();
        assert_eq!(outputs(&cells[3]), format!("kernel {number}\n"));
        assert_eq!(outputs(&cells[4]), "\"1synthetic\"");
        // The working directory is notebooks/; the path of the clone is removed from the output.
        assert_eq!(outputs(&cells[5]), "notebooks\n");
        let counts: Vec<_> = cells[1..].iter().map(|cell| cell["execution_count"].as_u64().unwrap()).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5]);
        assert_eq!(executed["metadata"]["vitlab"], json!({ "quick": true, "data": "synthetic" }));
        assert_eq!(executed["metadata"]["kernelspec"]["name"], "vitlab");
        let html = fs::read_to_string(notebook.out().join("pair-quick.html")).unwrap();
        assert!(html.contains(&format!("kernel {number}")));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(1));
        scope.spawn(|| run(2));
    });
}

#[test]
fn an_unknown_notebook_and_an_unwritable_output_are_one_sentence() {
    let lab = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.arg("run").current_dir(repository().root).stdin(Stdio::null());
        command
    };
    let output = lab().arg("no_such_notebook").output().unwrap();
    assert!(!output.status.success());
    assert!(said(&output).contains("there is no notebook no_such_notebook"), "{}", said(&output));

    let notebook = Notebook::new("any", &["1"]);
    fs::write(notebook.out(), "a file where the folder should be").unwrap();
    let output = notebook.run();
    assert!(!output.status.success());
    assert!(said(&output).contains("can't be written to"), "{}", said(&output));
}

/// A kernel without a client. Its folder is in the cache's `kernels/`, beside those of other kernels.
struct Kernel {
    launcher: Child,
    folder: PathBuf,
    _connection: tempfile::TempDir,
}

impl Kernel {
    fn start() -> Self {
        let connection = tempfile::tempdir().unwrap();
        let sockets: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |number: usize| sockets[number].local_addr().unwrap().port();
        let file = json!({
            "transport": "tcp", "ip": "127.0.0.1", "key": "test", "signature_scheme": "hmac-sha256", "kernel_name": "vitlab",
            "shell_port": port(0), "iopub_port": port(1), "stdin_port": port(2), "control_port": port(3), "hb_port": port(4),
        });
        let path = connection.path().join("connection.json");
        fs::write(&path, file.to_string()).unwrap();
        drop(sockets);
        let program = repository().venv_bin("lab");
        let mut command = Command::new(program);
        command.arg("kernel").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let launcher = command.spawn().expect("run `cargo lab setup` first");
        let folder = wait_for("a kernel's folder", || folder_of(launcher.id()));
        Kernel { launcher, folder, _connection: connection }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.launcher.id().to_string()]).status().unwrap().success());
    }
}

/// Returns the folder of a running kernel, which is the child of `launcher`.
fn folder_of(launcher: u32) -> Option<PathBuf> {
    let child = child_of(launcher)?;
    let environment = fs::read(format!("/proc/{child}/environ")).ok()?;
    let text = String::from_utf8_lossy(&environment).into_owned();
    let folder = text.split('\0').find_map(|variable| variable.strip_prefix("EVCXR_TMPDIR="))?;
    Some(Path::new(folder).parent()?.to_path_buf())
}

fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn wait_for<T>(event: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {event}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns true if no process locks a kernel's folder, or if another kernel has removed it with its lock.
fn is_free(folder: &Path) -> bool {
    let lock = folder.with_extension("lock");
    !lock.exists() || File::open(lock).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_kernel_leaves_nothing_behind_after_the_next_start() {
    let kernels = Launch::read(&repository()).unwrap().home.join("kernels");
    let mut killed = Kernel::start();
    assert!(killed.folder.starts_with(kernels) && killed.folder.join("ctx").is_dir());
    killed.signal("-KILL");
    killed.launcher.wait().unwrap();
    // The kernel's processes end with their launcher.
    wait_for("the killed kernel's processes to end", || is_free(&killed.folder).then_some(()));

    let mut next = Kernel::start();
    assert!(!killed.folder.exists(), "removed by this or another kernel");
    next.signal("-TERM");
    next.launcher.wait().unwrap();
    assert!(!next.folder.exists(), "removed by its own kernel");
    assert!(!next.folder.with_extension("lock").exists());
}
