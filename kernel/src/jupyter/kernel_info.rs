//! Answers `kernel_info_request`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

/// The version of evcxr in this crate's manifest.
const EVCXR: &str = "0.22.0";

/// The version of the rustc that compiles cells, such as `1.95.0`. Empty if rustc doesn't run.
static RUST: LazyLock<String> = LazyLock::new(rust_version);

/// Begins to ask rustc for its version, so that the answer is there when a client needs it.
pub fn prepare() {
    std::thread::spawn(|| LazyLock::force(&RUST));
}

/// Returns the content of a `kernel_info_reply`.
pub async fn kernel_info() -> Value {
    let rust = tokio::task::spawn_blocking(|| RUST.as_str()).await.unwrap_or_default();
    let documentation = documentation(rust);
    let help = |text: &str, url: &str| json!({ "text": text, "url": url });
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": env!("CARGO_PKG_NAME"),
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": "Rust", "version": rust, "mimetype": "text/rust", "file_extension": ".rs",
            "pygments_lexer": "rust", "codemirror_mode": "rust",
        },
        "banner": format!("{} on evcxr {EVCXR}", format!("Rust {rust}").trim_end()),
        "help_links": [
            help("Rust's standard library", &format!("{documentation}/std/")),
            help("The Rust Programming Language", &format!("{documentation}/book/")),
            help("evcxr's commands", "https://github.com/evcxr/evcxr/blob/main/COMMON.md"),
        ],
        "debugger": false,
        // Cells run one after the other, so the kernel can't run a cell for a subshell meanwhile.
        "supported_features": [],
    })
}

/// Returns the address of the documentation of a Rust version.
fn documentation(rust: &str) -> String {
    let channel = match rust.split_once('-') {
        Some((_, channel)) => channel.split('.').next().unwrap_or_default(),
        None if rust.is_empty() => "stable",
        None => rust,
    };
    format!("https://doc.rust-lang.org/{channel}")
}

fn rust_version() -> String {
    let cargo = std::env::var_os("VITLAB_CARGO").map(PathBuf::from);
    let rustc = cargo.map_or("rustc".into(), |cargo| cargo.with_file_name("rustc"));
    let output = Command::new(rustc).arg("--version").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().nth(1).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_that_of_the_compiler() {
        for (rust, channel) in
            [("1.95.0", "1.95.0"), ("1.97.0-nightly", "nightly"), ("1.96.0-beta.2", "beta"), ("", "stable")]
        {
            assert_eq!(documentation(rust), format!("https://doc.rust-lang.org/{channel}"));
        }
    }

    #[test]
    fn evcxrs_version_is_that_of_the_manifest() {
        assert!(include_str!("../../Cargo.toml").contains(&format!("evcxr = \"={EVCXR}\"")));
    }
}
