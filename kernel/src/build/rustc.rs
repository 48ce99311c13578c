//! Builds a cell without cargo. If nothing but the cell has changed since cargo built one, rustc is started as cargo
//! started it then. This avoids cargo's freshness check of every crate, and the half minute of `cargo check`, which
//! evcxr runs for example on a cell with a closure that can't be kept. Changes are found as cargo finds them: by the
//! modification times of the manifests and of the sources that cargo lists beside its output, and by the environment.

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

/// Makes this program cargo's wrapper around rustc, which records how cargo starts it.
const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";
/// Names the file for this record. Set in the environment of the wrapper.
pub const VARIABLE: &str = "VITLAB_RUSTC";
/// Folder of the set-up's stubs of libtorch's libraries, which the linker reads faster.
const STUBS: &str = "stubs";

/// A successful build by cargo.
#[derive(Serialize, Deserialize)]
struct Build {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// The files that it depends on, except the cell, with their modification times. `None` for a file that doesn't
    /// exist.
    inputs: Vec<(Option<SystemTime>, PathBuf)>,
    rustc: RustcCall,
}

/// How cargo started rustc for a cell, as the wrapper records it.
#[derive(Serialize, Deserialize)]
struct RustcCall {
    program: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: PathBuf,
}

/// Runs `cargo build` or `cargo check` for a cell, by rustc alone where possible. Outside evcxr's folder cargo does it.
pub fn compile(mut cargo: Command, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let folder = std::env::current_dir()?;
    let environment = environment();
    let is_cell = environment.get("EVCXR_TMPDIR").map(Path::new) == Some(&folder);
    let Some((kind, arguments)) = arguments.split_first().filter(|_| is_cell) else {
        return Err(cargo.exec().into());
    };
    super::generated::edit_source(&folder.join("src/lib.rs"))?;
    let (last_build, record) = (folder.join("target/build.json"), folder.join("target/rustc.json"));
    if let Some(last) = read::<Build>(&last_build)
        && last.arguments == arguments
        && last.environment == environment
        && last.inputs.iter().all(|(time, path)| modified(path) == *time)
    {
        return if kind == "check" { last.rustc.check() } else { last.rustc.build() };
    }
    if kind == "check" {
        return Err(cargo.exec().into());
    }
    let _ = fs::remove_file(&record);
    if !environment.contains_key(WRAPPER) {
        cargo.env(WRAPPER, std::env::current_exe()?).env(VARIABLE, &record);
    }
    let started = SystemTime::now();
    let status = cargo.status()?;
    if status.success()
        && let Some(rustc) = read::<RustcCall>(&record)
        && let Some(inputs) = inputs(&folder, &rustc)
        // cargo itself writes the lock file during the build.
        && inputs.iter().all(|(time, path)| path.ends_with("Cargo.lock") || time.is_none_or(|time| time < started))
    {
        write(&last_build, &Build { arguments: arguments.to_vec(), environment, inputs, rustc })?;
    }
    Ok(ExitCode::from(status.code().map_or(101, |code| code as u8)))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file that only the user can read, because the environment may contain secrets.
fn write<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(serde_json::to_writer(file, value)?)
}

/// Returns the environment, without variables that aren't UTF-8, because neither cargo nor rustc uses them, and without
/// the one that evcxr sets only for builds.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "EVCXR_EXECUTION_SO_PATH")
        .collect()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|it| it.modified()).ok()
}

/// Returns the manifests and the sources with their modification times. cargo lists the sources in a file two folders
/// above rustc's output.
fn inputs(folder: &Path, rustc: &RustcCall) -> Option<Vec<(Option<SystemTime>, PathBuf)>> {
    let list = rustc.output()?.parent()?.parent()?.join("libctx.d");
    let list = fs::read_to_string(list).ok()?;
    let (_, sources) = list.split_once(": ")?;
    let cell = folder.join("src/lib.rs");
    // The list escapes spaces within names.
    let sources = sources.trim_end().replace("\\ ", "\0");
    let sources = sources.split(' ').map(|name| PathBuf::from(name.replace('\0', " ")));
    let manifests = ["Cargo.toml", ".cargo/config.toml", "../Cargo.toml", "../Cargo.lock"];
    let all = sources.filter(|source| *source != cell).chain(manifests.map(|name| folder.join(name)));
    Some(all.map(|path| (modified(&path), path)).collect())
}

impl RustcCall {
    /// Returns the path of the cell's library.
    fn output(&self) -> Option<PathBuf> {
        let mut arguments = self.arguments.iter();
        arguments.find(|argument| *argument == "--out-dir")?;
        Some(Path::new(arguments.next()?).join(format!("{DLL_PREFIX}ctx{DLL_SUFFIX}")))
    }

    fn build(&self) -> anyhow::Result<ExitCode> {
        let status = self.start(&self.arguments)?;
        if status == ExitCode::SUCCESS {
            let (target, filenames) = (json!({ "name": "ctx" }), [self.output()]);
            println!("{}", json!({ "reason": "compiler-artifact", "target": target, "filenames": filenames }));
        }
        Ok(status)
    }

    /// Checks the cell against the built crates. cargo would check every crate first.
    fn check(&self) -> anyhow::Result<ExitCode> {
        let mut arguments = self.arguments.clone();
        let at = |start: &str| self.arguments.iter().position(|it| it.starts_with(start));
        if let Some(at) = at("--emit=") {
            arguments[at] = "--emit=metadata".into();
        }
        // Only builds may use the incremental data of builds.
        if let Some(at) = at("incremental=") {
            arguments.drain(at - 1..=at);
        }
        self.start(&arguments)
    }

    /// Starts rustc with its messages on the same stream as cargo's; evcxr understands both formats.
    fn start(&self, arguments: &[String]) -> anyhow::Result<ExitCode> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).env_clear().envs(&self.environment);
        Ok(if command.status()?.success() { ExitCode::SUCCESS } else { ExitCode::from(101) })
    }
}

/// Runs rustc, and records how it is started if it compiles a cell.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(!arguments.is_empty(), "the wrapper around rustc got no arguments from cargo");
    let program = arguments.remove(0);
    let mut environment = environment();
    let record = environment.remove(VARIABLE);
    let mut command = Command::new(&program);
    command.args(&arguments).env_remove(VARIABLE);
    if let Some(record) = record
        && arguments.windows(2).any(|two| two == ["--crate-name", "ctx"])
    {
        // The variables of make describe the running cargo.
        environment.retain(|name, _| !name.ends_with("MAKEFLAGS") && name != "MFLAGS");
        let folder = std::env::current_dir()?;
        if folder.join(STUBS).is_dir()
            && let Some(first) = arguments.iter().position(|it| it.starts_with("native="))
        {
            let stubs = format!("native={}", folder.join(STUBS).display());
            arguments.splice(first - 1..first - 1, ["-L".to_string(), stubs]);
        }
        let rustc = RustcCall { program, arguments, environment, folder };
        write(Path::new(&record), &rustc)?;
    }
    Err(command.exec().into())
}
