//! `cargo` as evcxr and rust-analyzer find it in a kernel: the real one, except that rust-analyzer sees
//! [fewer crates](super::crates), and a cell is built [by rustc alone](super::rustc) if nothing else has changed.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use cargo_metadata::MetadataCommand;

use super::{crates, progress, rustc};

pub fn run() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let real = std::env::var_os("VITLAB_CARGO").context("the environment variable VITLAB_CARGO isn't set")?;
    let rustc = Path::new(&real).with_file_name("rustc");
    // rust-analyzer asks for rustc's description of a target, which needs none of the crates.
    if let [first, options @ ..] = &arguments[..]
        && first == "rustc"
        && has("--print")
    {
        let options = options.iter().filter(|option| *option != "--");
        return Err(Command::new(rustc).args(options).exec().into());
    }
    let mut command = Command::new(&real);
    // cargo remembers the version of a rustc with a path of its own, but not of one that rustup finds.
    command.args(&arguments).env("RUSTC", rustc);
    // Only rust-analyzer asks in this way, for the crates.
    if !is_plain() && has("metadata") && has("--filter-platform") {
        let manifest = arguments.iter().skip_while(|argument| *argument != "--manifest-path").nth(1);
        if let Some(library) = manifest.and_then(|manifest| Library::of(Path::new(manifest))) {
            return library.metadata(&real, &arguments);
        }
        if !has("--no-deps") {
            return metadata(command);
        }
    }
    // evcxr builds cells in this way.
    if (has("build") || has("check")) && has("--message-format=json") {
        if rustc::shares_builds() {
            command = as_in_clone(&real, &arguments);
        }
        return rustc::compile(command, &arguments);
    }
    // evcxr checks a new dependency in this way. cargo downloads it then.
    if has("metadata") && rustc::cell_folder().is_some() {
        return Ok(progress::run(&mut command)?);
    }
    Err(command.exec().into())
}

/// Returns whether the kernel is evcxr_jupyter without additions. Only what it builds in the warm build is replaced then.
pub fn is_plain() -> bool {
    std::env::var_os("VITLAB_PLAIN").is_some()
}

/// Returns the command without evcxr's target and flags, which concern only the cell itself. The crates are then compiled
/// as by a plain `cargo build` in a clone, with which the set-up shares them.
fn as_in_clone(cargo: &OsStr, arguments: &[String]) -> Command {
    let mut command = Command::new(cargo);
    let target = arguments.iter().position(|argument| argument == "--target").map_or(usize::MAX, |at| at);
    let kept = arguments.iter().enumerate().filter(|(at, _)| *at != target && at.wrapping_sub(1) != target);
    command.args(kept.map(|(_, argument)| argument)).env_remove(rustc::FLAGS);
    command.env("RUSTC", Path::new(cargo).with_file_name("rustc"));
    command
}

/// The standard library, as rust-analyzer finds it: a folder of links, whose manifest is a link, too.
struct Library {
    links: PathBuf,
    sources: PathBuf,
}

impl Library {
    /// Returns the library if this is its manifest.
    fn of(manifest: &Path) -> Option<Self> {
        let links =
            manifest.parent().filter(|folder| std::env::var_os("RUST_SRC_PATH").is_some_and(|it| it == *folder))?;
        let sources = manifest.canonicalize().ok()?.parent()?.to_path_buf();
        Some(Library { links: links.to_path_buf(), sources })
    }

    /// Prints cargo's answer about the sources as if they were in the folder of links. Fails if a crate isn't on this
    /// machine, and on a question without dependencies. rust-analyzer then reads the library without other crates.
    fn metadata(&self, cargo: &OsStr, arguments: &[String]) -> anyhow::Result<ExitCode> {
        if arguments.iter().any(|argument| argument == "--no-deps") {
            return Ok(ExitCode::FAILURE);
        }
        let (links, sources) = (self.links.to_string_lossy(), self.sources.to_string_lossy());
        let arguments = arguments.iter().map(|argument| argument.replace(&*links, &sources));
        let output = Command::new(cargo).args(arguments).arg("--offline").current_dir(&self.sources).output()?;
        if !output.status.success() {
            return Ok(ExitCode::FAILURE);
        }
        let mut metadata = MetadataCommand::parse(str::from_utf8(&output.stdout)?)?;
        crates::prune_library(&mut metadata);
        let path = |path: &str| serde_json::to_string(path).map(|quoted| quoted.trim_matches('"').to_string());
        println!("{}", serde_json::to_string(&metadata)?.replace(&path(&sources)?, &path(&links)?));
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints cargo's answer without the crates that no cell can name.
fn metadata(mut command: Command) -> anyhow::Result<ExitCode> {
    let output = command.stderr(Stdio::inherit()).output()?;
    let mut answer = output.stdout;
    if output.status.success() {
        let mut metadata = MetadataCommand::parse(str::from_utf8(&answer)?)?;
        crates::prune(&mut metadata);
        answer = serde_json::to_vec(&metadata)?;
    }
    std::io::stdout().write_all(&answer)?;
    Ok(ExitCode::from(u8::from(!output.status.success())))
}
