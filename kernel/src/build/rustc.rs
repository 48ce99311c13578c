//! Builds a cell without cargo. If nothing but the cell has changed since cargo built one, rustc is started as cargo
//! started it then. This avoids cargo's freshness check of every crate, and the half minute of `cargo check`, which
//! evcxr runs for example on a cell with a closure that can't be kept. Changes are found as cargo finds them: by the
//! modification times of the [manifests](super::manifests) and of the sources that cargo lists beside its output, and by
//! the environment.

use std::collections::BTreeMap;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::Context;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::cargo::is_plain;
use super::{display, manifests, progress};

/// Makes this program cargo's wrapper around rustc. The wrapper records how cargo starts rustc. cargo would count a wrapper
/// for the workspace alone as part of a package's identity, and compile vitlab once more.
const WRAPPER: &str = "RUSTC_WRAPPER";
/// Names the wrapper, such as sccache, that the user has set in the environment. It wraps rustc for other crates than cells.
pub const INNER_WRAPPER: &str = "VITLAB_INNER_WRAPPER";
/// Names the file for this record. Set in the environment of the wrapper.
pub const VARIABLE: &str = "VITLAB_RUSTC";
/// File that exists while variables do.
pub const VARIABLES: &str = "variables";
/// Set by evcxr if this program is cargo's wrapper around rustc for every crate: it then fills the cache of `:cache` and
/// builds dynamic libraries for `:allow_static_linking 0`.
pub const EVCXR_WRAPPER: &str = "EVCXR_RUSTC_WRAPPER";
/// Set by evcxr if its wrapper uses the cache.
pub const EVCXR_CACHE: &str = "EVCXR_CACHE_ENABLED";
/// Set by evcxr to the file in which its wrapper writes the path of the cell's library.
const LIBRARY: &str = "EVCXR_EXECUTION_SO_PATH";
/// Flags for every rustc that cargo starts.
pub const FLAGS: &str = "RUSTFLAGS";
/// The flag that evcxr gives for a cell, so that it links the standard library's shared library.
pub const PREFER_DYNAMIC: &str = "-Cprefer-dynamic";
/// Folder of the set-up's stubs of libtorch's libraries, which the linker reads faster.
const STUBS: &str = "stubs";

/// A successful build by cargo.
#[derive(Serialize, Deserialize)]
pub struct Build {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// The files that it depends on, except the cell, with their modification times. `None` for a file that doesn't
    /// exist.
    inputs: Vec<(Option<SystemTime>, PathBuf)>,
    pub rustc: RustcCall,
}

/// How cargo started rustc for a cell, as the wrapper records it.
#[derive(Serialize, Deserialize)]
pub struct RustcCall {
    program: String,
    pub arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: PathBuf,
}

/// Returns whether the crates of a cell are compiled as by a plain `cargo build`: evcxr's settings are the usual ones, by
/// which only the cell itself is to prefer shared libraries.
pub fn shares_builds() -> bool {
    let flags = std::env::var(FLAGS);
    cell_folder().is_some() && !is_set(EVCXR_WRAPPER) && flags.is_ok_and(|flags| flags == PREFER_DYNAMIC)
}

/// Runs `cargo build` or `cargo check` for a cell, by rustc alone where possible. Outside evcxr's folder cargo does it.
pub fn compile(mut cargo: Command, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let environment = environment();
    let (Some(folder), Some((kind, arguments))) = (cell_folder(), arguments.split_first()) else {
        return Err(cargo.exec().into());
    };
    if !is_plain() {
        super::generated::edit_source(&folder.join("src/lib.rs"))?;
    }
    let (last_build, record) = (folder.join("target/build.json"), folder.join("target/rustc.json"));
    if !is_plain()
        && let Some(last) = read::<Build>(&last_build)
        && last.arguments == arguments
        && last.environment == environment
        && last.inputs.iter().all(|(time, path)| modified(path) == *time)
    {
        return if kind == "check" { last.rustc.check() } else { last.rustc.build() };
    }
    if kind == "check" {
        cargo = as_build(&cargo);
    }
    let _ = fs::remove_file(&record);
    // evcxr's wrapper for every crate is this program, too, and records as well.
    if environment.contains_key(EVCXR_WRAPPER) {
        cargo.env(VARIABLE, &record);
    } else {
        cargo.env(WRAPPER, std::env::current_exe()?).env(VARIABLE, &record);
        cargo.envs(environment.get(WRAPPER).map(|wrapper| (INNER_WRAPPER, wrapper)));
    }
    let started = SystemTime::now();
    let status = progress::run(&mut cargo)?;
    if status == ExitCode::SUCCESS
        && let Some(rustc) = read::<RustcCall>(&record)
    {
        rustc.report_library()?;
        if let Some(inputs) = inputs(&folder, &rustc)
            // cargo itself writes the lock file during the build.
            && inputs.iter().all(|(time, path)| path.ends_with("Cargo.lock") || time.is_none_or(|time| time < started))
        {
            write(&last_build, &Build { arguments: arguments.to_vec(), environment, inputs, rustc })?;
        }
    }
    Ok(status)
}

/// Returns evcxr's folder for cells if it is the current folder.
pub fn cell_folder() -> Option<PathBuf> {
    let folder = std::env::current_dir().ok()?;
    (std::env::var_os("EVCXR_TMPDIR").map(PathBuf::from).as_ref() == Some(&folder)).then_some(folder)
}

/// Returns the command with `build` in the place of `check`. A check after a new dependency would check every crate, and
/// the build after it would compile every crate again.
fn as_build(check: &Command) -> Command {
    let mut build = Command::new(check.get_program());
    build.args(check.get_args().map(|it| if it == "check" { OsStr::new("build") } else { it }));
    for (name, value) in check.get_envs() {
        match value {
            Some(value) => build.env(name, value),
            None => build.env_remove(name),
        };
    }
    build
}

/// Checks a source as if it were the cell that was built last in evcxr's folder. Returns rustc's messages, one JSON
/// object a line, in which paths and types are complete.
pub fn probe(folder: &Path, source: &str) -> Option<String> {
    let mut rustc = read::<Build>(&folder.join("target/build.json"))?.rustc;
    let file = folder.join("src/probe.rs");
    fs::write(&file, source).ok()?;
    let cell = rustc.arguments.iter_mut().find(|argument| argument.ends_with("src/lib.rs"))?;
    *cell = file.to_string_lossy().into_owned();
    rustc.arguments.extend(["-Ztrim-diagnostic-paths=no", "-Zwrite-long-types-to-disk=no"].map(String::from));
    // Allows the two options of the development version.
    rustc.environment.insert("RUSTC_BOOTSTRAP".into(), "1".into());
    let output = rustc.command(&rustc.check_arguments()).output();
    let _ = fs::remove_file(file);
    String::from_utf8(output.ok()?.stderr).ok()
}

/// Returns the sources in the last build by cargo in evcxr's folder, except the cell, with their modification times then.
pub fn sources(folder: &Path) -> Vec<(Option<SystemTime>, PathBuf)> {
    let inputs = read::<Build>(&folder.join("target/build.json")).map_or(Vec::new(), |build| build.inputs);
    inputs.into_iter().filter(|(_, path)| path.extension().is_some_and(|it| it == "rs")).collect()
}

pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file that only the user can read, because the environment may contain secrets.
pub fn write<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let _ = fs::remove_file(path);
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(serde_json::to_writer(file, value)?)
}

/// Returns the environment, without variables that aren't UTF-8, because neither cargo nor rustc uses them, and without
/// the one that evcxr sets only for builds.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != LIBRARY)
        .collect()
}

/// Returns whether the sources of a crate have changed since a cell was built. `folder` holds the cell's package.
pub fn sources_have_changed(folder: &Path) -> bool {
    let last = read::<Build>(&folder.join("target/build.json"));
    let inputs = last.into_iter().flat_map(|last| last.inputs);
    inputs.into_iter().any(|(time, path)| !path.starts_with(folder) && modified(&path) != time)
}

pub fn modified(path: &Path) -> Option<SystemTime> {
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
    let sources: Vec<PathBuf> = sources.filter(|source| *source != cell).collect();
    let manifests = manifests::of(folder, &sources);
    Some(sources.into_iter().chain(manifests).map(|path| (modified(&path), path)).collect())
}

impl RustcCall {
    /// Describes the present call. The first argument is rustc. `wraps` says that evcxr's wrapper runs it.
    pub fn new(wraps: bool, arguments: &[String], environment: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let folder = std::env::current_dir()?;
        let (mut environment, mut arguments) = (environment.clone(), arguments.to_vec());
        // The variables of make describe the running cargo.
        environment.retain(|name, _| !name.ends_with("MAKEFLAGS") && name != "MFLAGS");
        if folder.join(STUBS).is_dir()
            && let Some(first) = arguments.iter().position(|it| it.starts_with("native="))
        {
            let stubs = format!("native={}", folder.join(STUBS).display());
            arguments.splice(first - 1..first - 1, ["-L".to_string(), stubs]);
        }
        let program = match wraps {
            true => std::env::current_exe()?.to_string_lossy().into_owned(),
            false => arguments.remove(0),
        };
        Ok(RustcCall { program, arguments, environment, folder })
    }

    /// Returns the path of the cell's library.
    fn output(&self) -> Option<PathBuf> {
        let mut arguments = self.arguments.iter();
        arguments.find(|argument| *argument == "--out-dir")?;
        Some(Path::new(arguments.next()?).join(format!("{DLL_PREFIX}ctx{DLL_SUFFIX}")))
    }

    /// Tells evcxr where rustc writes the cell's library. cargo would name a link in the folder above, where the
    /// library's relative search path for Rust's libraries is wrong.
    fn report_library(&self) -> anyhow::Result<()> {
        if let (Some(file), Some(library)) = (std::env::var_os(LIBRARY), self.output())
            && library.exists()
        {
            fs::write(file, library.to_string_lossy().as_bytes())?;
        }
        Ok(())
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
        self.start(&self.check_arguments())
    }

    fn check_arguments(&self) -> Vec<String> {
        let mut arguments = self.arguments.clone();
        let at = |start: &str| self.arguments.iter().position(|it| it.starts_with(start));
        if let Some(at) = at("--emit=") {
            arguments[at] = "--emit=metadata".into();
        }
        // Only builds may use the incremental data of builds.
        if let Some(at) = at("incremental=") {
            arguments.drain(at - 1..=at);
        }
        arguments
    }

    /// Starts rustc with its messages on the same stream as cargo's; evcxr understands both formats.
    fn start(&self, arguments: &[String]) -> anyhow::Result<ExitCode> {
        let source = display::source_in(arguments, &self.folder).context("the last build compiled no cell")?;
        Ok(display::compile(&mut self.command(arguments), &source)?)
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).env_clear().envs(&self.environment);
        command
    }
}

/// Says whether variables exist, for [the wrapper](super::wrapper). `folder` holds the cell's package.
pub fn announce_variables(folder: &Path, exist: bool) {
    let file = folder.join("target").join(VARIABLES);
    let _ = if exist { fs::write(file, "") } else { fs::remove_file(file) };
}

pub fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}
