//! cargo, as evcxr and rust-analyzer find it in a kernel: the real one, but rust-analyzer is told of fewer [`crates`], and a
//! cell is built [without cargo](crate::rustc) where cargo would find nothing else to do.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use cargo_metadata::MetadataCommand;

use crate::{crates, rustc};

/// Names the real cargo.
const VARIABLE: &str = "VITLAB_CARGO";

pub fn is_meant() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name().is_some_and(|name| name == "cargo"))
}

pub fn run() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let real = std::env::var_os(VARIABLE).with_context(|| format!("{VARIABLE} isn't set"))?;
    let rustc = Path::new(&real).with_file_name("rustc");
    // As rust-analyzer asks for what rustc knows of a target: without a look at all crates.
    if let [asked, options @ ..] = &arguments[..]
        && asked == "rustc"
        && has("--print")
    {
        let options = options.iter().filter(|option| *option != "--");
        return Err(Command::new(rustc).args(options).exec().into());
    }
    let mut command = Command::new(&real);
    // By its own path: cargo remembers what such a rustc has said of itself, but not what one by way of rustup said.
    command.args(&arguments).env("RUSTC", rustc);
    // As rust-analyzer asks for the crates, and only it.
    if has("metadata") && has("--filter-platform") && !has("--no-deps") {
        return metadata(command);
    }
    // As evcxr asks.
    if (has("build") || has("check")) && has("--message-format=json") {
        return rustc::compile(command, &arguments);
    }
    Err(command.exec().into())
}

/// The answer with fewer crates.
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
