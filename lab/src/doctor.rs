//! `cargo lab doctor`: what is installed in which version, what is missing and what to type.

use std::path::PathBuf;
use std::process::Command;

use vitlab_dataset::pretrained::MODEL;
use vitlab_dataset::{download, source};

use crate::setup::{Launch, WarmBuild, kernel_build, kernelspec, venv};
use crate::system::{Error, Repository, Result, cache, process, toolchain};

const SETUP: &str = "cargo lab setup";

/// The state of a component: a mark, and a description that ends with what to type if something is wrong.
type State = (char, String);

/// Returns the state of a component that is `found`, or else missing or out of date.
fn state(found: Option<impl ToString>, problem: &str, remedy: &str) -> State {
    match found {
        Some(text) => ('✓', text.to_string()),
        None => ('✗', format!("{problem}; type: {remedy}")),
    }
}

/// Prints a line for each component.
///
/// # Errors
/// Fails if a component that the notebooks need is missing.
pub fn run(repository: &Repository) -> Result<()> {
    let first_line = |text: String| text.lines().next().unwrap_or_default().to_string();
    let compiler = process::output(Command::new("c++").arg("--version")).map(first_line);
    let rust_src = toolchain::has_rust_src().then_some("the kernel finds the types of a cell's variables");
    let no_rust_src = "missing; cells can't find the types of most variables";
    let in_kernel = |program: PathBuf| format!("on evcxr {} in {}", kernel_build::EVCXR_VERSION, program.display());
    let program = kernel_build::find(repository).map(in_kernel);
    let has_kernelspec = kernelspec::path(repository).is_file() && repository.venv_bin("lab").is_file();
    let kernel = format!("\"{}\" in .venv/share/jupyter/kernels", kernelspec::DISPLAY_NAME);
    // It is an extra, so its absence is no problem.
    let pretrained = MODEL.find().ok().map(|folder| ("Pre-trained model", state(Some(folder.display()), "", "")));
    let rows = [
        ("Rust", state(toolchain::rustc().ok().map(first_line), "rustc doesn't start", "see https://rustup.rs")),
        ("rust-src", state(rust_src, no_rust_src, "rustup component add rust-src")),
        ("C++ compiler", state(compiler, "missing", "install g++, on Debian by `sudo apt-get install g++`")),
        ("Python environment", python(repository)),
        ("libtorch", libtorch(repository)),
        ("Kernel's program", state(program, "not built from the present kernel/", SETUP)),
        ("FashionMNIST", data()),
        ("Warm build", warm_build(repository)),
        ("Kernel", state(has_kernelspec.then_some(kernel), "missing", SETUP)),
        ("Cache folder", state(Some(cache::home()?.display()), "", "")),
    ];
    let rows: Vec<_> = rows.into_iter().chain(pretrained).collect();
    for (name, (mark, text)) in &rows {
        println!("{mark} {name:<20}{text}");
    }
    match rows.iter().filter(|(_, (mark, _))| *mark == '✗').count() {
        0 => Ok(()),
        1 => Err(Error::argument("one component is missing or out of date")),
        count => Err(Error::argument(format!("{count} components are missing or out of date"))),
    }
}

fn python(repository: &Repository) -> State {
    let Some(venv) = venv::read(repository) else { return state(None::<&str>, "missing", SETUP) };
    let script = "import torch, jupyterlab, nbclient, nbconvert, sys
print('Python', sys.version.split()[0], '· torch', torch.__version__, '· JupyterLab', jupyterlab.__version__)";
    let versions = process::output(Command::new(repository.venv_bin("python")).args(["-c", script]));
    let (note, remedy) = match venv.own {
        true => (" · your own, by --python", format!("rm -r .venv; {SETUP}")),
        false => ("", format!("rm -r .venv {}; {SETUP}", venv.python.prefix.display())),
    };
    state(versions.map(|text| text + note), "torch or Jupyter can't be imported", &remedy)
}

fn libtorch(repository: &Repository) -> State {
    let link = repository.venv().join("libtorch");
    let library = ["lib/libtorch_cpu.so", "lib/libtorch_cpu.dylib"].iter().any(|name| link.join(name).exists());
    let found = (library && link.join("version.py").is_file()).then(|| link.canonicalize().unwrap_or(link));
    state(found.as_ref().map(|folder| folder.display()), ".venv/libtorch leads nowhere", SETUP)
}

fn data() -> State {
    match (source::find(None), download::unfinished(&source::cache_folder())) {
        (Ok(found), _) if found.is_synthetic() => {
            ('!', format!("{found}; type: unset {} for the real data", source::VARIABLE))
        }
        (Err(_), bytes @ 1..) => {
            state(None::<&str>, &format!("not found, {:.1} MB are downloaded", bytes as f64 / 1e6), SETUP)
        }
        (found, _) => state(found.ok(), "not found", SETUP),
    }
}

fn warm_build(repository: &Repository) -> State {
    let launch = Launch::read(repository);
    let fresh = |launch: &Launch| WarmBuild::of(repository, launch).is_fresh().unwrap_or(false);
    let problem = match &launch {
        Err(_) => "missing",
        Ok(launch) if toolchain::rustc().is_ok_and(|rustc| rustc != launch.rustc) => "built with another rustc",
        Ok(launch) if fresh(launch) => return state(Some("first cells start in seconds"), "", ""),
        Ok(_) => "missing or older than vitlab's sources, so kernels build vitlab themselves",
    };
    state(None::<&str>, problem, SETUP)
}
