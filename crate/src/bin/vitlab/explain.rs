//! `vitlab explain`.

use std::path::PathBuf;

use ndarray::{Array3, ArrayView3, Axis, concatenate};
use tch::Tensor;
use vitlab::checkpoint::{self, StateDict};
use vitlab::data::{CLASSES, SIDE, normalise};
use vitlab::explain::{
    DiscardPer, Fusion, Heatmap, Layers, Normalisation, Query, Rollout, Scale, Target, Upsample, gradient_attention,
    grid_of_rows, relevance, rollout, row,
};
use vitlab::plot::{self, Bar, Figure, Grid, Map, Tile};
use vitlab::{Error, Result};

use crate::behind::for_each_behind;
use crate::images::{self, Selected, Selection};
use crate::learner::{Inference, Learner};

/// Images per batch; the maps don't depend on it.
const BATCH: i64 = 400;
/// More originals with their overlays than this don't fit into a readable picture.
const MOST_IN_A_PICTURE: usize = 50;

/// Show what a ViT or DeiT looks at: maps as tensors, or a picture of originals and overlays.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    selection: Selection,
    #[arg(long, value_enum, default_value = "rollout")]
    method: Method,
    /// Explain the score of this class (grad-rollout and relevance) [default: the predicted one].
    #[arg(long, value_name = "N")]
    class: Option<i64>,
    #[arg(long, default_value = "mean", value_name = "mean|max|min")]
    fusion: Fusion,
    /// Share of the smallest attention values that are dropped, in [0, 1).
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    discard: f64,
    #[arg(long, default_value = "matrix", value_name = "row|matrix")]
    discard_per: DiscardPer,
    /// Layers counted from 0: A..B (without B), i,j,… or all.
    #[arg(long, default_value = "all", value_name = "A..B|i,j,…")]
    layers: Layers,
    /// The token whose attention is shown.
    #[arg(long, default_value = "class", value_name = "class|dist|N")]
    token: Query,
    #[arg(long, default_value = "max", value_name = "max|minmax|raw")]
    scale: Scale,
    #[arg(long, default_value = "bilinear", value_name = "bilinear|nearest")]
    upsample: Upsample,
    /// Normalise as vit-explain does, for comparison with its numbers.
    #[arg(long)]
    compat: bool,
    /// Tensors `maps` [N, 28, 28] and `grid` [N, 7, 7], or a picture.
    #[arg(long, value_name = "FILE.safetensors|FILE.png")]
    out: PathBuf,
}

const EXAMPLES: &str = "Examples:
  vitlab explain --weights models/ViT_model.pt --range 0..10 --fusion max --discard 0.9 --out maps.png
  vitlab explain --weights models/ViT_model.pt --method relevance --class 3 --image dress.png --out dress_map.png
  vitlab explain --weights models/ViT_model.pt --out maps.safetensors       all 10,000 test images
  vitlab explain --weights models/ViT_model.pt --precision bfloat16 --out maps.safetensors";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Method {
    Rollout,
    GradRollout,
    Relevance,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let picture = match arguments.out.extension().and_then(|e| e.to_str()) {
        Some("png") => true,
        Some("safetensors") => false,
        _ => {
            return Err(Error::file(&arguments.out, "--out must end in .png or .safetensors"));
        }
    };
    if arguments.class.is_some() && arguments.method == Method::Rollout {
        return Err(Error::argument("--class goes with --method grad-rollout or relevance; a rollout has no class"));
    }
    if arguments.method == Method::Relevance && arguments.rollout() != Rollout::default() {
        return Err(Error::argument(
            "--fusion, --discard, --discard-per, --layers and --compat go with a rollout; relevance goes through all layers as they are",
        ));
    }
    if !arguments.inference.is_float32() && arguments.method != Method::Rollout {
        return Err(Error::argument(
            "--precision goes with --method rollout; the others need gradients, which are float32",
        ));
    }
    let mut learner = arguments.inference.learner()?;
    let selected = arguments.selection.read(arguments.inference.device()?)?;
    let count = selected.len();
    if picture && count > MOST_IN_A_PICTURE as i64 {
        return Err(Error::argument(format!(
            "{count} images don't fit into a picture; choose up to {MOST_IN_A_PICTURE} with --range, or write .safetensors"
        )));
    }
    let bar = images::progress(count);
    let (mut maps, mut grids, mut predicted) = (Vec::new(), Vec::new(), Vec::new());
    let prefix_tokens = learner.network.prefix_tokens()?;
    let batches = (0..count).step_by(BATCH as usize).map(|start| {
        let end = (start + BATCH).min(count);
        let batch = normalise(&selected.images.narrow(0, start, end - start));
        explain(&mut learner, &batch, &arguments, prefix_tokens)
    });
    let heatmap = Heatmap {
        scale: arguments.scale,
        upsample: arguments.upsample,
        query: arguments.token,
        prefix_tokens,
        image_size: SIDE as i64,
    };
    let draw = |(rows, logits): (Tensor, Tensor)| {
        Ok(Explained {
            maps: heatmap.maps_of_rows(&rows)?,
            grid: grid_of_rows(&rows, prefix_tokens)?,
            predicted: Vec::try_from(logits.argmax(1, false))?,
        })
    };
    for_each_behind(batches, draw, |explained| {
        bar.inc(explained.maps.len_of(Axis(0)) as u64);
        maps.push(explained.maps);
        grids.push(explained.grid);
        predicted.extend(explained.predicted);
    })?;
    bar.finish_and_clear();
    let (maps, grids) = (joined(&maps), joined(&grids));
    if picture {
        let figure = overlays(&arguments, &selected, &maps, &predicted)?;
        figure.save(&arguments.out)?;
    } else {
        let tensors = [("maps", &maps), ("grid", &grids)];
        let named = tensors.map(|(name, array)| (name.to_string(), tensor(array)));
        checkpoint::write(&arguments.out, &StateDict(named.into()))?;
    }
    println!("{count} maps ({}) written to {}", selected.source, arguments.out.display());
    Ok(())
}

impl Arguments {
    fn rollout(&self) -> Rollout {
        Rollout {
            fusion: self.fusion,
            discard_ratio: self.discard,
            discard_per: self.discard_per,
            layers: self.layers.clone(),
            normalisation: if self.compat { Normalisation::Compat } else { Normalisation::RowSum },
        }
    }

    /// What was done, for the picture's title.
    fn title(&self) -> String {
        let token = &self.token;
        match self.method {
            Method::Relevance => format!("Relevance, query token {token}"),
            method => {
                let name = if method == Method::Rollout { "Attention rollout" } else { "Gradient rollout" };
                let (fusion, discard, layers) = (self.fusion, self.discard, &self.layers);
                format!("{name}: fusion {fusion}, discard {discard}, layers {layers}, query token {token}")
            }
        }
    }
}

/// Of a batch: maps [B, 28, 28] and grids [B, 7, 7], and the class that the network sees in each image.
struct Explained {
    maps: Array3<f32>,
    grid: Array3<f32>,
    predicted: Vec<i64>,
}

/// The query's row of each image [B, 1, 28, 28], [B, S], and the network's scores [B, classes].
fn explain(
    learner: &mut Learner,
    batch: &Tensor,
    arguments: &Arguments,
    prefix_tokens: i64,
) -> Result<(Tensor, Tensor)> {
    let options = arguments.rollout();
    if arguments.method == Method::Rollout {
        return learner.rollout(batch, &options, arguments.token);
    }
    let target = arguments.class.map_or(Target::Predicted, Target::Class);
    let (logits, attention) = learner.network.forward_layers(batch)?;
    let weighted = gradient_attention(&logits, &attention, &target)?;
    let matrix = match arguments.method {
        Method::Relevance => relevance(&weighted)?,
        _ => rollout(&weighted, &options)?,
    };
    Ok((row(&matrix, arguments.token, prefix_tokens)?, logits.detach()))
}

/// Pairs of original and overlay, three pairs in a row.
fn overlays(arguments: &Arguments, selected: &Selected, maps: &Array3<f32>, predicted: &[i64]) -> Result<Figure> {
    let maps: Vec<_> = maps.outer_iter().map(|map| map.to_owned()).collect();
    let scale = plot::Scale::fit(Map::Inferno, &maps);
    let mut tiles = Vec::new();
    for (i, (map, class)) in maps.into_iter().zip(predicted).enumerate() {
        let image = plot::pixels(&selected.images.get(i as i64))?;
        let name = |class: i64| CLASSES.get(class as usize).copied().unwrap_or("?");
        let caption = match &selected.labels {
            Some(labels) if labels[i] != *class => {
                format!("{} (is {})", name(*class), name(labels[i]))
            }
            _ => name(*class).to_string(),
        };
        tiles.push(Tile::grey(image.clone(), caption));
        tiles.push(Tile::overlay(image, map, scale, ""));
    }
    let grid = Grid {
        title: selected.origin.title(&arguments.title()),
        columns: tiles.len().min(6),
        tiles,
        bar: Some(Bar { scale, label: format!("scale: {}", arguments.scale) }),
        ..Grid::default()
    };
    grid.figure()
}

/// One array of all batches: [B, h, w] each -> [N, h, w].
fn joined(batches: &[Array3<f32>]) -> Array3<f32> {
    let views: Vec<ArrayView3<f32>> = batches.iter().map(Array3::view).collect();
    concatenate(Axis(0), &views).expect("all batches have one map size")
}

fn tensor(array: &Array3<f32>) -> Tensor {
    let size: Vec<i64> = array.shape().iter().map(|n| *n as i64).collect();
    Tensor::from_slice(&array.iter().copied().collect::<Vec<f32>>()).view(size.as_slice())
}
