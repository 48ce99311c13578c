//! `vitlab explain`.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use vitlab::checkpoint::{StateDict, write_safetensors};
use vitlab::config::Precision;
use vitlab::explain::{DiscardPer, Fusion, Heatmap, Layers, MapScale, Normalisation, Query, Rollout, Upsample};
use vitlab::learner::{Explanation, Method};
use vitlab::plot::Grid;
use vitlab::{Error, Learner, Result};

use crate::faithfulness::Evidence;
use crate::images::{Selected, Selection, listed};
use crate::options::{Inference, extension, progress};

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
    /// How the map is made: from the attention (rollout), from the attention and its gradient (grad-rollout), or as the
    /// relevance of Chefer et al.
    #[arg(long, value_enum, default_value = "rollout")]
    method: MethodName,
    /// Explain the score of this class, by its name or number (grad-rollout and relevance) [default: the predicted one].
    #[arg(long, value_name = "NAME|N")]
    class: Option<String>,
    /// How the heads of a layer become one.
    #[arg(long, default_value = "mean", value_name = "mean|max|min")]
    fusion: Fusion,
    /// Share of the smallest attention values that are dropped, in [0, 1).
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    discard: f64,
    /// Drop the smallest values of each row, or of the whole matrix of tokens by tokens.
    #[arg(long, default_value = "matrix", value_name = "row|matrix")]
    discard_per: DiscardPer,
    /// Layers counted from 0: A..B (without B), i,j,… or all.
    #[arg(long, default_value = "all", value_name = "A..B|i,j,…")]
    layers: Layers,
    /// The token whose attention is shown.
    #[arg(long, default_value = "class", value_name = "class|dist|N")]
    token: Query,
    /// Divide a map by its maximum, stretch it from 0 to 1, or leave its values.
    #[arg(long, default_value = "max", value_name = "max|minmax|raw")]
    scale: MapScale,
    /// How a patch's value becomes pixels.
    #[arg(long, default_value = "bilinear", value_name = "bilinear|nearest")]
    upsample: Upsample,
    /// Normalise as vit-explain does, for comparison with its numbers.
    #[arg(long)]
    compat: bool,
    /// Tensors `maps` [N, I, I] and `grid` [N, I/P, I/P] for images of I and patches of P pixels, a picture, or
    /// an interactive page about one image.
    #[arg(
        long,
        value_name = "FILE.safetensors|FILE.png|FILE.html",
        required_unless_present_any = ["faithfulness", "auto", "sanity"]
    )]
    out: Option<PathBuf>,
    #[command(flatten)]
    evidence: Evidence,
}

const EXAMPLES: &str = "Examples:
  vitlab explain --weights models/ViT_model.pt --range 0..10 --fusion max --discard 0.9 --out maps.png
  vitlab explain --weights models/ViT_model.pt --method relevance --class Dress --image dress.jpg --out dress_map.png
  vitlab explain --weights hf://google/vit-base-patch16-224 --image photos/ --discard 0.9 --out photos.png
  vitlab explain --weights models/ViT_model.pt --range 7..8 --discard 0.9 --out explorer.html       where each patch looks
  vitlab explain --weights models/ViT_model.pt --out maps.safetensors       all 10,000 test images
  vitlab explain --weights models/ViT_model.pt --fusion max --discard 0.9 --faithfulness      better than random order?
  vitlab explain --weights models/ViT_model.pt --auto --sanity --json evidence.json    fusion, discard and layers by evidence
  vitlab explain --weights models/ViT_model.pt --precision bfloat16 --out maps.safetensors";

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    Rollout,
    GradRollout,
    Relevance,
}

pub fn run(mut arguments: Arguments) -> Result<()> {
    let ending = arguments.out.as_deref().map(extension).unwrap_or_default();
    let (picture, page) = (ending == "png", ending == "html");
    if let Some(out) = arguments.out.as_ref().filter(|_| !(picture || page || ending == "safetensors")) {
        return Err(Error::file(out, "--out must end in .png, .html or .safetensors"));
    }
    arguments.evidence.check(arguments.inference.precision)?;
    let method = arguments.method()?;
    let (learner, device) = arguments.inference.learner()?;
    let class = arguments.class.as_ref().map(|text| class_number(text, &learner.class_names())).transpose()?;
    let mut method = match method {
        Method::GradientRollout(rollout, _) => Method::GradientRollout(rollout, class),
        Method::Relevance(_) => Method::Relevance(class),
        rollout => rollout,
    };
    let selected = arguments.selection.read(&learner, device)?;
    let count = selected.images.size()[0];
    if picture && count > MOST_IN_A_PICTURE {
        let remedy = format!("choose up to {MOST_IN_A_PICTURE} with --range or --image, or write .safetensors");
        return Err(Error::argument(format!("{count} images don't fit into a picture; {remedy}")));
    }
    if page && (count != 1 || !matches!(method, Method::Rollout(_))) {
        return Err(Error::argument(
            "a page shows one image, and its rollout; choose one with --range 0..1 or --image",
        ));
    }
    let Arguments { scale, upsample, token, .. } = arguments;
    let image_size = learner.preprocessing().side;
    let heatmap = Heatmap { scale, upsample, query: token, image_size, ..Heatmap::default() };
    let weights = arguments.inference.weights.display().to_string();
    if let Some(Rollout { fusion, discard_ratio, layers, .. }) =
        arguments.evidence.print(&weights, &learner, &selected, &method, &heatmap)?
    {
        (arguments.fusion, arguments.discard, arguments.layers) = (fusion, discard_ratio, layers);
        method = arguments.method()?;
    }
    let Some(out) = arguments.out.clone() else { return Ok(()) };
    let bar = progress(count);
    let explanation = learner.explain(&selected.images, &method, &heatmap, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if picture {
        arguments.grid(&learner, &selected, explanation)?.save(&out)?;
    } else if page {
        let title = selected.origin.title(&arguments.title());
        let figure = arguments.grid(&learner, &selected, explanation)?.figure()?;
        let Method::Rollout(options) = &method else { unreachable!("checked above") };
        learner.explore(&title, &selected.images.get(0), options, figure)?.save(&out)?;
    } else {
        let arrays = [("maps", explanation.maps), ("grid", explanation.grids)].into_iter();
        let tensors = arrays.map(|(name, array)| Ok((name.to_string(), Tensor::try_from(array)?)));
        write_safetensors(&out, &StateDict(tensors.collect::<Result<_>>()?), &Default::default())?;
    }
    println!("{count} maps ({}) written to {}", selected.source, out.display());
    Ok(())
}

/// The number of the class that a user names: by its number, its name, or one of the names that it lists with commas.
fn class_number(text: &str, names: &[String]) -> Result<i64> {
    let same = |name: &str| name.trim().eq_ignore_ascii_case(text.trim());
    let number = text.trim().parse().ok().filter(|&number: &usize| number < names.len());
    let named = || names.iter().position(|name| same(name) || name.split(',').any(same));
    if let Some(class) = number.or_else(named) {
        return Ok(class as i64);
    }
    let numbered: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{i} {name}")).collect();
    Err(Error::argument(format!("--class {text}: the model has the classes {}", listed(&numbered))))
}

impl Arguments {
    /// The images and the maps over them.
    fn grid(&self, learner: &Learner, selected: &Selected, mut explanation: Explanation) -> Result<Grid> {
        if selected.files {
            let name = |path: &String| Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
            explanation.names = selected.names.iter().map(name).collect();
        }
        let images = match selected.images.kind() {
            Kind::Float => learner.preprocessing().bytes(&selected.images),
            _ => selected.images.shallow_clone(),
        };
        let title = selected.origin.title(&self.title());
        explanation.grid(&title, &images, selected.labels.as_deref(), self.scale)
    }

    /// The method with its options, without the class; an error for an option that it doesn't have.
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
            MethodName::GradRollout => return Ok(Method::GradientRollout(rollout, None)),
            MethodName::Relevance => return Ok(Method::Relevance(None)),
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
