//! The images that `predict` and `explain` take: of a data set, of picture files, or of a tensor.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};
use vitlab::checkpoint::read_safetensors;
use vitlab::data::{Invert, Origin, Prepared, picture_files};
use vitlab::{Error, Learner, Result};

use crate::options::{Data, check_takes_data_set, named, progress};

const INVERT: &[(&str, Invert)] = &[("auto", Invert::Auto), ("yes", Invert::Yes), ("no", Invert::No)];

/// Images of a data set, of files, or of a tensor.
#[derive(clap::Args)]
pub struct Selection {
    #[command(flatten)]
    data: Data,
    /// Images A to B − 1 of the split [default: all].
    #[arg(long, value_name = "A..B", value_parser = range, allow_hyphen_values = true)]
    range: Option<Range<i64>>,
    /// Pictures (PNG, JPEG, WebP, GIF, BMP, TIFF) or folders of pictures. They are scaled and normalised as the model's
    /// configuration says; for a model of FashionMNIST the garment is cut out and centred.
    #[arg(long, value_name = "FILE|FOLDER", num_args = 1.., conflicts_with_all = ["data", "split", "range", "tensor"])]
    image: Vec<PathBuf>,
    /// Invert the brightness of pictures. auto inverts a garment on a bright background for a model of FashionMNIST, whose
    /// garments are bright on black, and says so [default: auto].
    #[arg(long, value_parser = named(INVERT), requires = "image")]
    invert: Option<Invert>,
    /// The tensor `images` [N, C, H, W] of this file, normalised already, for comparison with other programs.
    #[arg(long, value_name = "FILE.safetensors", conflicts_with_all = ["data", "split", "range"])]
    tensor: Option<PathBuf>,
}

/// Parses A..B with A < B.
fn range(text: &str) -> Result<Range<i64>, String> {
    let ends = text.split_once("..").and_then(|(a, b)| Some(a.trim().parse().ok()?..b.trim().parse().ok()?));
    ends.filter(|range: &Range<i64>| range.start >= 0 && !range.is_empty())
        .ok_or_else(|| format!("\"{text}\" is not a range; write A..B with A < B, for instance 0..10"))
}

pub struct Selected {
    /// The source of the images, in words.
    pub source: String,
    /// Bytes [N, 28, 28] or [N, C, I, I], or the model's input in float32.
    pub images: Tensor,
    /// The true classes, where they are known.
    pub labels: Option<Vec<i64>>,
    /// The name of each image, to print.
    pub names: Vec<String>,
    /// The picture files, if the images are made from such.
    pub files: Vec<PathBuf>,
    /// How each file's picture became an image, without the pixels.
    pub prepared: Vec<Prepared>,
    pub origin: Origin,
}

impl Selection {
    pub fn read(&self, learner: &Learner, device: Device) -> Result<Selected> {
        if !self.image.is_empty() {
            self.pictures(learner, device)
        } else if let Some(path) = &self.tensor {
            tensor(path, learner, device)
        } else {
            self.data_set(learner, device)
        }
    }

    fn data_set(&self, learner: &Learner, device: Device) -> Result<Selected> {
        check_takes_data_set(learner)?;
        let (source, data) = self.data.read(device)?;
        let Range { start, end } = self.range.clone().unwrap_or(0..data.len());
        if end > data.len() {
            let (count, name) = (data.len(), data.split.name());
            return Err(Error::argument(format!("--range {start}..{end}: the {name} set has the images 0..{count}")));
        }
        let (images, labels) = data.range(start, end);
        let labels = Some(Vec::try_from(labels)?);
        let names = (start..end).map(|index| format!("image {index}")).collect();
        let (files, prepared) = Default::default();
        Ok(Selected { source, images, labels, names, files, prepared, origin: data.origin })
    }

    fn pictures(&self, learner: &Learner, device: Device) -> Result<Selected> {
        let (files, skipped) = picture_files(&self.image)?;
        let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        if !skipped.is_empty() {
            eprintln!("skipped, not a picture: {}", listed(&names(&skipped)));
        }
        let invert = self.invert.unwrap_or_default();
        let bar = progress(files.len() as i64);
        let prepared = learner.preprocessing().prepare_files(&files, invert, || bar.inc(1));
        bar.finish_and_clear();
        let (prepared, names) = (prepared?, names(&files));
        say_assumptions(&names, &prepared, invert);
        let images: Vec<Tensor> = prepared.iter().map(Prepared::tensor).collect();
        let images = Tensor::stack(&images, 0).to_device(device); // N × [C, I, I] -> [N, C, I, I]
        let (source, origin) = ("picture files".to_string(), Origin::default());
        let prepared = prepared.into_iter().map(|prepared| Prepared { pixels: Vec::new(), ..prepared }).collect();
        Ok(Selected { source, images, labels: None, names, files, prepared, origin })
    }
}

/// Prints each assumption once, with the names of its pictures.
fn say_assumptions(names: &[String], prepared: &[Prepared], invert: Invert) {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, Prepared { inverted, notes, .. }) in names.iter().zip(prepared) {
        let bright = "inverted, because the border is bright as in a product photo (--invert no prevents it)";
        let inversion = (*inverted && invert == Invert::Auto).then_some(bright);
        for note in inversion.into_iter().chain(notes.iter().map(String::as_str)) {
            match groups.iter_mut().find(|(known, _)| *known == note) {
                Some((_, names)) => names.push(name.clone()),
                None => groups.push((note, vec![name.clone()])),
            }
        }
    }
    for (note, names) in groups {
        eprintln!("{}: {note}", listed(&names));
    }
}

/// At most ten names, and the number of the others.
pub fn listed(names: &[String]) -> String {
    let shown = names.len().min(10);
    let others = names.len() - shown;
    let first = names[..shown].join(", ");
    if others == 0 { first } else { format!("{first} and {others} more") }
}

/// The tensor `images` of a file, as the model's input.
fn tensor(path: &Path, learner: &Learner, device: Device) -> Result<Selected> {
    let (tensors, _) = read_safetensors(path)?;
    let Some(images) = tensors.get("images") else {
        let names: Vec<String> = tensors.0.iter().map(|(name, _)| name.clone()).collect();
        let problem = format!("has no tensor \"images\", only: {}; name the images so", listed(&names));
        return Err(Error::file(path, problem));
    };
    let (size, input) = (images.size(), learner.preprocessing());
    let (channels, side) = (input.channels, input.side);
    let is_float = matches!(images.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    let problem = if size.len() != 4 || size[0] < 1 || size[1..] != [channels, side, side] {
        Some(format!("its images are {size:?}; the model takes [N, {channels}, {side}, {side}]"))
    } else if !is_float {
        Some("its images are whole numbers; normalise them as the model's input, in float32".to_string())
    } else if images.isfinite().all().int64_value(&[]) == 0 {
        Some("its images have values that are NaN or infinite".to_string())
    } else {
        None
    };
    if let Some(problem) = problem {
        return Err(Error::file(path, problem));
    }
    let names = (0..size[0]).map(|index| format!("image {index}")).collect();
    let images = images.to_kind(Kind::Float).to_device(device);
    let (source, origin) = (path.display().to_string(), Origin::default());
    let (files, prepared) = Default::default();
    Ok(Selected { source, images, labels: None, names, files, prepared, origin })
}
