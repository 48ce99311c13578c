//! Lets the executables of this package find libtorch at run time without LD_LIBRARY_PATH, and records versions.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=Cargo.toml");
    let libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    if !libtorch.is_empty() {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
    println!("cargo:rustc-env=VITLAB_LIBTORCH_VERSION={}", libtorch_version(Path::new(&libtorch)));
    let manifest = std::fs::read_to_string("Cargo.toml").unwrap_or_default();
    println!("cargo:rustc-env=VITLAB_TCH_VERSION={}", quoted(&manifest, "tch = ").trim_start_matches('='));
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map(|o| o.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    println!("cargo:rustc-env=VITLAB_RUSTC_VERSION={}", version.split(' ').nth(1).unwrap_or("unknown"));
}

/// The wheel has version.py, the plain archive build-version.
fn libtorch_version(libtorch: &Path) -> String {
    let read = |name| std::fs::read_to_string(libtorch.join(name)).unwrap_or_default();
    let wheel = read("version.py");
    let version = wheel
        .lines()
        .find(|line| line.starts_with("__version__"))
        .map(|line| line.split(['\'', '"']).nth(1).unwrap_or_default().to_string());
    version.unwrap_or_else(|| match read("build-version").trim() {
        "" => "unknown".to_string(),
        version => version.to_string(),
    })
}

/// The first double-quoted text after `key`.
fn quoted<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split('"').nth(1).unwrap_or("unknown")
}
