//! Layouts: the names and shapes that a checkpoint gives to a model's tensors, mapped onto the models of this crate.
//!
//! | layout | files of | epsilon of the norms | other image sizes |
//! |---|---|---|---|
//! | `homework` | the material notebook in both forms, vitlab | 1e-5 | bicubic |
//! | `timm` | timm's ViT and DeiT; facebookresearch's DeiT, DeiT III, DINO, MAE | 1e-6 | bicubic with antialiasing |
//! | `dinov2` | facebookresearch's DINOv2 | 1e-6 | bicubic with an offset of 0.1; with registers as timm |
//! | `hugging_face` | transformers' ViT and DeiT | config.json, else 1e-12 | bicubic |
//! | | transformers' Dinov2, Dinov2WithRegisters | config.json, else 1e-6 | bicubic; with registers as timm |
//! | `torchvision` | torchvision's ViT | 1e-6 | bicubic with aligned corners |
//! | `google` | google-research/vision_transformer (.npz) | 1e-6 | bilinear with aligned corners |
//!
//! [`understand`] recognises the layout by a name that no other has, translates the names, reads the sizes from the
//! shapes and compares all shapes with each other. Shapes don't tell the number of heads: it comes from the user, from
//! what stands beside the tensors (`description`), or is assumed (width 64; 16 in the homework's models). What is
//! assumed or left out is in [`Understood::notes`], which [`Learner`](crate::Learner) prints on stderr. A new layout is a
//! file with a table of names and a line in `LAYOUTS`.

mod description;
mod dinov2;
mod google;
mod homework;
mod hugging_face;
mod input;
mod names;
mod positions;
mod sizes;
mod timm;
mod torchvision;

use std::path::Path;

use serde_json::Value;
use tch::Tensor;

use super::{Checkpoint, StateDict, printable};
use crate::data::Preprocessing;
use crate::error::{Error, Result, ensure};
use crate::model::{Head, ViTConfig};
use description::Description;
use input::UsualInput;
pub use positions::Interpolation;
use sizes::Reading;

/// The largest side of an image that a model can be enlarged for.
const LARGEST_IMAGE: i64 = 8192;

/// The names of a library, and what it does if a checkpoint says nothing else.
#[derive(Clone, Copy)]
struct Layout {
    /// For messages.
    name: &'static str,
    /// Names by which it is recognised.
    signs: &'static [&'static str],
    names: &'static names::Names,
    /// Beginnings of the names of tensors that no prediction needs.
    unused: &'static [&'static str],
    /// Whether the files are the homework's, which are taken as they are.
    own: bool,
    /// Width of an attention head.
    head_width: i64,
    norm_epsilon: f64,
    interpolation: Interpolation,
    input: UsualInput,
    /// Whether the library interpolates the position embedding for any image that its preprocessor makes.
    any_image_size: bool,
    /// Brings tensors into the shapes and names of the table.
    prepare: fn(StateDict) -> StateDict,
}

/// In the order in which they are tried.
const LAYOUTS: [&Layout; 12] = [
    &homework::LAYOUT,
    &google::LAYOUT,
    &torchvision::LAYOUT,
    &hugging_face::DINOV2_WITH_REGISTERS,
    &hugging_face::DINOV2,
    &hugging_face::DEIT,
    &hugging_face::VIT,
    &timm::MAE,
    &timm::DISTILLED,
    &dinov2::LAYOUT,
    &dinov2::WITHOUT_REGISTERS,
    &timm::LAYOUT,
];

/// A model and its sizes, as read from a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum Architecture {
    Vit(ViTConfig),
    Deit(ViTConfig),
    /// The teacher, which has one size.
    Cnn,
}

/// A checkpoint as a model of this crate: its architecture, and its tensors under the names of the model's variables.
#[derive(Debug)]
pub struct Understood {
    /// The library whose names the checkpoint has.
    pub layout: &'static str,
    pub architecture: Architecture,
    pub tensors: StateDict,
    /// How pictures become the model's input.
    pub preprocessing: Preprocessing,
    /// The names of the classes, if the checkpoint has them.
    pub classes: Option<Vec<String>>,
    /// Notices for the user about assumptions, omissions and changes.
    pub notes: Vec<String>,
}

/// Finds the model that a checkpoint holds. `heads` is the number of attention heads and `image_size` the side of the
/// images, if the user gave them; a position embedding for another size is interpolated as the layout's library does it.
///
/// ```
/// use vitlab::checkpoint::{Checkpoint, layouts::{Architecture, understand}, state_dict};
/// use vitlab::{Config, model::{Model, MyDeiT, ViTConfig}, tch::Device};
/// let model = MyDeiT::new(&Config { n_layers: 2, dropout: 0.0, ..Config::default() }, Device::Cpu)?;
/// let checkpoint = Checkpoint { tensors: state_dict(model.variables()), ..Checkpoint::default() };
/// let understood = understand(checkpoint, Some(4), None)?;
/// assert_eq!(understood.architecture, Architecture::Deit(model.config.clone()));
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Names that no layout knows, tensors that are missing or left over, sizes that don't fit each other, a description
/// that contradicts them, or an activation that the model doesn't have. All tensors that don't fit are named.
pub fn understand(checkpoint: Checkpoint, heads: Option<i64>, image_size: Option<i64>) -> Result<Understood> {
    let Checkpoint { tensors, metadata, config, preprocessor, path } = checkpoint;
    let path = path.as_path();
    sizes::stored_once(&tensors.0, path)?;
    let description = Description::new(config, &metadata, path)?;
    let tensors = without_prefix(tensors);
    let layout = recognised(&tensors, path)?;
    if !layout.own {
        description.check()?;
    }
    let heads = heads.or_else(|| sizes::heads_in_shapes(layout, &tensors));
    let (unused, used): (Vec<_>, Vec<_>) = tensors.0.into_iter().partition(|(name, _)| layout.is_unused(name));
    let (tensors, problems) = names::renamed((layout.prepare)(StateDict(used)), layout.names);
    let mut reading = Reading { tensors, layout, description: &description, path, problems, assumed: Vec::new() };
    let architecture = reading.architecture(heads)?;
    let Reading { tensors, assumed, .. } = reading;
    let mut understood = Understood {
        layout: layout.name,
        preprocessing: Preprocessing::fashion_mnist(),
        classes: None,
        notes: unused_tensors(&unused).into_iter().collect(),
        tensors: tensors.into_dict(),
        architecture,
    };
    let usual_side = preprocessor.as_ref().filter(|_| layout.any_image_size).and_then(input::preprocessor_side);
    if let Some(side) = image_size.or(usual_side) {
        understood.resize(side, layout, path)?;
    }
    understood.describe_input(layout, &description, preprocessor.as_ref(), assumed);
    Ok(understood)
}

impl Understood {
    fn sizes(&mut self) -> Option<&mut ViTConfig> {
        match &mut self.architecture {
            Architecture::Vit(sizes) | Architecture::Deit(sizes) => Some(sizes),
            Architecture::Cnn => None,
        }
    }

    /// Interpolates the position embedding for images of another side.
    fn resize(&mut self, side: i64, layout: &Layout, path: &Path) -> Result<()> {
        let Some(sizes) = self.sizes() else {
            return Err(Error::file(path, "is a CNN, which has one image size; leave the image size out"));
        };
        let (patch, old) = (sizes.patch_size, sizes.image_size / sizes.patch_size);
        let fits = (patch..=LARGEST_IMAGE).contains(&side) && side % patch == 0;
        ensure!(fits, "image size {side}: this model's patches need a multiple of {patch} up to {LARGEST_IMAGE}");
        if side == sizes.image_size {
            return Ok(());
        }
        let (grid, prefix_rows) = (side / patch, sizes.position_rows - old * old);
        sizes.image_size = side;
        sizes.position_rows = prefix_rows + grid * grid;
        let positions = self.tensors.0.iter_mut().find(|(name, _)| name == "embedding.pos_embedding");
        let (_, positions) = positions.expect("compared with the model's variables");
        *positions = layout.interpolation.resized(positions, prefix_rows, grid)?;
        let (name, way) = (layout.name, layout.interpolation.description());
        self.notes.push(format!("the positions of {old} × {old} patches become {grid} × {grid} ({way}, as in {name})"));
        Ok(())
    }

    /// Fills in preprocessing and classes, and says what was assumed.
    fn describe_input(
        &mut self,
        layout: &Layout,
        description: &Description,
        preprocessor: Option<&Value>,
        mut assumed: Vec<String>,
    ) {
        let Some(sizes) = self.sizes().cloned() else { return };
        let input = input::input(layout, description, preprocessor, sizes.image_size, sizes.n_channels);
        if description.is_empty() && !layout.own {
            let epsilon = sizes.structure.norm_epsilon;
            assumed.push(format!("norms with epsilon {epsilon:e} and the exact GELU (a config.json can say others)"));
        }
        if input.assumed {
            assumed.push(format!("pictures as {} has them usually: {}", layout.name, input.description()));
        }
        if !assumed.is_empty() {
            self.notes.push(format!("assumed, since nothing beside the tensors says it: {}", assumed.join("; ")));
        }
        if sizes.structure.head == Head::None {
            self.notes.push(format!("has no head: its logits are the {} features of an image", sizes.n_classes));
        } else {
            self.classes = input::classes(description, sizes.n_classes);
        }
        self.notes.extend(input.remarks);
        self.preprocessing = input.preprocessing;
    }
}

impl Layout {
    fn is_unused(&self, name: &str) -> bool {
        self.unused.iter().any(|beginning| name.starts_with(beginning))
    }
}

fn recognised(dict: &StateDict, path: &Path) -> Result<&'static Layout> {
    let found = LAYOUTS.into_iter().find(|layout| layout.signs.iter().any(|sign| dict.get(sign).is_some()));
    found.ok_or_else(|| {
        let names: Vec<String> = dict.0.iter().take(3).map(|(name, _)| printable(name)).collect();
        Error::file(path, format!("holds no model of vitlab: its first tensors are {}", names.join(", ")))
    })
}

/// The names without what transformers puts before those of a model with a head.
fn without_prefix(dict: StateDict) -> StateDict {
    let prefix = hugging_face::PREFIXES.into_iter().find(|p| dict.0.iter().any(|(name, _)| name.starts_with(p)));
    let Some(prefix) = prefix else { return dict };
    let shorter = |name: String| name.strip_prefix(prefix).map_or(name.clone(), str::to_string);
    StateDict(dict.0.into_iter().map(|(name, tensor)| (shorter(name), tensor)).collect())
}

fn unused_tensors(unused: &[(String, Tensor)]) -> Option<String> {
    let names: Vec<String> = unused.iter().take(8).map(|(name, _)| printable(name)).collect();
    let more = if unused.len() > names.len() { ", …" } else { "" };
    let (count, names) = (unused.len(), names.join(", "));
    (count > 0).then(|| format!("tensors that no prediction needs are left out ({count}): {names}{more}"))
}
