//! The homework's own names, which the variables in [`crate::model`] have: `embedding.cls_token`,
//! `encoder.0.attention.queries.weight`, `classifier.fc2.bias`; `stages.0.0.conv.weight` in the CNN.

use std::path::Path;

use serde::Deserialize;

use super::{Architecture, StateDict};
use crate::model::ViTConfig;
use crate::{Config, Error, Result};

/// Width of a head in the homework's models.
const HEAD_DIM: i64 = 16;

pub(super) fn architecture(dict: &StateDict, path: &Path) -> Result<Option<Architecture>> {
    let has = |name| dict.get(name).is_some();
    Ok(if has("embedding.dist_token") {
        Some(Architecture::Deit(sizes(dict, path, 2)?))
    } else if has("embedding.cls_token") {
        Some(Architecture::Vit(sizes(dict, path, 1)?))
    } else {
        has("stages.0.0.conv.weight").then_some(Architecture::Cnn)
    })
}

/// The sizes of a ViT or DeiT with `prefix` tokens before the patches.
fn sizes(dict: &StateDict, path: &Path, prefix: i64) -> Result<ViTConfig> {
    let shape = |name: &str, rank: usize| {
        let size = dict.get(name).map(|tensor| tensor.size()).filter(|size| size.len() == rank);
        size.ok_or_else(|| Error::file(path, format!("{name} is missing or has a wrong shape")))
    };
    let conv = shape("embedding.conv1.weight", 4)?; // [E, C, P, P]
    let rows = shape("embedding.pos_embedding", 3)?[1];
    let hidden = shape("encoder.0.fc1.weight", 2)?[0];
    let classes = shape("classifier.fc2.weight", 2)?[0];
    let layers = (0..).take_while(|i| dict.get(&format!("encoder.{i}.norm1.weight")).is_some()).count() as i64;
    let (embed, heads) = (conv[0], attention_heads(path, conv[0]));
    let side = |rows: i64| (1..=rows).find(|side| side * side == rows);
    // Some files of a ViT have no position row for the class token.
    let grid = side(rows - prefix).or(side(rows).filter(|_| prefix == 1));
    let Some(grid) = grid.filter(|_| embed > 0 && heads > 0 && embed % heads == 0) else {
        let problem = format!("its sizes (embedding {conv:?}, {rows} position rows) fit no ViT of vitlab");
        return Err(Error::file(path, problem));
    };
    Ok(ViTConfig {
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
    })
}

/// Reads the number of heads, which shapes don't give, from the JSON history beside the file, else assumes width 16.
fn attention_heads(path: &Path, embed: i64) -> i64 {
    let text = std::fs::read(path.with_extension("json")).ok();
    let history: Option<serde_json::Value> = text.and_then(|text| serde_json::from_slice(&text).ok());
    let config = history.and_then(|history| Config::deserialize(&history["config"]).ok());
    config.filter(|config| config.embed_dim == embed).map_or(embed / HEAD_DIM, |config| config.n_attention_heads)
}
