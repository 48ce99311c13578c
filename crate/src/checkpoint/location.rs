//! A checkpoint as it is found: a file, a folder or a model of the hub, with everything that stands beside the tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vitlab_dataset::pretrained::MODEL;

use super::description::{self, CONFIG, HISTORY, PREPROCESSOR};
use super::{Contents, StateDict, about, contents, hub, prefixes, unreadable, write, write_safetensors};
use crate::{Error, Result};

/// Texts of at most this length together are written into a safetensors file's header.
const MAX_TEXT: usize = 256 << 10;

/// The weights of a folder by Hugging Face's names, the preferred first.
const USUAL_NAMES: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

const EXTENSIONS: [&str; 6] = ["safetensors", "pt", "pth", "bin", "ckpt", "npz"];

/// A checkpoint: named tensors, and what its files say about the model.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The tensors under the names that the checkpoint gives them.
    pub tensors: StateDict,
    /// Text metadata of a safetensors file, and the description in a JSON file beside the checkpoint in the same form.
    pub metadata: BTreeMap<String, String>,
    /// The model's description: constants of a [`Config`](crate::Config), or a `config.json` of another program.
    ///
    /// The first of: the text `config` in [`Checkpoint::metadata`], the entry `config` of the text `history`, and the
    /// file `config.json` in the checkpoint's folder.
    pub config: Option<Value>,
    /// The description of its input: `preprocessor_config.json`.
    pub preprocessor: Option<Value>,
    /// The file or folder, for messages.
    pub path: PathBuf,
}

impl Checkpoint {
    /// Reads a checkpoint: a file, a folder of files, an index of shards, or `hf://OWNER/NAME[@REVISION]`. `dinov2-small`
    /// is the model of `cargo lab setup --pretrained`, unless there is a file or folder of that name.
    ///
    /// `entry` selects one dictionary of tensors in a file that holds several, or the tensors below a module:
    /// `teacher`, `ema.module`, `teacher.backbone`. Names lose the prefixes of wrappers that all of them have, such as
    /// `module.`. Of a training's checkpoint of this crate, the model is taken. Choices are said on standard error.
    ///
    /// # Errors
    /// Fails as [`read`](super::read) does; if a file holds several dictionaries of tensors and `entry` is `None`, or
    /// none of that name; if a JSON file of the description is damaged; if a model isn't in the hub's cache and can't be
    /// downloaded.
    pub fn open(location: impl AsRef<Path>, entry: Option<&str>) -> Result<Self> {
        let mut checkpoint = Self::open_unchanged(location, entry)?;
        let format = checkpoint.metadata.get("format");
        if entry.is_none() && format.is_some_and(|format| format == "vitlab checkpoint") {
            let tensors = std::mem::take(&mut checkpoint.tensors);
            let model = Contents { tensors, ..Contents::default() }.entry(Some("model"));
            checkpoint.tensors = model.map_err(about(&checkpoint.path))?.tensors;
        }
        prefixes::remove_common(&mut checkpoint.tensors);
        Ok(checkpoint)
    }

    /// [`Checkpoint::open`] with all tensors under exactly the names that they have in the file.
    ///
    /// # Errors
    /// Fails as [`Checkpoint::open`] does.
    pub fn open_unchanged(location: impl AsRef<Path>, entry: Option<&str>) -> Result<Self> {
        let path = location.as_ref().to_path_buf();
        let file = match path.to_str().filter(|text| text.starts_with("hf:")) {
            Some(text) => hub::weights(text)?,
            None if is_pretrained(&path) => {
                let folder = MODEL.find()?;
                say(&path, &format!("is the model in {}", folder.display()));
                folder.join(weights(&folder)?)
            }
            None if path.is_dir() => path.join(weights(&path)?),
            None => path.clone(),
        };
        let contents =
            contents(&file, entry).map_err(|error| if file.exists() { error } else { missing(&path, error) })?;
        contents.notices.iter().for_each(|notice| say(&path, notice));
        let mut metadata = contents.metadata;
        let beside = file.with_extension("json");
        if beside != file
            && let Some(json) = description::read_json(&beside)?
        {
            match description::texts(json) {
                // The file's own texts come first.
                Some(mut texts) => {
                    texts.append(&mut metadata);
                    metadata = texts;
                }
                None => say(&beside, "describes no model and isn't used"),
            }
        }
        let (config, preprocessor) = described(&path, &file, &metadata)?;
        Ok(Checkpoint { tensors: contents.tensors, metadata, config, preprocessor, path })
    }

    /// Writes the tensors as [`write()`] does, and the description of the model with them: in the metadata of a safetensors
    /// file, or in a JSON file of the same stem. [`Checkpoint::open`] reads both.
    ///
    /// ```
    /// use vitlab::checkpoint::{Checkpoint, StateDict};
    /// use vitlab::tch::Tensor;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = |name: &str| folder.path().join(name);
    /// let tensors = StateDict(vec![("weight".to_string(), Tensor::from_slice(&[1.0_f32]))]);
    /// let metadata = [("source".to_string(), "a paper".to_string())].into();
    /// let checkpoint = Checkpoint { tensors, metadata, ..Checkpoint::default() };
    /// for name in ["model.safetensors", "model.pt"] {
    ///     checkpoint.write(path(name))?;
    ///     assert_eq!(Checkpoint::open(path(name), None)?.metadata["source"], "a paper");
    /// }
    /// assert!(path("model.json").exists());
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// Fails as [`write()`] does. A JSON file that is already there stays, which is said on standard error.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut texts = self.metadata.clone();
        for (name, value) in [(CONFIG, &self.config), (PREPROCESSOR, &self.preprocessor)] {
            if let Some(value) = value {
                texts.entry(name.to_string()).or_insert(value.to_string());
            }
        }
        let len: usize = texts.iter().map(|(name, text)| name.len() + text.len()).sum();
        if path.extension().is_some_and(|extension| extension == "safetensors") && len <= MAX_TEXT {
            return write_safetensors(path, &self.tensors, &texts);
        }
        write(path, &self.tensors)?;
        if let Some(notice) = description::write_beside(path, &texts)? {
            say(path, &notice);
        }
        Ok(())
    }
}

/// Whether a location names the pre-trained model in the cache folder rather than a file or folder.
fn is_pretrained(location: &Path) -> bool {
    location == Path::new(MODEL.name) && !location.exists()
}

/// The descriptions of the model and of its input, from the texts or from the files in the folder of `file`.
fn described(path: &Path, file: &Path, metadata: &BTreeMap<String, String>) -> Result<(Option<Value>, Option<Value>)> {
    let object = |name: &str| {
        let value = metadata.get(name).map(|text| serde_json::from_str::<Value>(text));
        match value {
            Some(Ok(value)) if value.is_object() => Some(value),
            Some(_) => {
                say(path, &format!("its metadata \"{name}\" is no JSON object and isn't used"));
                None
            }
            None => None,
        }
    };
    let of_history = || object(HISTORY).and_then(|mut history| Some(history.get_mut(CONFIG)?.take()));
    let mut config = object(CONFIG).or_else(of_history);
    if config.is_none() {
        config = description::read_json(&file.with_file_name("config.json"))?;
        let usual = |name: &std::ffi::OsStr| USUAL_NAMES.iter().any(|usual| name == *usual);
        if config.is_some() && path == file && !file.file_name().is_some_and(usual) {
            say(path, "its model is described by the file config.json in its folder");
        }
    }
    let preprocessor = match object(PREPROCESSOR) {
        Some(preprocessor) => Some(preprocessor),
        None => description::read_json(&file.with_file_name("preprocessor_config.json"))?,
    };
    Ok((config, preprocessor))
}

/// The name of the file with the weights in a folder.
fn weights(folder: &Path) -> Result<String> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    choose(names.collect()).map_err(about(folder))
}

/// The file with the weights among the names of a folder's files: one of Hugging Face's names, or the only checkpoint. Of
/// the same checkpoint in several formats, the safetensors file.
pub(super) fn choose(mut names: Vec<String>) -> Result<String> {
    let usual = USUAL_NAMES.iter().find(|usual| names.iter().any(|name| name == *usual));
    if let Some(usual) = usual {
        return Ok(usual.to_string());
    }
    let extension = |name: &str| {
        let extension = Path::new(name).extension()?.to_str()?;
        EXTENSIONS.iter().position(|known| *known == extension)
    };
    names.retain(|name| !name.starts_with('.') && extension(name).is_some());
    names.sort_by_cached_key(|name| (extension(name), name.clone()));
    let stem = |name: &str| Path::new(name).with_extension("");
    let several = names.iter().any(|name| stem(name) != stem(&names[0]));
    match names.first() {
        None => Err(Error::argument(
            "is a folder without a checkpoint; name a file, or a folder with model.safetensors and config.json",
        )),
        Some(_) if several => {
            let more = if names.len() > 6 { ", …" } else { "" };
            let list = names.iter().take(6).map(|name| super::printable(name)).collect::<Vec<_>>().join(", ");
            Err(Error::argument(format!(
                "is a folder with several checkpoints ({list}{more}); name one of these files"
            )))
        }
        Some(name) => Ok(name.clone()),
    }
}

/// The error of a missing file, with the hub's form of a name that looks like one of the hub.
fn missing(path: &Path, error: Error) -> Error {
    match path.to_str().filter(|name| hub::is_name(name) && !path.exists()) {
        Some(name) => {
            Error::argument(format!("{error}; for the model {name} of the Hugging Face hub, give hf://{name}"))
        }
        None => error,
    }
}

/// Says on standard error what was chosen or assumed about a checkpoint.
fn say(path: &Path, notice: &str) {
    eprintln!("{}: {notice}", path.display());
}
