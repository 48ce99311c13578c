//! Lets the executables of this package find libtorch at run time without LD_LIBRARY_PATH, and records versions.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=Cargo.toml");
    let mut libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    // With this file, set-up's bindings are linked, whatever LIBTORCH says. Their path is the same for all clones, which
    // share the results.
    let (bindings, bound) = (Path::new("../.venv/cargo.toml"), Path::new("../.venv/libtorch"));
    if bindings.exists() {
        println!("cargo:rerun-if-changed={}", bindings.display());
        let bound = bound.canonicalize().unwrap_or_else(|_| bound.to_path_buf());
        if Path::new(&libtorch).canonicalize().is_ok_and(|path| path != bound) {
            println!(
                "cargo:warning=LIBTORCH ({libtorch}) is ignored, because set-up has linked {}; remove .venv/cargo.toml to build with your own libtorch",
                bound.display()
            );
        }
        libtorch = bound.display().to_string();
    } else {
        println!("cargo:rerun-if-env-changed=LIBTORCH");
    }
    if !libtorch.is_empty() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    // The wheel has version.py, the plain archive build-version.
    let wheel = quoted(&read(&Path::new(&libtorch).join("version.py")), "__version__");
    let archive = read(&Path::new(&libtorch).join("build-version")).trim().to_string();
    let tch =
        quoted(&read(Path::new("Cargo.toml")), "tch = ").map(|version| version.trim_start_matches('=').to_string());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc = Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let rustc = String::from_utf8_lossy(&rustc).split(' ').nth(1).map(String::from);
    let libtorch = wheel.or(Some(archive).filter(|version| !version.is_empty()));
    for (name, version) in [("LIBTORCH", libtorch), ("TCH", tch), ("RUSTC", rustc)] {
        println!("cargo:rustc-env=VITLAB_{name}_VERSION={}", version.as_deref().unwrap_or("unknown"));
    }
}

/// The first quoted text in the first line that starts with `key`.
fn quoted(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split(['\'', '"']).nth(1).map(String::from)
}
