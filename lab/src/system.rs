//! Debian packages, where they can be installed without asking for a password.

use std::process::{Command, Stdio};

use crate::step::Step;

/// Installs Debian packages.
///
/// # Errors
/// A clause saying why it wasn't possible; the caller names what is missing and what to type.
pub fn install(packages: &[&str], step: &Step) -> Result<(), String> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err("this system has no apt-get".into());
    }
    let sudo = !nix::unistd::geteuid().is_root();
    if sudo && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        return Err("apt-get would ask for a password".into());
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if sudo { "sudo" } else { "apt-get" });
        if sudo {
            command.args(["-n", "apt-get"]);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        step.run(&mut command, |line| Some(line.to_string()))
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    // A fresh machine has no package lists; elsewhere fetching them first would only cost time.
    let installed = apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)));
    installed.map_err(|_| format!("`apt-get install {}` failed", packages.join(" ")))
}

/// Whether a program exists and ends well; its output is thrown away.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a program prints, when it exists and ends well.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    output.status.success().then_some(text)
}
