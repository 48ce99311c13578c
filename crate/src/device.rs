//! Where the tensors live, and on what this runs.

use std::process::Command;

use tch::{Cuda, Device};

use crate::{Error, Result};

/// `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:1`.
///
/// # Errors
/// An unknown name, or a GPU that isn't there.
pub fn device(name: &str) -> Result<Device> {
    let count = Cuda::device_count();
    match name {
        "auto" => Ok(Device::cuda_if_available()),
        "cpu" => Ok(Device::Cpu),
        _ => {
            let index = match name.strip_prefix("cuda") {
                Some("") => Some(0),
                Some(rest) => rest.strip_prefix(':').and_then(|i| i.parse::<usize>().ok()),
                None => None,
            };
            match index {
                None => Err(Error::argument(format!("device \"{name}\" is unknown; use auto, cpu, cuda or cuda:N"))),
                Some(i) if (i as i64) < count => Ok(Device::Cuda(i)),
                Some(_) => Err(Error::argument(format!(
                    "device \"{name}\" is not there: libtorch sees {count} GPUs; use auto or cpu"
                ))),
            }
        }
    }
}

/// Runs `f` with libtorch on one thread, for small operations between larger ones that have threads of their own: a
/// thread of libtorch that has nothing to do goes on waiting at full speed for milliseconds, and takes that time from them.
pub(crate) fn on_one_thread<T>(f: impl FnOnce() -> T) -> T {
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let result = f();
    tch::set_num_threads(threads);
    result
}

/// The device in words: the GPU's name, or the processor's and the number of threads libtorch uses.
pub fn describe(device: Device) -> String {
    match device {
        Device::Cuda(i) => format!("GPU {i}: {}", gpu_name(i).unwrap_or_else(|| "name unknown".into())),
        _ => format!("CPU: {}, {} threads", vitlab_dataset::machine::processor(), tch::get_num_threads()),
    }
}

/// libtorch has no call for it in tch, the driver's own tool has.
fn gpu_name(index: usize) -> Option<String> {
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=name", "--format=csv,noheader", "-i", &index.to_string()])
        .output()
        .ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_string();
    (output.status.success() && !name.is_empty()).then_some(name)
}

/// Versions of what computes: (component, version).
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
