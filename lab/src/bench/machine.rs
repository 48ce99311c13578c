//! The machine and the versions that measurements belong to.

use std::process::Command;

use serde_json::{Value, json};
use vitlab_dataset::{Result, machine::processor};

use crate::setup::{Environment, kernel_build};
use crate::system::{Repository, process, toolchain};

/// The instruction sets that influence the measurements.
const FEATURES: [&str; 6] = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd"];

pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// Returns the date in UTC, the machine and the versions of vitlab and of the programs around it, with which the results of a
/// run begin.
pub fn describe(repository: &Repository) -> Result<Value> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features")).unwrap_or_default();
    let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
    let environment = Environment::read(repository)?;
    let pinned = |name| {
        let mut pins = environment.pip.iter().filter_map(|requirement| requirement.split_once("=="));
        pins.find_map(|(package, version)| (package == name).then_some(version)).unwrap_or_default()
    };
    Ok(json!({
        "date": process::output(Command::new("date").args(["-u", "+%Y-%m-%d"])).unwrap_or_default(),
        "machine": {
            "cpu": processor(),
            "cores": cores(),
            "features": FEATURES.into_iter().filter(has).collect::<Vec<_>>(),
        },
        "versions": {
            "vitlab": env!("CARGO_PKG_VERSION"),
            "torch": pinned("torch"),
            "torchvision": pinned("torchvision"),
            "evcxr_jupyter": kernel_build::EVCXR_VERSION,
            "rustc": toolchain::rustc()?.split(' ').nth(1).unwrap_or_default(),
        },
        "ratio": {},
    }))
}

/// Formats [`describe`]'s values as "2026-11-27, AMD EPYC, 2 cores (avx2, fma); rustc 1.90.0, torch 2.11.0, …".
pub fn text(result: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (date, machine) = (text(&result["date"]), &result["machine"]);
    let features: Vec<String> = machine["features"].as_array().into_iter().flatten().map(text).collect();
    let versions = result["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> = versions.map(|(name, version)| format!("{name} {}", text(version))).collect();
    let (cpu, cores) = (text(&machine["cpu"]), &machine["cores"]);
    format!("{date}, {cpu}, {cores} cores ({}); {}.", features.join(", "), versions.join(", "))
}
