//! Layouts: the names and shapes that a checkpoint gives to a model's tensors.
//!
//! [`architecture`] is the one place that reads the sizes of a model from a checkpoint. It asks each layout in turn, and the
//! first that knows the names answers.
//!
//! Each layout is a module of its own with a function `architecture(dict, path)`. The function returns `None` if the names
//! belong to another layout, and otherwise the [`Architecture`] with all sizes. To add a layout:
//!
//! 1. Find a name that no other layout has, such as `embedding.cls_token`.
//! 2. Read the sizes from the shapes; a missing tensor or a wrong shape is an error with the file's name.
//! 3. Rename, split or transpose the tensors if they differ from the model's variables, which bear the names of
//!    [`material`]. [`assign`](super::assign) compares every name, shape and type with the model's afterwards.

mod material;

use std::path::Path;

use super::StateDict;
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
    material::architecture(dict, path)?.ok_or_else(|| {
        let names: Vec<&str> = dict.0.iter().take(3).map(|(name, _)| name.as_str()).collect();
        Error::file(path, format!("holds no model of vitlab: its first tensors are {}", names.join(", ")))
    })
}
