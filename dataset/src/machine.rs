//! Description of the machine that a program runs on.

/// Returns the name of the processor, or its architecture if the system doesn't report a name.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut names = info.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
    names.next().map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}
