//! A notebook file (nbformat 4), as far as `cargo lab check` reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::system::{Error, Result, file};

#[derive(Deserialize)]
pub struct Notebook {
    pub cells: Vec<Cell>,
    #[serde(default)]
    pub metadata: Value,
    #[serde(skip)]
    pub path: PathBuf,
    /// Size of the file in bytes.
    #[serde(skip)]
    pub size: usize,
}

#[derive(Deserialize)]
pub struct Cell {
    #[serde(default)]
    pub id: String,
    pub cell_type: CellType,
    #[serde(deserialize_with = "joined")]
    pub source: String,
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// The number in brackets beside an executed cell.
    #[serde(default)]
    pub execution_count: Option<usize>,
    #[serde(default)]
    pub metadata: Value,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CellType {
    Code,
    Markdown,
    Raw,
}

#[derive(Deserialize)]
#[serde(tag = "output_type", rename_all = "snake_case")]
pub enum Output {
    Stream {
        name: String,
        #[serde(deserialize_with = "joined")]
        text: String,
    },
    Error {
        #[serde(default)]
        ename: String,
        #[serde(default)]
        evalue: String,
        #[serde(default)]
        traceback: Vec<String>,
    },
    DisplayData(Bundle),
    ExecuteResult(Bundle),
}

/// One object in several formats.
#[derive(Deserialize)]
pub struct Bundle {
    /// The content by media type.
    pub data: BTreeMap<String, Content>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

/// Text, which nbformat also writes as a list of lines, or JSON.
pub struct Content(pub String);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let lines = |lines: &Vec<Value>| lines.iter().map(Value::as_str).collect::<Option<String>>();
        let text = value.as_str().map(str::to_string).or_else(|| value.as_array().and_then(lines));
        Ok(Content(text.unwrap_or_else(|| value.to_string())))
    }
}

fn joined<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Content::deserialize(deserializer).map(|content| content.0)
}

impl Notebook {
    /// Reads a notebook.
    ///
    /// # Errors
    /// Fails if the file is unreadable or no notebook of nbformat 4.
    pub fn read(path: &Path) -> Result<Self> {
        let text = file::read(path)?;
        let notebook: Notebook = serde_json::from_str(&text)
            .map_err(|error| Error::file(path, format!("can't be read as a notebook of nbformat 4 ({error})")))?;
        Ok(Notebook { path: path.to_path_buf(), size: text.len(), ..notebook })
    }

    /// The name of the file without its ending.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Returns the cells and their numbers, which count all cells from 1.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Cell)> {
        (1..).zip(&self.cells)
    }

    pub fn markdown(&self) -> impl Iterator<Item = (usize, &Cell)> {
        self.numbered().filter(|(_, cell)| cell.cell_type == CellType::Markdown)
    }

    /// Returns the code cells that aren't blank. Only these are executed.
    pub fn code(&self) -> impl Iterator<Item = (usize, &Cell)> {
        self.numbered().filter(|(_, cell)| cell.cell_type == CellType::Code && !cell.source.trim().is_empty())
    }
}

impl Cell {
    /// Returns true if the source is the one that ran, and `None` if nothing was kept of the one that ran.
    pub fn is_unedited(&self) -> Option<bool> {
        // The kernel keeps it in the metadata of outputs, `cargo lab run` in those of the cell. Outputs are at least as new.
        let outputs = self.outputs.iter().filter_map(Output::bundle).map(|bundle| bundle.metadata.get("vitlab"));
        let kept =
            outputs.chain([self.metadata.get("vitlab")]).flatten().find_map(|vitlab| vitlab["source"].as_str())?;
        let checksum: String = Sha256::digest(&self.source).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(kept == checksum)
    }
}

impl Output {
    pub fn bundle(&self) -> Option<&Bundle> {
        match self {
            Output::DisplayData(bundle) | Output::ExecuteResult(bundle) => Some(bundle),
            Output::Stream { .. } | Output::Error { .. } => None,
        }
    }

    /// Returns all texts of the output, without those of pictures.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Output::Stream { text, .. } => vec![text],
            Output::Error { evalue, traceback, .. } => {
                std::iter::once(evalue.as_str()).chain(traceback.iter().map(String::as_str)).collect()
            }
            Output::DisplayData(bundle) | Output::ExecuteResult(bundle) => {
                let texts = bundle.data.iter().filter(|(kind, _)| !kind.starts_with("image/"));
                texts.map(|(_, content)| content.0.as_str()).collect()
            }
        }
    }
}

impl Bundle {
    /// Returns the description of the picture of this media type, for readers who can't see it.
    pub fn alt(&self, kind: &str) -> Option<&str> {
        let alt = self.metadata.get(kind)?.get("alt")?.as_str()?.trim();
        (!alt.is_empty()).then_some(alt)
    }
}
