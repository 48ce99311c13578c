//! Devices: selection by name, description, and the versions of the libraries that compute.

use std::process::Command;

use tch::{Cuda, Device};

use crate::error::{Error, Result, ensure};

/// The device with the name `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// An unknown name, a GPU that doesn't exist.
pub fn device(name: &str) -> Result<Device> {
    let index = match name {
        "auto" => return Ok(Device::cuda_if_available()),
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()),
    };
    let Some(index) = index else {
        return Err(Error::argument(format!("device \"{name}\" is unknown; use auto, cpu, cuda or cuda:N")));
    };
    let count = Cuda::device_count();
    ensure!((index as i64) < count, "device \"{name}\" is not there: libtorch sees {count} GPUs; use auto or cpu");
    Ok(Device::Cuda(index))
}

/// Runs `f` with libtorch limited to one thread. For small operations between larger ones that have threads of their
/// own: idle threads of libtorch spin for milliseconds and take that time from the others.
pub(crate) fn on_one_thread<T>(f: impl FnOnce() -> T) -> T {
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let result = f();
    tch::set_num_threads(threads);
    result
}

/// Description of a device: the name of the GPU, or the name of the processor and libtorch's number of threads.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cuda(i) => format!("GPU {i}: {}", gpu_name(i).unwrap_or_else(|| "name unknown".into())),
        _ => format!("CPU: {}, {} threads", vitlab_dataset::machine::processor(), tch::get_num_threads()),
    }
}

/// Asks the driver's tool, since tch has no function for the name.
fn gpu_name(index: usize) -> Option<String> {
    let arguments = ["--query-gpu=name", "--format=csv,noheader", "-i", &index.to_string()];
    let output = Command::new("nvidia-smi").args(arguments).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !name.is_empty()).then_some(name)
}

/// Versions of this crate, its libraries and the compiler, as (component, version).
pub fn versions() -> Vec<(String, String)> {
    [
        ("vitlab", env!("CARGO_PKG_VERSION")),
        ("libtorch", env!("VITLAB_LIBTORCH_VERSION")),
        ("tch", env!("VITLAB_TCH_VERSION")),
        ("rustc", env!("VITLAB_RUSTC_VERSION")),
    ]
    .map(|(component, version)| (component.to_string(), version.to_string()))
    .to_vec()
}
