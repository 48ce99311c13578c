//! Layouts: the names and shapes that a checkpoint gives to a model's tensors.
//!
//! [`architecture`] is the one place that reads the sizes of a model from a checkpoint. Each layout is a module with a
//! function `architecture(dict, path)`, which returns `None` if the names belong to another layout. A new layout needs a
//! name that no other has, such as `embedding.cls_token`, and reads the sizes from the shapes. The model's variables
//! have the names of [`homework`]. A layout with other tensor names also needs a function that renames, splits or
//! transposes the tensors before [`assign`](super::assign) compares them with the variables; none does yet.

mod homework;

use std::path::Path;

use super::{Checkpoint, StateDict};
use crate::data::Preprocessing;
use crate::model::ViTConfig;
use crate::{Error, Result};

/// A model and its sizes, as read from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    Vit(ViTConfig),
    Deit(ViTConfig),
    /// The teacher, which has one size.
    Cnn,
}

/// The architecture of the model whose tensors were read from the file `path`.
///
/// ```
/// use std::path::Path;
/// use tch::Device;
/// use vitlab::checkpoint::{layouts::{Architecture, architecture}, state_dict};
/// use vitlab::{Config, model::{Model, MyDeiT, ViTConfig}};
/// let model = MyDeiT::new(&Config { n_layers: 2, dropout: 0.0, ..Config::default() }, Device::Cpu)?;
/// let expected = ViTConfig { position_rows: 51, ..model.config.clone() };
/// let found = architecture(&state_dict(model.variables()), Path::new("student.pt"))?;
/// assert_eq!(found, Architecture::Deit(expected));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Names that no layout knows, a missing tensor, or sizes that fit no model.
pub fn architecture(dict: &StateDict, path: &Path) -> Result<Architecture> {
    homework::architecture(dict, path)?.ok_or_else(|| {
        let names: Vec<&str> = dict.0.iter().take(3).map(|(name, _)| name.as_str()).collect();
        Error::file(path, format!("holds no model of vitlab: its first tensors are {}", names.join(", ")))
    })
}

/// A checkpoint as a model of this crate: its architecture, and its tensors under the names of the model's variables.
#[derive(Debug)]
pub struct Understood {
    pub architecture: Architecture,
    pub tensors: StateDict,
    /// How pictures become the model's input.
    pub preprocessing: Preprocessing,
    /// The names of the classes, if the checkpoint has them.
    pub classes: Option<Vec<String>>,
}

/// Finds the model that a checkpoint holds. `heads` is the number of attention heads, if the user gave it.
///
/// # Errors
/// Fails as [`architecture`] does.
pub fn understand(checkpoint: Checkpoint, _heads: Option<i64>) -> Result<Understood> {
    Ok(Understood {
        architecture: architecture(&checkpoint.tensors, &checkpoint.path)?,
        tensors: checkpoint.tensors,
        preprocessing: Preprocessing::fashion_mnist(),
        classes: None,
    })
}
