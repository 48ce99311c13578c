//! Weight files: PyTorch state dicts (`torch.save(model.state_dict(), "model.pt")`) and safetensors, both ways.
//!
//! Reading executes nothing and checks everything: a damaged or malicious file is an error that says so, in time and
//! memory bounded by the file's size. Measured by `tests/weights_mutated.rs`: a good file of 100 MiB takes 200 to 202 MiB at
//! the peak, a damaged one above 100 kB at most 1.25 times its size.

pub mod layouts;
mod load;
mod machine;
mod pickle;
mod pt;
mod pt_write;
mod safetensors;
mod tensor;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use tch::Tensor;

use crate::{Error, Result, file};
pub use load::{assign, state_dict};
pub use safetensors::{read_safetensors, write_safetensors};

/// Named tensors on the CPU in their file's order.
///
/// As in PyTorch, tensors read from a .pt file share their memory if they did so when they were saved.
#[derive(Debug, Default)]
pub struct StateDict(pub Vec<(String, Tensor)>);

impl StateDict {
    /// The tensor of that name.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::checkpoint::StateDict;
    /// let dict = StateDict(vec![("norm.bias".to_string(), Tensor::from_slice(&[1.0_f32, 2.0]))]);
    /// assert_eq!(dict.get("norm.bias").map(Tensor::size), Some(vec![2]));
    /// assert!(dict.get("norm.weight").is_none());
    /// ```
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let (_, tensor) = self.0.iter().find(|(key, _)| key == name)?;
        Some(tensor)
    }

    /// What a file's names must be: printable and different from each other.
    fn checked(tensors: Vec<(String, Tensor)>) -> Result<Self, String> {
        let mut names = HashSet::new();
        for (name, _) in &tensors {
            if name.contains(char::is_control) {
                return Err(format!("has a tensor whose name isn't printable: {}", machine::short(name)));
            }
            if !names.insert(name.as_str()) {
                return Err(format!("has two tensors named {}", machine::short(name)));
            }
        }
        Ok(StateDict(tensors))
    }
}

/// Reads a PyTorch state dict or a safetensors file; which of them it is, is seen from its first bytes.
///
/// float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool tensors are read with their type.
///
/// ```
/// # fn main() -> vitlab::Result<()> {
/// use tch::Tensor;
/// use vitlab::checkpoint::{StateDict, read, write};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.pt");
/// write(&path, &StateDict(vec![("weight".to_string(), Tensor::from_slice(&[0.5_f32, -2.0]))]))?;
/// let dict = read(&path)?;
/// assert_eq!(dict.get("weight"), Some(&Tensor::from_slice(&[0.5_f32, -2.0])));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A file that can't be read, is damaged, is of another format (the message says of which, and what to do), or
/// holds anything but named tensors; one of more than some 6,000 tensors.
pub fn read(path: impl AsRef<Path>) -> Result<StateDict> {
    let path = path.as_ref();
    let (mut file, len) = open(path)?;
    match format(&mut file).map_err(|error| unreadable(path, error))? {
        Format::Zip => pt::read(file, len).map_err(|problem| Error::file(path, problem)),
        Format::Safetensors => read_safetensors(path).map(|(dict, _)| dict),
        Format::Foreign(problem) => Err(Error::file(path, problem)),
    }
}

/// Writes a PyTorch state dict (.pt, .pth) or a safetensors file (.safetensors), as the extension says.
///
/// `torch.load(path)` reads the former with its safe default; `load_state_dict` takes what it returns. The file
/// replaces one of that name only when it is complete. See [`read`] for an example.
///
/// # Errors
/// Another extension, a folder that can't be written, a tensor of a type that [`read`] doesn't name.
pub fn write(path: impl AsRef<Path>, dict: &StateDict) -> Result<()> {
    let path = path.as_ref();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pt" | "pth") => Ok(file::replace(path, |file| pt_write::write(file, dict))?),
        Some("safetensors") => write_safetensors(path, dict, &Default::default()),
        _ => Err(Error::file(path, "isn't the name of a weight file; let it end in .pt, .pth or .safetensors")),
    }
}

enum Format {
    Zip,
    Safetensors,
    Foreign(&'static str),
}

/// What the first bytes say; the file is at its start again afterwards.
fn format(file: &mut File) -> io::Result<Format> {
    let mut start = Vec::new();
    file.by_ref().take(14).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(match &start[..] {
        [] => Format::Foreign("is empty; save or download it again"),
        [b'P', b'K', 3, 4, ..] => Format::Zip,
        // The length of a header below 4 GiB, whose first bytes may look like another signature, and its start.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Format::Safetensors,
        // The magic number that PyTorch pickled as a LONG1 before it used zip archives.
        [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19] => Format::Foreign(
            "is in the format that PyTorch wrote before version 1.6; in Python, save it again: \
                 torch.save(torch.load(path), path)",
        ),
        [0x80, 2..=5, ..] => Format::Foreign(
            "is a Python pickle, not a PyTorch file; in Python, save just the weights: \
             torch.save(model.state_dict(), \"model.pt\")",
        ),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            Format::Foreign("is a NumPy array; weights come as a PyTorch state dict (.pt) or as .safetensors")
        }
        [0x89, b'H', b'D', b'F', ..] => {
            Format::Foreign("is an HDF5 file (Keras?); weights come as a PyTorch state dict (.pt) or as .safetensors")
        }
        [0x1f, 0x8b, ..] => Format::Foreign("is compressed with gzip; unpack it first"),
        // For its message.
        _ => Format::Safetensors,
    })
}

/// An ordinary file and its length in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "isn't a file; name a weight file"));
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    Ok((file, metadata.len()))
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::file(path, format!("can't be read: {error}"))
}
