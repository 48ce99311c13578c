//! The description of a checkpoint's model: text metadata, and JSON files with the same content.
//!
//! A safetensors file has the description in its header, as texts by name. Other files have it in a JSON file of the same
//! stem: a training's [`History`](crate::train::History) or `{"config": …}`, and other texts under `metadata`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Map, Value};

use super::{open, unreadable};
use crate::{Error, Result, file};

/// Name of the text that describes the model: JSON of a [`Config`](crate::Config) or of a `config.json`.
pub(super) const CONFIG: &str = "config";
/// Name of the text that tells how the model was trained: JSON of a history.
pub(super) const HISTORY: &str = "history";
/// Name of the text that describes the model's input: JSON of a `preprocessor_config.json`.
pub(super) const PREPROCESSOR: &str = "preprocessor_config";
/// Key of the other texts in a JSON file.
const METADATA: &str = "metadata";

/// Most bytes of a JSON file. The names of 21,843 classes take 3 MB.
const MAX_JSON: u64 = 4 << 20;

/// Reads a JSON file that may be missing.
///
/// # Errors
/// Fails if the file is there and can't be read, isn't JSON, or is larger than a description.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>> {
    // A link to nothing is missing, too.
    if !path.exists() {
        return Ok(None);
    }
    let (file, len) = open(path)?;
    if len > MAX_JSON {
        return Err(Error::file(path, format!("has {len} bytes, too many for a description (at most {MAX_JSON})")));
    }
    let mut text = Vec::new();
    file.take(MAX_JSON).read_to_end(&mut text).map_err(|error| unreadable(path, error))?;
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| Error::file(path, format!("isn't valid JSON ({error}); correct or remove it")))
}

/// The texts of a JSON file beside a checkpoint; `None` if it describes no model.
pub(super) fn texts(beside: Value) -> Option<BTreeMap<String, String>> {
    let Value::Object(mut object) = beside else { return None };
    let mut texts = BTreeMap::new();
    // A description of other programs, or a configuration alone.
    if ["model_type", "architectures", "architecture", "EMBED_DIM"].iter().any(|&key| object.contains_key(key)) {
        texts.insert(CONFIG.to_string(), Value::Object(object).to_string());
        return Some(texts);
    }
    let others = object.remove(METADATA);
    let preprocessor = object.remove(PREPROCESSOR);
    let config = object.get(CONFIG).filter(|config| config.is_object()).map(Value::to_string);
    if config.is_none() && others.is_none() && preprocessor.is_none() {
        return None;
    }
    if let Some(Value::Object(others)) = others {
        let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_string()));
        texts.extend(others.into_iter().filter_map(text));
    }
    if let Some(preprocessor) = preprocessor {
        texts.entry(PREPROCESSOR.to_string()).or_insert(preprocessor.to_string());
    }
    if let Some(config) = config {
        texts.entry(CONFIG.to_string()).or_insert(config);
        if object.len() > 1 {
            texts.entry(HISTORY.to_string()).or_insert(Value::Object(object).to_string());
        }
    }
    Some(texts)
}

/// The JSON file with these texts, from which [`texts`] reads them again.
fn json(texts: &BTreeMap<String, String>) -> Value {
    let object = |name: &str| texts.get(name).and_then(|text| compact_object(text));
    let mut others = texts.clone();
    let mut json = Map::new();
    if let Some(history) = object(HISTORY).filter(|history| history.get(CONFIG).is_some_and(Value::is_object)) {
        json = history;
        others.remove(HISTORY);
    }
    if let Some(config) = object(CONFIG).map(Value::Object)
        && json.get(CONFIG).is_none_or(|known| *known == config)
    {
        json.insert(CONFIG.to_string(), config);
        others.remove(CONFIG);
    }
    if let Some(preprocessor) = object(PREPROCESSOR) {
        json.insert(PREPROCESSOR.to_string(), Value::Object(preprocessor));
        others.remove(PREPROCESSOR);
    }
    if !others.is_empty() {
        let others = others.into_iter().map(|(name, text)| (name, Value::String(text)));
        json.insert(METADATA.to_string(), Value::Object(others.collect()));
    }
    Value::Object(json)
}

/// The JSON object of a text that has exactly the form in which [`texts`] gives it back.
fn compact_object(text: &str) -> Option<Map<String, Value>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let compact = value.to_string();
    match value {
        Value::Object(object) if compact == text => Some(object),
        _ => None,
    }
}

/// Writes the texts into the JSON file beside the checkpoint `path`, and keeps one that is already there. The notice says
/// what the file lacks.
pub(super) fn write_beside(path: &Path, texts: &BTreeMap<String, String>) -> Result<Option<String>> {
    let beside = path.with_extension("json");
    let written = json(texts);
    let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if beside.exists() {
        let same = read_json(&beside).is_ok_and(|found| found.as_ref() == Some(&written));
        let lost =
            if texts.is_empty() { String::new() } else { ", and the checkpoint's own description is lost".into() };
        let notice =
            format!("{name} beside it was there before and stays{lost}; remove it if it describes another model");
        return Ok((!same).then_some(notice));
    }
    if !texts.is_empty() {
        file::replace(&beside, |out| writeln!(out, "{written:#}"))?;
        return Ok(Some(format!("the description of its model is in {name} beside it")));
    }
    Ok(None)
}
