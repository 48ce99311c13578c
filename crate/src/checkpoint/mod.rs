//! Checkpoint files: state dicts (tensors by name) in PyTorch's .pt format or in safetensors, read and written.
//!
//! Reading executes nothing and checks everything. A damaged or malicious file is an error that says so, in time and
//! memory bounded by the file's size. `tests/weights_mutated.rs` measures it: a valid file of 100 MiB takes 200 to
//! 202 MiB at the peak, a damaged one above 100 kB at most 1.25 times its size.

pub mod layouts;
mod location;
mod pt;
mod safetensors;
mod tensor;
pub(crate) mod training;
mod variables;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use tch::Tensor;

use crate::error::{Error, Result, ensure};

pub use location::Checkpoint;
pub use safetensors::{read_safetensors, write_safetensors};
pub use variables::{assign, state_dict};

/// Named tensors on the CPU, in their file's order.
///
/// As in PyTorch, tensors read from a .pt file share their memory if they shared it when they were saved.
#[derive(Debug, Default)]
pub struct StateDict(pub Vec<(String, Tensor)>);

impl StateDict {
    /// The tensor of that name.
    ///
    /// ```
    /// use vitlab::{checkpoint::StateDict, tch::Tensor};
    /// let dict = StateDict(vec![("norm.bias".to_string(), Tensor::from_slice(&[1.0_f32, 2.0]))]);
    /// assert_eq!(dict.get("norm.bias").map(Tensor::size), Some(vec![2]));
    /// assert!(dict.get("norm.weight").is_none());
    /// ```
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, tensor)| tensor)
    }

    /// Checks the names that a file gives its tensors: they must be printable and differ from each other.
    fn checked(tensors: Vec<(String, Tensor)>) -> Result<Self> {
        let mut names = HashSet::new();
        for (name, _) in &tensors {
            ensure!(!name.contains(char::is_control), "has a tensor whose name isn't printable: {}", printable(name));
            ensure!(names.insert(name.as_str()), "has two tensors named {}", printable(name));
        }
        Ok(StateDict(tensors))
    }
}

/// Reads the state dict of a PyTorch or safetensors file. The first bytes of the file tell its format.
///
/// float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool tensors keep their type.
///
/// ```
/// use vitlab::{checkpoint::{StateDict, read, write}, tch::Tensor};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.pt");
/// write(&path, &StateDict(vec![("weight".to_string(), Tensor::from_slice(&[0.5_f32, -2.0]))]))?;
/// let dict = read(&path)?;
/// assert_eq!(dict.get("weight"), Some(&Tensor::from_slice(&[0.5_f32, -2.0])));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Fails if the file can't be read, is damaged, has another format, or holds anything but up to about 6,000 tensors.
pub fn read(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    let (mut file, len) = open(path)?;
    let mut start = Vec::new();
    let rewound = file.by_ref().take(14).read_to_end(&mut start).and_then(|_| file.rewind());
    rewound.map_err(|error| unreadable(path, error))?;
    let dict = if start.starts_with(b"PK\x03\x04") {
        pt::read(file, len)
    } else if let Some(problem) = unsupported_format(&start) {
        Err(Error::argument(problem))
    } else {
        safetensors::parse(&mut file, len).map(|(dict, _)| dict)
    };
    dict.map_err(about(path))
}

/// Writes a PyTorch file (.pt, .pth) or a safetensors file (.safetensors); the extension decides.
///
/// In Python, `torch.load(path)` reads the former with its safe default and returns what `load_state_dict` expects. An
/// existing file is replaced only when the new one is complete. See [`read`] for an example.
///
/// # Errors
/// Fails if the extension is another one, the folder can't be written, or [`read`] doesn't list a tensor's type.
pub fn write(path: impl AsRef<Path>, dict: &StateDict) -> Result<()> {
    let path = path.as_ref();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pt" | "pth") => pt::write(path, dict),
        Some("safetensors") => write_safetensors(path, dict, &Default::default()),
        _ => Err(Error::file(path, "isn't the name of a checkpoint file; let it end in .pt, .pth or .safetensors")),
    }
}

/// The format, and the remedy, of a file that starts with these bytes (14 are enough) and can't be read.
fn unsupported_format(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [] => "is empty; save or download it again",
        // Safetensors: the length of a header below 4 GiB, which may look like a signature, and the header's first byte.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return None,
        // PyTorch's magic number before it used zip archives, as a pickled LONG1.
        [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19] => {
            "is in the format that PyTorch wrote before version 1.6; in Python, save it again: \
             torch.save(torch.load(path), path)"
        }
        [0x80, 2..=5, ..] => {
            "is a Python pickle, not a PyTorch file; in Python, save just the weights: \
             torch.save(model.state_dict(), \"model.pt\")"
        }
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            "is a NumPy array; save the weights as a PyTorch state dict (.pt) or as .safetensors"
        }
        [0x89, b'H', b'D', b'F', ..] => {
            "is an HDF5 file (Keras?); save the weights as a PyTorch state dict (.pt) or as .safetensors"
        }
        [0x1f, 0x8b, ..] => "is compressed with gzip; unpack it first",
        _ => return None,
    })
}

/// Opens an ordinary file and returns it with its length in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    // Checked before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "isn't a file; name a checkpoint file"));
    }
    Ok((File::open(path).map_err(|error| unreadable(path, error))?, metadata.len()))
}

/// Turns a phrase about a file, which the readers and writers of a format return, into a sentence with the file's name.
fn about(path: &Path) -> impl Fn(Error) -> Error {
    move |problem| Error::file(path, problem.to_string())
}

/// Puts a tensor's name from a file before a phrase about it.
fn about_tensor(name: &str) -> impl Fn(Error) -> Error {
    move |problem| Error::argument(format!("its tensor {} {problem}", printable(name)))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::file(path, format!("can't be read: {error}"))
}

/// A name from a file, made fit for a message: control characters escaped, at most 60 characters.
fn printable(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}
