//! The machine and the versions that measurements belong to.

use std::process::Command;

use serde_json::{Value, json};
use vitlab_dataset::{Result, machine::processor};

use crate::setup::{environment, kernel_build};
use crate::system::repository::Repository;
use crate::system::{process, toolchain};

/// The instruction sets that influence the measurements.
const FEATURES: [&str; 6] = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd"];

pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// The date as `2026-11-27`, in UTC.
pub fn date() -> String {
    process::output(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default()
}

/// Processor, cores and instruction sets.
pub fn machine() -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).unwrap_or_default();
    let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
    json!({ "cpu": processor(), "cores": cores(), "features": FEATURES.into_iter().filter(has).collect::<Vec<_>>() })
}

/// Versions of vitlab and of the programs around it.
pub fn versions(repository: &Repository) -> Result<Value> {
    let environment = environment::read(&repository.environment_yml())?;
    let pinned = |name| {
        let mut pins = environment.pip.iter().filter_map(|requirement| requirement.split_once("=="));
        pins.find_map(|(package, version)| (package == name).then_some(version)).unwrap_or_default()
    };
    Ok(json!({
        "vitlab": env!("CARGO_PKG_VERSION"),
        "torch": pinned("torch"),
        "torchvision": pinned("torchvision"),
        "evcxr_jupyter": kernel_build::EVCXR_VERSION,
        "rustc": toolchain::rustc()?.split(' ').nth(1).unwrap_or_default(),
    }))
}

/// Formats [`machine`] as "AMD EPYC, 2 cores (avx2, fma)".
pub fn text(machine: &Value) -> String {
    let features: Vec<&str> = machine["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!("{}, {} cores ({})", machine["cpu"].as_str().unwrap_or_default(), machine["cores"], features.join(", "))
}
