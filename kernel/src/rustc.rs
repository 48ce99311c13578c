//! A cell's build without cargo: when nothing but the cell has changed since cargo built one, rustc is started as cargo did
//! then. That spares a cell the look at all its crates; and a cell that evcxr wants checked, as for a closure that it can't
//! keep, their check, which takes cargo half a minute. What may have changed is decided as cargo does, by the times of files:
//! those that cargo itself lists beside what it built, and its manifests; and by the environment.

use std::collections::BTreeMap;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

/// Names evcxr's folder.
const FOLDER: &str = "EVCXR_TMPDIR";
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

/// `cargo build` or `cargo check` in evcxr's folder, if it is there; elsewhere cargo alone does either.
pub fn compile(mut cargo: Command, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let folder = std::env::current_dir()?;
    let variables = variables();
    if variables.get(FOLDER).map(Path::new) != Some(&folder) {
        return Err(cargo.exec().into());
    }
    let (kept, noted) = (folder.join("target/build.json"), folder.join("target/rustc.json"));
    let Some((kind, arguments)) = arguments.split_first() else {
        return Err(cargo.exec().into());
    };
    if let Some(last) = read::<Build>(&kept)
        && last.arguments == arguments
        && last.variables == variables
        && last.inputs.iter().all(|(path, time)| changed(path) == *time)
    {
        return match kind.as_str() {
            "check" => last.rustc.check(),
            _ => last.rustc.build(),
        };
    }
    if kind == "check" {
        return Err(cargo.exec().into());
    }
    let _ = fs::remove_file(&noted);
    if !variables.contains_key(WRAPPER) {
        cargo.env(WRAPPER, std::env::current_exe()?).env(VARIABLE, &noted);
    }
    let started = SystemTime::now();
    let status = cargo.status()?;
    if status.success()
        && let Some(rustc) = read::<Rustc>(&noted)
        && let Some(inputs) = inputs(&folder, &rustc)
        && inputs.iter().all(|(path, time)| {
            // cargo itself writes the lock file.
            path.ends_with("Cargo.lock") || time.is_none_or(|time| time < started)
        })
    {
        let (arguments, variables) = (arguments.to_vec(), variables);
        let build = Build { arguments, variables, inputs, rustc };
        write(&kept, &build)?;
    }
    Ok(ExitCode::from(status.code().map_or(101, |code| code as u8)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// For nobody else to read: the environment may hold secrets.
fn write<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    let mut options = File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(path)?;
    Ok(serde_json::to_writer(file, value)?)
}

/// The environment, without what isn't text, which neither cargo nor rustc has a use for, and what evcxr sets for builds only.
fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "EVCXR_EXECUTION_SO_PATH")
        .collect()
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
    let sources = sources.split(' ').map(|name| PathBuf::from(name.replace('\0', " ")));
    let manifests = ["Cargo.toml", ".cargo/config.toml", "../Cargo.toml", "../Cargo.lock"];
    let manifests = manifests.iter().map(|name| folder.join(name));
    let all = sources.filter(|source| *source != cell).chain(manifests);
    Some(all.map(|path| (changed(&path), path)).map(|(time, path)| (path, time)).collect())
}

impl Rustc {
    /// The cell's library.
    fn output(&self) -> Option<PathBuf> {
        let mut arguments = self.arguments.iter();
        arguments.find(|argument| *argument == "--out-dir")?;
        Some(Path::new(arguments.next()?).join(format!("{DLL_PREFIX}ctx{DLL_SUFFIX}")))
    }

    fn build(&self) -> anyhow::Result<ExitCode> {
        let status = self.start(&self.arguments)?;
        if status == ExitCode::SUCCESS {
            let artifact = json!({
                "reason": "compiler-artifact",
                "target": { "name": "ctx" },
                "filenames": [self.output()],
            });
            println!("{artifact}");
        }
        Ok(status)
    }

    /// With the crates as they are built; cargo would check all of them first.
    fn check(&self) -> anyhow::Result<ExitCode> {
        let mut arguments = self.arguments.clone();
        let at = |start: &str| self.arguments.iter().position(|it| it.starts_with(start));
        if let Some(at) = at("--emit=") {
            arguments[at] = "--emit=metadata".into();
        }
        // What a cell's builds keep for each other serves them alone.
        if let Some(at) = at("incremental=") {
            arguments.drain(at - 1..=at);
        }
        self.start(&arguments)
    }

    /// Messages go where cargo's would; evcxr understands rustc's own.
    fn start(&self, arguments: &[String]) -> anyhow::Result<ExitCode> {
        let status = Command::new(&self.program)
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .envs(&self.variables)
            .status()?;
        Ok(match status.success() {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(101),
        })
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
    let mut variables = variables();
    let noted = variables.remove(VARIABLE);
    let mut command = Command::new(&program);
    command.args(&arguments).env_remove(VARIABLE);
    let is_cell = arguments.windows(2).any(|two| two == ["--crate-name", "ctx"]);
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
        let rustc = Rustc { program, arguments, variables, folder };
        write(Path::new(&noted), &rustc)?;
    }
    Err(command.exec().into())
}
