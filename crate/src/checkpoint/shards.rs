//! A checkpoint in several files, with an index that tells the file of each tensor: `model.safetensors.index.json` or
//! `pytorch_model.bin.index.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::{Contents, StateDict, about, file_contents, open, printable, unreadable};
use crate::{Error, Result};

/// Most bytes of an index: about 10,000 tensors.
const MAX_INDEX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Reads the tensors of all shards of the index at `path`.
pub(super) fn read(path: &Path) -> Result<Contents> {
    let index = Index::read(path)?;
    let mut found = Contents::default();
    for file in index.files() {
        let shard = path.with_file_name(file);
        if !shard.exists() {
            let problem = format!("needs {} beside it, which is missing; download that file, too", printable(file));
            return Err(Error::file(path, problem));
        }
        let no_tensors = || Error::file(&shard, "is a JSON file, not a shard with tensors; download it again");
        let contents = file_contents(&shard, None)?.ok_or_else(no_tensors)?;
        let listed = |name: &String| index.weight_map.get(name).is_some_and(|place| place == file);
        let wanted = index.weight_map.iter().filter(|(_, place)| *place == file).count();
        let before = contents.tensors.0.len();
        let tensors: Vec<_> = contents.tensors.0.into_iter().filter(|(name, _)| listed(name)).collect();
        if tensors.len() < wanted {
            let missing = index
                .weight_map
                .iter()
                .find(|(name, place)| *place == file && tensors.iter().all(|(other, _)| other != *name));
            let name = missing.map_or(String::new(), |(name, _)| printable(name));
            let problem = format!("lacks the tensor {name}, which the index says it has; download both again");
            return Err(Error::file(&shard, problem));
        }
        if before > tensors.len() {
            let extra = before - tensors.len();
            found.notices.push(format!("skips {extra} tensors of {file} that the index doesn't list"));
        }
        found.tensors.0.extend(tensors);
        found.metadata.extend(contents.metadata);
    }
    found.tensors = StateDict::checked(found.tensors.0).map_err(about(path))?;
    Ok(found)
}

/// The names of the files that the index at `path` lists.
pub(super) fn files(path: &Path) -> Result<BTreeSet<String>> {
    Ok(Index::read(path)?.files().into_iter().map(str::to_string).collect())
}

impl Index {
    fn read(path: &Path) -> Result<Self> {
        let (file, len) = open(path)?;
        if len > MAX_INDEX {
            return Err(Error::file(path, format!("has {len} bytes, too many for an index (at most {MAX_INDEX})")));
        }
        let mut text = Vec::new();
        file.take(MAX_INDEX).read_to_end(&mut text).map_err(|error| unreadable(path, error))?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| {
            let problem = "is a JSON file, but no index of a checkpoint's files; name the file with the tensors";
            Error::file(path, format!("{problem} ({error})"))
        })?;
        // A name with a folder could lead anywhere.
        let impossible = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
        let plain = |name: &str| !name.contains(impossible) && !matches!(name, "" | "." | "..");
        if let Some(name) = index.files().into_iter().find(|name| !plain(name)) {
            let problem = format!("lists \"{}\", which is no file of its folder; download it again", printable(name));
            return Err(Error::file(path, problem));
        }
        Ok(index)
    }

    fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}
