//! A cell's build without cargo: when nothing but the cell has changed since cargo built one, rustc is started as cargo did
//! then. That spares a cell the look at all its crates. What may have changed is decided as cargo does, by the times of files:
//! those that cargo itself lists beside what it built, and its manifests; and by the environment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

/// Makes this program cargo's wrapper around rustc, which notes how cargo starts it.
const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";
/// Names the file for that.
const VARIABLE: &str = "VITLAB_RUSTC";

/// Where set-up has put stand-ins for libtorch's libraries, of which the linker has less to read.
const STUBS: &str = "stubs";

/// A build that worked.
#[derive(Serialize, Deserialize)]
struct Build {
    /// What cargo was asked, and in which environment.
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    /// What it depends on but for the cell, by the time of the last change; none where there is no such file.
    inputs: Vec<(PathBuf, Option<SystemTime>)>,
    rustc: Rustc,
}

/// How cargo started rustc for a cell.
#[derive(Serialize, Deserialize)]
struct Rustc {
    program: String,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
    folder: PathBuf,
}

/// `cargo build` in evcxr's folder.
pub fn build(mut cargo: Command, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let folder = std::env::current_dir()?;
    let (kept, noted) = (
        folder.join("target/build.json"),
        folder.join("target/rustc.json"),
    );
    let variables: BTreeMap<String, String> = std::env::vars().collect();
    if let Some(last) = read::<Build>(&kept)
        && last.arguments == arguments
        && last.variables == variables
        && last
            .inputs
            .iter()
            .all(|(path, time)| changed(path) == *time)
    {
        return last.rustc.run();
    }
    let _ = fs::remove_file(&noted);
    if !variables.contains_key(WRAPPER) {
        cargo
            .env(WRAPPER, std::env::current_exe()?)
            .env(VARIABLE, &noted);
    }
    let started = SystemTime::now();
    let status = cargo.status()?;
    if status.success()
        && let Some(rustc) = read::<Rustc>(&noted)
        && let Some(inputs) = inputs(&folder, &rustc)
        && inputs
            .iter()
            .all(|(_, time)| time.is_none_or(|time| time < started))
    {
        let (arguments, variables) = (arguments.to_vec(), variables);
        let build = Build {
            arguments,
            variables,
            inputs,
            rustc,
        };
        fs::write(&kept, serde_json::to_vec(&build)?)?;
    }
    Ok(ExitCode::from(status.code().map_or(101, |code| code as u8)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|it| it.modified()).ok()
}

/// The manifests, and the sources by cargo's list beside what it built, two folders above which rustc put it.
fn inputs(folder: &Path, rustc: &Rustc) -> Option<Vec<(PathBuf, Option<SystemTime>)>> {
    let list = rustc.output()?.parent()?.parent()?.join("libctx.d");
    let list = fs::read_to_string(list).ok()?;
    let (_, sources) = list.split_once(": ")?;
    let cell = folder.join("src/lib.rs");
    // Spaces within names are escaped.
    let sources = sources.trim_end().replace("\\ ", "\0");
    let sources = sources
        .split(' ')
        .map(|name| PathBuf::from(name.replace('\0', " ")));
    let manifests = [
        "Cargo.toml",
        ".cargo/config.toml",
        "../Cargo.toml",
        "../Cargo.lock",
    ];
    let manifests = manifests.iter().map(|name| folder.join(name));
    let all = sources.filter(|source| *source != cell).chain(manifests);
    Some(
        all.map(|path| (changed(&path), path))
            .map(|(time, path)| (path, time))
            .collect(),
    )
}

impl Rustc {
    /// The cell's library.
    fn output(&self) -> Option<PathBuf> {
        let mut arguments = self.arguments.iter();
        arguments.find(|argument| *argument == "--out-dir")?;
        Some(Path::new(arguments.next()?).join("libctx.so"))
    }

    /// Messages go where cargo's would; evcxr understands rustc's own.
    fn run(&self) -> anyhow::Result<ExitCode> {
        let mut command = Command::new(&self.program);
        let status = (command.args(&self.arguments).current_dir(&self.folder))
            .env_clear()
            .envs(&self.variables)
            .status()?;
        if !status.success() {
            return Ok(ExitCode::from(101));
        }
        let artifact = json!({
            "reason": "compiler-artifact",
            "target": { "name": "ctx" },
            "filenames": [self.output()],
        });
        println!("{artifact}");
        Ok(ExitCode::SUCCESS)
    }
}

pub fn is_meant() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// rustc, after a note of how it is started if it is for a cell.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(!arguments.is_empty(), "cargo named no rustc");
    let program = arguments.remove(0);
    let mut variables: BTreeMap<String, String> = std::env::vars().collect();
    let noted = variables.remove(VARIABLE);
    let mut command = Command::new(&program);
    command.args(&arguments).env_remove(VARIABLE);
    let is_cell = arguments
        .windows(2)
        .any(|two| two == ["--crate-name", "ctx"]);
    if let Some(noted) = noted
        && is_cell
    {
        // Of the cargo that is at work now.
        variables.retain(|name, _| !name.ends_with("MAKEFLAGS") && name != "MFLAGS");
        let folder = std::env::current_dir()?;
        if folder.join(STUBS).is_dir()
            && let Some(first) = arguments.iter().position(|it| it.starts_with("native="))
        {
            let stubs = format!("native={}", folder.join(STUBS).display());
            arguments.splice(first - 1..first - 1, ["-L".to_string(), stubs]);
        }
        let rustc = Rustc {
            program,
            arguments,
            variables,
            folder,
        };
        fs::write(noted, serde_json::to_vec(&rustc)?)?;
    }
    Err(command.exec().into())
}
