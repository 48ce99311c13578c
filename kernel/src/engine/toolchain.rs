//! `:toolchain NAME`: compiles the cells with another of rustup's toolchains. A process can't mix the standard libraries
//! of two toolchains, so the cells run in a new one, which finds the libraries of the new toolchain.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use evcxr::CommandContext;
use serde_json::json;

use super::failure::Failure;
use super::restart::restart;
use super::rewrite::{Edit, Piece};
use super::state::KernelState;
use crate::cell::event::Stream;

/// The toolchain of the cells.
#[derive(Default)]
pub struct Toolchain {
    /// The compiler, if it isn't that of the set-up.
    rustc: Option<PathBuf>,
}

impl Toolchain {
    /// Switches to the toolchain that a cell names. Returns edits that leave only the question for its name in the cell.
    pub fn switch(
        &mut self,
        context: &mut CommandContext,
        state: &KernelState,
        code: &str,
        variables: &[String],
    ) -> Result<Vec<Edit>, Failure> {
        let Some((start, name)) = named(code) else { return Ok(Vec::new()) };
        let (rustc, cargo) = (rustup(name, "rustc")?, rustup(name, "cargo")?);
        let other = self.rustc.as_ref().or(of_setup("rustc").as_ref()) != Some(&rustc);
        // The kernel's own cargo replaces that of the toolchain, and calls it.
        if let (true, Some(own)) = (env::var_os("VITLAB_CARGO").is_some(), env::var_os("CARGO")) {
            let folder = substitute(&state.folder, Path::new(&own), &rustc)
                .map_err(|error| Failure::error(format!("{}: {error}", state.folder.display())))?;
            let path = env::var("PATH").unwrap_or_default();
            execute(context, &format!(":build_env VITLAB_CARGO={}", cargo.display()))?;
            execute(context, &format!(":env PATH={}:{path}", folder.display()))?;
            let switched = execute(context, &format!(":toolchain {name}"));
            execute(context, &format!(":env PATH={path}"))?;
            switched?;
        } else {
            execute(context, &format!(":toolchain {name}"))?;
        }
        if other {
            let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
            let libraries = libraries(&rustc)?;
            let kept = env::split_paths(&before).filter(|folder| *folder != libraries);
            let path = env::join_paths([libraries.clone()].into_iter().chain(kept)).unwrap_or(before.clone());
            execute(context, &format!(":env LD_LIBRARY_PATH={}", path.display()))?;
            restart(context, "").map_err(|error| Failure::error(error.to_string()))?;
            self.rustc = Some(rustc);
            if !variables.is_empty() {
                let text = format!(
                    "The cells now run in a new process, because a process can't mix two toolchains: these variables are lost: {}. Functions, types and dependencies remain.\n",
                    variables.join(", ")
                );
                state.publish_output("stream", json!({ "name": Stream::Stderr, "text": text }));
            }
        }
        let argument = code[..start].trim_end().len()..start + name.len();
        Ok(vec![Edit { range: argument, pieces: vec![Piece::Added(String::new())] }])
    }
}

fn execute(context: &mut CommandContext, command: &str) -> Result<(), Failure> {
    context.execute(command).map(drop).map_err(|error| Failure::error(error.to_string()))
}

/// Finds the name in a line `:toolchain NAME`, and its offset.
fn named(code: &str) -> Option<(usize, &str)> {
    let mut offset = 0;
    code.split_inclusive('\n').find_map(|line| {
        let start = offset;
        offset += line.len();
        let name = line.trim_start().strip_prefix(":toolchain ")?.trim();
        (!name.is_empty()).then(|| (start + line.trim_end().len() - name.len(), name))
    })
}

/// Returns the path of a tool of the set-up's toolchain.
fn of_setup(tool: &str) -> Option<PathBuf> {
    Some(PathBuf::from(env::var_os("VITLAB_CARGO")?).with_file_name(tool))
}

/// Asks rustup for the path of a tool.
fn rustup(toolchain: &str, tool: &str) -> Result<PathBuf, Failure> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("rustup").args(arguments).output();
        output.map_err(|error| {
            Failure::error(format!(
                "`:toolchain` needs rustup, which doesn't start ({error}): install it from https://rustup.rs"
            ))
        })
    };
    let output = ask(&["which", "--toolchain", toolchain, tool])?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && path.is_file() {
        return Ok(path);
    }
    let installed = String::from_utf8_lossy(&ask(&["toolchain", "list", "--quiet"])?.stdout).trim().replace('\n', ", ");
    Err(Failure::error(format!(
        "the toolchain {toolchain} isn't installed or has no {tool}. Installed are: {installed}. In a terminal, `rustup toolchain install {toolchain}` installs it"
    )))
}

/// Returns the folder of a compiler's shared libraries.
fn libraries(rustc: &Path) -> Result<PathBuf, Failure> {
    let output = Command::new(rustc).args(["--print", "target-libdir"]).output();
    let output = output.ok().filter(|output| output.status.success());
    let output = output.ok_or_else(|| Failure::error(format!("{} doesn't start", rustc.display())))?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Writes a program `rustup` that names the kernel's cargo in the place of the toolchain's, because evcxr asks rustup.
/// Returns its folder.
fn substitute(folder: &Path, cargo: &Path, rustc: &Path) -> std::io::Result<PathBuf> {
    let folder = folder.join("rustup");
    fs::create_dir_all(&folder)?;
    let quoted = |path: &Path| format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"));
    let script =
        format!("#!/bin/sh\ncase \"$3\" in cargo) echo {};; *) echo {};; esac\n", quoted(cargo), quoted(rustc));
    let path = folder.join("rustup");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_command() {
        assert_eq!(named("// a\n  :toolchain  nightly \nlet a = 1;"), Some((19, "nightly")));
        assert_eq!(named(":toolchain"), None);
        assert_eq!(named("let a = \":toolchain x\";"), None);
    }

    #[test]
    fn evcxr_gets_the_kernels_cargo() {
        let folder = tempfile::tempdir().unwrap();
        let folder = substitute(folder.path(), Path::new("/it's/cargo"), Path::new("/a b/rustc")).unwrap();
        for (tool, path) in [("cargo", "/it's/cargo\n"), ("rustc", "/a b/rustc\n")] {
            let output = Command::new(folder.join("rustup")).args(["+nightly", "which", tool]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), path);
        }
    }
}
