//! `vitlab explain`.

use std::path::PathBuf;

use tch::Tensor;
use vitlab::checkpoint::{self, StateDict};
use vitlab::config::Precision;
use vitlab::explain::{DiscardPer, Fusion, Heatmap, Layers, MapScale, Normalisation, Query, Rollout, Upsample};
use vitlab::learner::Method;
use vitlab::{Error, Result};

use crate::options::{Inference, Selection, progress};

/// Most images in a picture that is still readable.
const MOST_IN_A_PICTURE: i64 = 50;

/// Show what a ViT or DeiT looks at: maps as tensors, or a picture of originals and overlays.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    inference: Inference,
    #[command(flatten)]
    selection: Selection,
    #[arg(long, value_enum, default_value = "rollout")]
    method: MethodName,
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
    scale: MapScale,
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

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    Rollout,
    GradRollout,
    Relevance,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let picture = match arguments.out.extension().and_then(|e| e.to_str()) {
        Some("png") => true,
        Some("safetensors") => false,
        _ => return Err(Error::file(&arguments.out, "--out must end in .png or .safetensors")),
    };
    let method = arguments.method()?;
    let (learner, device) = arguments.inference.learner()?;
    let selected = arguments.selection.read(device)?;
    let count = selected.images.size()[0];
    if picture && count > MOST_IN_A_PICTURE {
        let remedy = format!("choose up to {MOST_IN_A_PICTURE} with --range, or write .safetensors");
        return Err(Error::argument(format!("{count} images don't fit into a picture; {remedy}")));
    }
    let Arguments { scale, upsample, token, .. } = arguments;
    let heatmap = Heatmap { scale, upsample, query: token, ..Heatmap::default() };
    let bar = progress(count);
    let explanation = learner.explain(&selected.images, &method, &heatmap, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if picture {
        let title = selected.origin.title(&arguments.title());
        explanation.figure(&title, &selected.images, selected.labels.as_deref(), scale)?.save(&arguments.out)?;
    } else {
        let arrays = [("maps", explanation.maps), ("grid", explanation.grids)].into_iter();
        let tensors = arrays.map(|(name, array)| Ok((name.to_string(), Tensor::try_from(array)?)));
        checkpoint::write(&arguments.out, &StateDict(tensors.collect::<Result<_>>()?))?;
    }
    println!("{count} maps ({}) written to {}", selected.source, arguments.out.display());
    Ok(())
}

impl Arguments {
    /// The method with its options; an error for an option that it doesn't have.
    fn method(&self) -> Result<Method> {
        let rollout = Rollout {
            fusion: self.fusion,
            discard_ratio: self.discard,
            discard_per: self.discard_per,
            layers: self.layers.clone(),
            normalisation: if self.compat { Normalisation::Compat } else { Normalisation::RowSum },
        };
        let problem = match self.method {
            MethodName::Rollout if self.class.is_some() => {
                "--class goes with --method grad-rollout or relevance; a rollout has no class"
            }
            MethodName::Rollout => return Ok(Method::Rollout(rollout)),
            MethodName::Relevance if rollout != Rollout::default() => {
                "--fusion, --discard, --discard-per, --layers and --compat go with a rollout; relevance uses all layers as they are"
            }
            _ if self.inference.precision != Precision::Float32 => {
                "--precision goes with --method rollout; the others need gradients, which are float32"
            }
            MethodName::GradRollout => return Ok(Method::GradientRollout(rollout, self.class)),
            MethodName::Relevance => return Ok(Method::Relevance(self.class)),
        };
        Err(Error::argument(problem))
    }

    /// Method and options in words, for the picture's title.
    fn title(&self) -> String {
        let Arguments { token, fusion, discard, layers, .. } = self;
        let name = match self.method {
            MethodName::Relevance => return format!("Relevance, query token {token}"),
            MethodName::Rollout => "Attention rollout",
            MethodName::GradRollout => "Gradient rollout",
        };
        format!("{name}: fusion {fusion}, discard {discard}, layers {layers}, query token {token}")
    }
}
