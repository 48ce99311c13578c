//! `vitlab explain`.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};
use vitlab::checkpoint::{StateDict, write_safetensors};
use vitlab::config::Precision;
use vitlab::data::Photograph;
use vitlab::explain::{Heatmap, MapScale, Upsample};
use vitlab::learner::{Explanation, HeadMaps, Method};
use vitlab::plot::{Grid, OverlayStyle};
use vitlab::{Error, Learner, Result};

use crate::faithfulness::Measurements;
use crate::images::{Selected, Selection};
use crate::method::MethodOptions;
use crate::options::{Inference, extension, named, progress};

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
    #[command(flatten)]
    method: MethodOptions,
    /// Divide a map by its maximum, stretch it from 0 to 1, or leave its values.
    #[arg(long, default_value = "max", value_name = "max|minmax|raw")]
    scale: MapScale,
    /// How a patch's value becomes pixels.
    #[arg(long, default_value = "bilinear", value_name = "bilinear|nearest")]
    upsample: Upsample,
    /// Draw a map as translucent colours (heat), by darkening the picture where the map is low (dim), or as lines at 25, 50
    /// and 75 % of the scale (contours); for --out FILE.png [default: heat].
    #[arg(long, value_parser = named(OVERLAY))]
    overlay: Option<OverlayStyle>,
    /// Tensors `maps` [N, I, I] and `grid` [N, I/P, I/P] for images of I and patches of P pixels ([N, H, I, I] and
    /// [N, H, I/P, I/P] for --head each), a picture, or an interactive page about one image. The maps of --image are drawn
    /// over the pictures themselves, of which those longer than 800 pixels are scaled down to 800.
    #[arg(
        long,
        value_name = "FILE.safetensors|FILE.png|FILE.html",
        required_unless_present_any = ["faithfulness", "auto", "sanity"]
    )]
    out: Option<PathBuf>,
    #[command(flatten)]
    measurements: Measurements,
}

const OVERLAY: &[(&str, OverlayStyle)] =
    &[("heat", OverlayStyle::Heat), ("dim", OverlayStyle::Dim), ("contours", OverlayStyle::Contours)];

const EXAMPLES: &str = "Examples:
  vitlab explain --weights models/ViT_model.pt --range 0..10 --fusion max --discard 0.9 --out maps.png
  vitlab explain --weights models/ViT_model.pt --method relevance --class Dress --image dress.jpg --out dress_map.png
  vitlab explain --weights hf://facebook/dinov2-small --image cat.jpg --method attention --head each --out heads.png
  vitlab explain --weights hf://google/vit-base-patch16-224 --image photos/ --discard 0.9 --out photos.png
  vitlab explain --weights models/ViT_model.pt --range 7..8 --discard 0.9 --out explorer.html       where each patch looks
  vitlab explain --weights models/ViT_model.pt --out maps.safetensors       all 10,000 test images
  vitlab explain --weights models/ViT_model.pt --fusion max --discard 0.9 --faithfulness      better than random order?
  vitlab explain --weights models/ViT_model.pt --auto --sanity --json evidence.json    fusion, discard and layers by evidence
  vitlab explain --weights models/ViT_model.pt --precision bfloat16 --out maps.safetensors";

pub fn run(mut arguments: Arguments) -> Result<()> {
    let ending = arguments.out.as_deref().map(extension).unwrap_or_default();
    let (picture, page) = (ending == "png", ending == "html");
    if let Some(out) = arguments.out.as_ref().filter(|_| !(picture || page || ending == "safetensors")) {
        return Err(Error::file(out, "--out must end in .png, .html or .safetensors"));
    }
    if arguments.overlay.is_some() && !picture {
        return Err(Error::argument("--overlay is for a picture of maps; give --out FILE.png"));
    }
    arguments.method.check(arguments.inference.precision == Precision::Float32)?;
    arguments.measurements.check(arguments.inference.precision, arguments.method.each_head().is_some())?;
    let (learner, device) = arguments.inference.learner()?;
    let mut method = arguments.method.method(&learner)?;
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
    let Arguments { scale, upsample, .. } = arguments;
    let (query, image_size) = (arguments.method.token, learner.preprocessing().side);
    let heatmap = Heatmap { scale, upsample, query, image_size, ..Heatmap::default() };
    let weights = arguments.inference.weights.display().to_string();
    if let Some(rollout) = arguments.measurements.print(&weights, &learner, &selected, &method, &heatmap)? {
        arguments.method.set_rollout(&rollout);
        method = Method::Rollout(rollout);
    }
    let Some(out) = arguments.out.clone() else { return Ok(()) };
    let bar = progress(count);
    if let Some(layer) = arguments.method.each_head() {
        let maps = learner.explain_heads(&selected.images, layer, &heatmap, |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();
        return arguments.write_heads(&learner, &selected, maps, &out);
    }
    let mut explanation = learner.explain(&selected.images, &method, &heatmap, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if picture {
        explanation.drawing.photographs = Photograph::read(&selected.files, &selected.prepared)?;
        arguments.grid(&learner, &selected, explanation)?.save(&out)?;
    } else if page {
        let title = selected.origin.title(&arguments.page_title(&selected));
        let figure = arguments.grid(&learner, &selected, explanation)?.figure()?;
        let Method::Rollout(options) = &method else { unreachable!("checked above") };
        learner.explore(&title, &selected.images.get(0), options, &figure)?.save(&out)?;
    } else {
        let arrays = [("maps", explanation.maps), ("grid", explanation.grids)].into_iter();
        let tensors = arrays.map(|(name, array)| Ok((name.to_string(), Tensor::try_from(array)?)));
        write_safetensors(&out, &StateDict(tensors.collect::<Result<_>>()?), &Default::default())?;
    }
    println!("{count} maps ({}) written to {}", selected.source, out.display());
    Ok(())
}

/// The selected images as bytes.
fn bytes(learner: &Learner, images: &Tensor) -> Tensor {
    match images.kind() {
        Kind::Float => learner.preprocessing().bytes(images),
        _ => images.shallow_clone(),
    }
}

/// The names of picture files without their folders, to show below the pictures.
fn file_names(selected: &Selected) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    selected.files.iter().map(name).collect()
}

impl Arguments {
    /// The images and the maps over them.
    fn grid(&self, learner: &Learner, selected: &Selected, mut explanation: Explanation) -> Result<Grid> {
        explanation.names = file_names(selected);
        explanation.drawing.overlay = self.overlay.unwrap_or_default();
        let images = bytes(learner, &selected.images);
        let title = selected.origin.title(&self.method.title());
        explanation.grid(&title, &images, selected.labels.as_deref(), self.scale)
    }

    /// Writes the maps of each head.
    fn write_heads(&self, learner: &Learner, selected: &Selected, mut maps: HeadMaps, out: &Path) -> Result<()> {
        let (count, heads, ..) = maps.maps.dim();
        if extension(out) == "png" {
            maps.names = file_names(selected);
            maps.drawing.photographs = Photograph::read(&selected.files, &selected.prepared)?;
            maps.drawing.overlay = self.overlay.unwrap_or_default();
            let title = selected.origin.title(&self.method.title());
            maps.grid(&title, &bytes(learner, &selected.images), self.scale)?.save(out)?;
        } else {
            let arrays = [("maps", maps.maps), ("grid", maps.grids)].into_iter();
            let tensors = arrays.map(|(name, array)| Ok((name.to_string(), Tensor::try_from(array)?)));
            write_safetensors(out, &StateDict(tensors.collect::<Result<_>>()?), &Default::default())?;
        }
        println!("{count} × {heads} maps ({}) written to {}", selected.source, out.display());
        Ok(())
    }

    /// The image and the rollout's options in words, for a page that shows the rows of all tokens.
    fn page_title(&self, selected: &Selected) -> String {
        let image = selected.names.first().map_or("", |name| name.rsplit('/').next().unwrap_or(name));
        format!("Attention in {image}; rolled out with {}", self.method.rollout_words())
    }
}
