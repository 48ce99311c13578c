//! Debian packages, installed where no password is needed.

use std::process::Command;

use crate::system::process::succeeds;
use crate::system::{Error, Progress, Result};

/// Installs a package.
///
/// # Errors
/// Fails with a clause that gives the cause. The caller adds what is missing and what to type.
pub fn install(package: &str, progress: &Progress) -> Result<(), String> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err("this system has no apt-get".into());
    }
    let sudo = !nix::unistd::geteuid().is_root();
    if sudo && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        return Err("apt-get would ask for a password".into());
    }
    let program: &[&str] = if sudo { &["sudo", "-n", "apt-get"] } else { &["apt-get"] };
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        progress.run(&mut command, |line| Some(line.to_string()))
    };
    let install = ["install", "-y", "--no-install-recommends", package];
    // A new machine has no package lists. Elsewhere, fetching them first would only cost time.
    let installed = apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)));
    installed.map_err(|_| format!("`apt-get install {package}` failed"))
}

/// Installs a package unless `test` succeeds already. `problem` says what the user can't do without it.
pub fn ensure(package: &str, problem: &str, test: &mut Command, progress: &Progress) -> Result<()> {
    if succeeds(test) {
        return Ok(());
    }
    progress.message(&format!("installing {package}"));
    let cause = match install(package, progress) {
        Ok(()) if succeeds(test) => return Ok(()),
        Ok(()) => format!("installing {package} didn't help"),
        Err(cause) => cause,
    };
    Err(Error::argument(format!(
        "{problem} ({cause}); install {package}, on Debian by `sudo apt-get install {package}`"
    )))
}
