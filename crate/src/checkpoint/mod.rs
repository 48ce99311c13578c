//! Checkpoints: state dicts (tensors by name) and what describes their model, read from the files of many programs.
//!
//! Read: PyTorch's files since version 1.6 and before it, with dictionaries around the state dict; safetensors; NumPy's
//! archives; shards with their index; a folder of them; a model of the Hugging Face hub. The content of a file tells its
//! format, its name doesn't. Written: .pt and .safetensors.
//!
//! The description of a model travels with its tensors: in a safetensors file as the text metadata `config` (JSON of a
//! [`Config`](crate::Config) or of a `config.json`), beside any other file as a JSON file of the same stem, which
//! [`History`](crate::train::History) writes, too. [`Checkpoint::config`] is the one place to read it.
//!
//! Reading executes nothing and checks everything. A damaged or malicious file is an error that says so, in time and
//! memory bounded by the file's size. `tests/weights_mutated.rs` measures it: a valid file of 100 MiB takes 199 to
//! 202 MiB at the peak, a damaged one above 100 kB at most 1.3 times its size. A compressed .npz file may unpack to four
//! times its size, or to 64 MiB.

mod archive;
mod description;
mod format;
mod hub;
pub mod layouts;
mod location;
mod npz;
mod prefixes;
mod pt;
mod safetensors;
mod shards;
mod tensor;
mod variables;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use tch::Tensor;

use crate::error::{Error, Result, ensure};

use archive::Archive;
use format::{Format, START};

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

/// Tensors and text from one file.
#[derive(Debug, Default)]
struct Contents {
    tensors: StateDict,
    metadata: BTreeMap<String, String>,
    /// Notices about choices and skipped entries, as phrases about the file.
    notices: Vec<String>,
}

/// Reads the state dict of a file: PyTorch's, safetensors, NumPy's archive, or the index of shards.
///
/// A state dict in a dictionary (`{"model": …, "epoch": 3}`) is found if it is the only one; [`Checkpoint::open`] also
/// reads one of several. float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool tensors keep their
/// type, and all keep their names.
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
    Ok(contents(path.as_ref(), None)?.tensors)
}

/// Reads a file or shards, or the one dictionary of tensors in them that `entry` names.
fn contents(path: &Path, entry: Option<&str>) -> Result<Contents> {
    match file_contents(path, entry)? {
        Some(contents) => Ok(contents),
        None => shards::read(path)?.entry(entry).map_err(about(path)),
    }
}

/// Reads one file of tensors; `None` if it is a JSON file.
fn file_contents(path: &Path, entry: Option<&str>) -> Result<Option<Contents>> {
    let (mut file, len) = open(path)?;
    let mut start = Vec::new();
    let rewound = file.by_ref().take(START).read_to_end(&mut start).and_then(|_| file.rewind());
    rewound.map_err(|error| unreadable(path, error))?;
    let found = match Format::of(&start).map_err(about(path))? {
        Format::Json => return Ok(None),
        Format::LegacyPt => pt::read_legacy(file, len, entry),
        Format::Zip => Archive::open(file, len).and_then(|archive| match npz::is_npz(&archive) {
            true => npz::read(archive).and_then(|contents| contents.entry(entry)),
            false => pt::read(archive, len, entry),
        }),
        Format::Safetensors => safetensors::parse(&mut file, len)
            .and_then(|(tensors, metadata)| Contents { tensors, metadata, notices: Vec::new() }.entry(entry)),
    };
    found.map(Some).map_err(about(path))
}

impl Contents {
    /// The tensors whose names begin with `entry`, without it. "." is all of them.
    fn entry(mut self, entry: Option<&str>) -> Result<Self> {
        let Some(entry) = entry.filter(|&entry| entry != ".") else { return Ok(self) };
        let tensors = std::mem::take(&mut self.tensors.0);
        let first = tensors.first().map_or("none".to_string(), |(name, _)| printable(name));
        self.tensors.0 = tensors
            .into_iter()
            .filter_map(|(name, tensor)| Some((sub_tree(&name, entry)?.to_string(), tensor)))
            .collect();
        let found = !self.tensors.0.is_empty();
        ensure!(found, "has no tensors in an entry \"{}\"; the first of its tensors is {first}", printable(entry));
        Ok(self)
    }
}

/// The rest of a tensor's name below the module or dictionary `entry`.
fn sub_tree<'a>(name: &'a str, entry: &str) -> Option<&'a str> {
    name.strip_prefix(entry)?.strip_prefix(['.', '/']).filter(|rest| !rest.is_empty())
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

/// Opens an ordinary file and returns it with its length in bytes.
fn open(path: &Path) -> Result<(File, u64)> {
    // Checked before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        let advice = if metadata.is_dir() { "name a checkpoint file in it" } else { "name a checkpoint file" };
        return Err(Error::file(path, format!("isn't a file; {advice}")));
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
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder; check the path".to_string(),
        _ => error.to_string(),
    };
    Error::file(path, format!("can't be read: {problem}"))
}

/// A name from a file, made fit for a message: control characters escaped, at most 60 characters.
fn printable(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}
