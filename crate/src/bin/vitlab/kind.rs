//! Which model: by name on the command line, by the tensors' names and shapes in a weight file.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use vitlab::checkpoint::{self, StateDict};
use vitlab::model::{Cnn, Model, MyDeiT, ViTConfig, VisionTransformer};
use vitlab::train::History;
use vitlab::{Config, Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Vit,
    Cnn,
    Deit,
}

impl Kind {
    /// Stem of the weight file's name, the homework's for the ViT.
    pub fn stem(self) -> &'static str {
        match self {
            Kind::Vit => "ViT_model",
            Kind::Cnn => "teacher_model",
            Kind::Deit => "DeiT_model",
        }
    }
}

pub enum Network {
    Vit(VisionTransformer),
    Cnn(Cnn),
    Deit(MyDeiT),
}

impl Network {
    pub fn new(kind: Kind, config: &Config, device: Device) -> Result<Self> {
        Ok(match kind {
            Kind::Vit => Network::Vit(VisionTransformer::new(config, device)?),
            Kind::Cnn => Network::Cnn(Cnn::new(config, device)?),
            Kind::Deit => Network::Deit(MyDeiT::new(config, device)?),
        })
    }

    /// The model that a weight file holds, its sizes taken from the file.
    pub fn read(path: &Path, device: Device) -> Result<Self> {
        let dict = checkpoint::read(path)?;
        let network = if dict.get("embedding.dist_token").is_some() {
            Network::Deit(MyDeiT::with_sizes(sizes(&dict, path, 2)?, device))
        } else if dict.get("embedding.cls_token").is_some() {
            Network::Vit(VisionTransformer::with_sizes(sizes(&dict, path, 1)?, device))
        } else if dict.get("stages.0.0.conv.weight").is_some() {
            Network::Cnn(Cnn::new(&Config::default(), device)?)
        } else {
            let names: Vec<&str> = dict.0.iter().take(3).map(|(name, _)| name.as_str()).collect();
            let problem = format!("holds no model of vitlab: its first tensors are {}", names.join(", "));
            return Err(Error::file(path, problem));
        };
        checkpoint::assign(network.variables(), &dict, path)?;
        Ok(network)
    }
}

impl Network {
    /// Tokens before the patches.
    ///
    /// # Errors
    /// A CNN has none.
    pub fn prefix_tokens(&self) -> Result<i64> {
        match self {
            Network::Vit(_) => Ok(1),
            Network::Deit(_) => Ok(2),
            Network::Cnn(_) => Err(no_attention()),
        }
    }

    /// Logits [B, classes] (of a DeiT the average of both heads) and the attention of each layer, [B, H, S, S], of the
    /// graph; dropout off.
    pub fn forward_layers(&self, images: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        match self {
            Network::Vit(model) => model.forward_layers(images, false),
            Network::Deit(model) => {
                model.forward_layers(images, false).map(|(heads, attention)| (heads.average(), attention))
            }
            Network::Cnn(_) => Err(no_attention()),
        }
    }
}

fn no_attention() -> Error {
    Error::argument("a CNN has no attention; give the weights of a ViT or DeiT")
}

/// Numbers per head in the homework's models.
const HEAD_DIM: i64 = 16;

/// A weight file doesn't tell the number of heads; the history that `vitlab train` writes beside it does.
fn heads(path: &Path, embed: i64) -> i64 {
    match History::read(path.with_extension("json")) {
        Ok(history) if history.config.embed_dim == embed => history.config.n_attention_heads,
        _ => embed / HEAD_DIM,
    }
}

/// The sizes of a ViT or DeiT with `prefix` tokens before the patches.
fn sizes(dict: &StateDict, path: &Path, prefix: i64) -> Result<ViTConfig> {
    let shape = |name: &str, rank: usize| -> Result<Vec<i64>> {
        let size = dict.get(name).map(|t| t.size()).unwrap_or_default();
        if size.len() == rank {
            Ok(size)
        } else {
            Err(Error::file(path, format!("{name} is missing or has a wrong shape")))
        }
    };
    let conv = shape("embedding.conv1.weight", 4)?; // [E, C, P, P]
    let rows = shape("embedding.pos_embedding", 3)?[1];
    let hidden = shape("encoder.0.fc1.weight", 2)?[0];
    let classes = shape("classifier.fc2.weight", 2)?[0];
    let layers = (0..).take_while(|i| dict.get(&format!("encoder.{i}.norm1.weight")).is_some()).count() as i64;
    let embed = conv[0];
    let heads = heads(path, embed);
    let side = |rows: i64| (1..=rows).find(|s| s * s == rows);
    // Only the ViT has the layout without a row for its class token.
    let grid = side(rows - prefix).or(side(rows).filter(|_| prefix == 1));
    match grid {
        Some(grid) if embed > 0 && heads > 0 && embed % heads == 0 => Ok(ViTConfig {
            image_size: grid * conv[2],
            patch_size: conv[2],
            n_channels: conv[1],
            embed_dim: embed,
            n_layers: layers,
            n_attention_heads: heads,
            forward_mul: hidden / embed,
            n_classes: classes,
            dropout: 0.0,
            position_rows: rows,
        }),
        _ => {
            Err(Error::file(path, format!("its sizes (embedding {conv:?}, {rows} position rows) fit no ViT of vitlab")))
        }
    }
}

impl Model for Network {
    fn variables(&self) -> &VarStore {
        match self {
            Network::Vit(model) => model.variables(),
            Network::Cnn(model) => model.variables(),
            Network::Deit(model) => model.variables(),
        }
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        match self {
            Network::Vit(model) => model.predict(images),
            Network::Cnn(model) => model.predict(images),
            Network::Deit(model) => model.predict(images),
        }
    }
}
