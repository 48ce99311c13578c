//! What the measurements were made on.

use std::process::Command;

use serde_json::{Value, json};
use vitlab_dataset::Result;

use crate::repository::Repository;
use crate::{environment, evcxr, system};

/// Of the processor's instruction sets, those that matter here.
const FEATURES: [&str; 6] = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd"];

pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

pub fn date() -> String {
    system::output(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default()
}

pub fn machine() -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let flags = field("flags").or(field("Features")).unwrap_or_default();
    let features: Vec<&str> =
        FEATURES.into_iter().filter(|feature| flags.split(' ').any(|flag| flag == *feature)).collect();
    json!({
        "cpu": field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_string()),
        "cores": cores(),
        "features": features,
    })
}

pub fn versions(repository: &Repository) -> Result<Value> {
    let environment = environment::read(&repository.environment_yml())?;
    let pinned = |name: &str| {
        let found =
            environment.pip.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix("==").map(str::to_string));
        found.unwrap_or_default()
    };
    let rustc = evcxr::rustc()?;
    Ok(json!({
        "vitlab": env!("CARGO_PKG_VERSION"),
        "torch": pinned("torch"),
        "torchvision": pinned("torchvision"),
        "evcxr_jupyter": evcxr::VERSION,
        "rustc": rustc.split(' ').nth(1).unwrap_or_default(),
    }))
}

/// "AMD EPYC, 2 cores (avx2, fma)"
pub fn words(machine: &Value) -> String {
    let features: Vec<&str> = machine["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("{}, {} cores ({})", machine["cpu"].as_str().unwrap_or_default(), machine["cores"], features.join(", "))
}
