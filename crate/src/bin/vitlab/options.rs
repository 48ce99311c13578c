//! Arguments that several commands have: the model, the images, and values by their names.

use std::ops::Range;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use tch::{Device, Tensor};
use vitlab::config::Precision;
use vitlab::data::{Dataset, Origin, Split, read_picture, source};
use vitlab::device::device;
use vitlab::{Error, Learner, Result};

const PRECISIONS: &[(&str, Precision)] = &[("float32", Precision::Float32), ("bfloat16", Precision::Bfloat16)];

/// Parses one of `values` by its name.
pub fn named<T: Copy + Send + Sync + 'static>(
    values: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(values.iter().map(|(name, _)| *name));
    names.map(|name| values.iter().find(|(known, _)| *known == name).expect("clap knows all names").1)
}

/// The model that a command predicts or explains with.
#[derive(clap::Args)]
pub struct Inference {
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// Precision of the products in the blocks of a ViT or DeiT. Bfloat16 has three digits and takes half the time on a
    /// processor with AVX512-BF16.
    #[arg(long, value_parser = named(PRECISIONS), default_value = "float32")]
    pub precision: Precision,
}

impl Inference {
    /// The model, and its device.
    pub fn learner(&self) -> Result<(Learner, Device)> {
        let device = device(&self.device)?;
        Ok((Learner::read(&self.weights, device)?.with_precision(self.precision)?, device))
    }
}

/// A split of FashionMNIST.
#[derive(clap::Args)]
pub struct Data {
    /// Folder with FashionMNIST, or `synthetic` for the generated stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    #[arg(long, value_parser = named(&[("train", Split::Train), ("test", Split::Test)]), default_value = "test")]
    split: Split,
}

impl Data {
    /// Name and folder of the data set, and its images.
    pub fn read(&self, device: Device) -> Result<(String, Dataset)> {
        let source = source::find(self.data.as_deref())?;
        let data = Dataset::read(&source, self.split, device)?;
        Ok((data.origin.located(&source), data))
    }
}

/// Images of a data set or of files.
#[derive(clap::Args)]
pub struct Selection {
    #[command(flatten)]
    data: Data,
    /// Images A to B − 1 of the split [default: all].
    #[arg(long, value_name = "A..B", value_parser = range)]
    range: Option<Range<i64>>,
    /// PNG files: a bright garment on black in grey, as in FashionMNIST; another size is scaled to 28 × 28.
    #[arg(long, value_name = "FILE.png", num_args = 1.., conflicts_with_all = ["data", "split", "range"])]
    image: Vec<PathBuf>,
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
    /// [N, 28, 28] uint8
    pub images: Tensor,
    /// The true classes, where they are known.
    pub labels: Option<Vec<i64>>,
    pub origin: Origin,
}

impl Selection {
    pub fn read(&self, device: Device) -> Result<Selected> {
        if !self.image.is_empty() {
            let pictures = self.image.iter().map(read_picture).collect::<Result<Vec<_>>>()?;
            let images = Tensor::stack(&pictures, 0).to_device(device); // N × [28, 28] -> [N, 28, 28]
            let (source, origin) = ("picture files".to_string(), Origin::default());
            return Ok(Selected { source, images, labels: None, origin });
        }
        let (source, data) = self.data.read(device)?;
        let Range { start, end } = self.range.clone().unwrap_or(0..data.len());
        if end > data.len() {
            let (count, name) = (data.len(), data.split.name());
            return Err(Error::argument(format!("--range {start}..{end}: the {name} set has the images 0..{count}")));
        }
        let (images, labels) = data.range(start, end);
        let labels = Some(Vec::try_from(labels)?);
        Ok(Selected { source, images, labels, origin: data.origin })
    }
}

/// A bar for a pass over `count` images.
pub fn progress(count: i64) -> ProgressBar {
    bar(count as u64, "{bar:30} {pos}/{len} images  {per_sec}  {eta} left")
}

pub fn bar(len: u64, template: &str) -> ProgressBar {
    ProgressBar::new(len).with_style(ProgressStyle::with_template(template).expect("a valid template"))
}
