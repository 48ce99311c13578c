//! The description beside the tensors: a config.json of transformers or timm, or a history or configuration
//! of vitlab, also as text metadata of the file.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Descriptions that can be computed wrongly without a word, so only known ones pass.
const MODEL_TYPES: [&str; 5] = ["vit", "deit", "dinov2", "dinov2_with_registers", "vit_msn"];
/// Names of the exact GELU.
const EXACT_GELU: [&str; 2] = ["gelu", "gelu_python"];

/// A model's description, which may be empty.
#[derive(Debug)]
pub(super) struct Description {
    value: Value,
    path: String,
}

impl Description {
    /// Takes the description in a folder's or a history's JSON, else the one in the metadata.
    ///
    /// # Errors
    /// Metadata that is no JSON.
    pub fn new(config: Option<Value>, metadata: &BTreeMap<String, String>, path: &Path) -> Result<Self> {
        let path = path.display().to_string();
        let value = match (config, metadata.get("config")) {
            (Some(config), _) => config,
            (None, None) => Value::Null,
            (None, Some(text)) => serde_json::from_str(text).map_err(|error| {
                Error::file(&path, format!("the entry \"config\" of its metadata is damaged ({error}); save it again"))
            })?,
        };
        Ok(Description { value, path })
    }

    pub fn is_empty(&self) -> bool {
        self.value.is_null()
    }

    /// The part at a JSON pointer, `None` if it is missing or null.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer).filter(|value| !value.is_null())
    }

    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    /// The number at the first pointer that exists.
    ///
    /// # Errors
    /// Anything but a positive whole number.
    fn integer(&self, pointers: &[&str]) -> Result<Option<i64>> {
        let Some((pointer, value)) = self.first(pointers) else { return Ok(None) };
        let number = value.as_i64().filter(|number| *number >= 1);
        number.map(Some).ok_or_else(|| self.problem(pointer, value, "a positive whole number"))
    }

    fn first<'a>(&self, pointers: &[&'a str]) -> Option<(&'a str, &Value)> {
        pointers.iter().find_map(|pointer| Some((*pointer, self.at(pointer)?)))
    }

    pub fn problem(&self, pointer: &str, value: &Value, needed: &str) -> Error {
        let name = pointer.trim_start_matches('/').replace('/', ".");
        Error::file(&self.path, format!("its configuration has {name} {value}, but it must be {needed}"))
    }

    /// Number of attention heads.
    pub fn heads(&self) -> Result<Option<i64>> {
        self.integer(&[
            "/num_attention_heads",
            "/config/N_ATTENTION_HEADS",
            "/N_ATTENTION_HEADS",
            "/model_args/num_heads",
        ])
    }

    /// Embedding width.
    pub fn embed_dim(&self) -> Result<Option<i64>> {
        self.integer(&["/hidden_size", "/config/EMBED_DIM", "/EMBED_DIM", "/model_args/embed_dim"])
    }

    /// Side of the images that the position embedding was trained for.
    pub fn image_size(&self) -> Option<i64> {
        self.first(&["/image_size", "/config/IMAGE_SIZE", "/IMAGE_SIZE"]).and_then(|(_, value)| value.as_i64())
    }

    pub fn norm_epsilon(&self) -> Result<Option<f64>> {
        let Some(value) = self.at("/layer_norm_eps") else { return Ok(None) };
        let number = value.as_f64().filter(|number| (0.0..1.0).contains(number));
        number.map(Some).ok_or_else(|| self.problem("/layer_norm_eps", value, "a small positive number"))
    }

    /// timm's pooling.
    pub fn pool(&self) -> Option<&str> {
        let pointers = ["/model_args/global_pool", "/global_pool", "/pretrained_cfg/global_pool"];
        self.first(&pointers).and_then(|(_, value)| value.as_str())
    }

    /// Refuses models with this layout's names that this crate would compute in another way.
    ///
    /// # Errors
    /// Another model type, or another activation than the exact GELU.
    pub fn check(&self) -> Result<()> {
        if let Some(kind) = self.text("/model_type").filter(|kind| !MODEL_TYPES.contains(kind)) {
            let known = MODEL_TYPES.join(", ");
            return Err(Error::file(&self.path, format!("is a model of type {kind}; vitlab has {known}")));
        }
        for pointer in ["/hidden_act", "/model_args/act_layer"] {
            if let Some(value) =
                self.at(pointer).filter(|value| !value.as_str().is_some_and(|a| EXACT_GELU.contains(&a)))
            {
                return Err(self.problem(pointer, value, "gelu, the exact GELU: vitlab has no other activation"));
            }
        }
        for pointer in ["/model_args/norm_layer", "/model_args/pool_include_prefix"] {
            if let Some(value) = self.at(pointer).filter(|value| **value != Value::Bool(false)) {
                return Err(self.problem(pointer, value, "left out: vitlab has timm's usual one"));
            }
        }
        let architecture = self.text("/architecture").unwrap_or_default();
        if let Some(other) = OTHER_ACTIVATION.iter().find(|part| architecture.contains(**part)) {
            let problem =
                format!("is a {architecture}; models of timm with \"{other}\" in their name have another activation");
            return Err(Error::file(&self.path, format!("{problem} than the exact GELU, which vitlab has")));
        }
        Ok(())
    }
}

/// Parts of the names of timm's architectures that don't compute the exact GELU.
const OTHER_ACTIVATION: [&str; 2] = ["quickgelu", "siglip"];
