//! Arguments that several commands have: the model, the data set, and values by their names.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use tch::Device;
use vitlab::config::Precision;
use vitlab::data::{Dataset, SIDE, Split, source};
use vitlab::device::device;
use vitlab::learner::ReadOptions;
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
    /// The model: a checkpoint file, a folder with config.json, a model of the Hugging Face hub, or dinov2-small after
    /// `cargo lab setup --pretrained`.
    #[arg(long, value_name = "FILE|FOLDER|hf://OWNER/NAME")]
    pub weights: PathBuf,
    /// The dictionary of tensors to take from a file that holds several, for instance model_ema.
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Number of attention heads, for a checkpoint that doesn't tell it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1024))]
    heads: Option<i64>,
    /// Side of the images in pixels, if it isn't the one that a ViT was trained for. Its position embedding is interpolated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=4096))]
    image_size: Option<i64>,
    /// Device that computes; auto takes a GPU if there is one.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda")]
    device: String,
    /// Precision of the products in the blocks of a ViT or DeiT. Bfloat16 has three digits and needs AVX512-BF16. It takes
    /// half the time on some processors (AMD EPYC) and more time on others (Intel Xeon).
    #[arg(long, value_parser = named(PRECISIONS), default_value = "float32")]
    pub precision: Precision,
}

impl Inference {
    /// The model, and its device.
    pub fn learner(&self) -> Result<(Learner, Device)> {
        let device = device(&self.device)?;
        let options = ReadOptions {
            entry: self.entry.clone(),
            heads: self.heads,
            image_size: self.image_size,
            ..ReadOptions::default()
        };
        let learner = Learner::open(&self.weights, &options, device)?;
        Ok((learner.with_precision(self.precision)?, device))
    }
}

/// A split of FashionMNIST.
#[derive(clap::Args)]
pub struct Data {
    /// Folder with FashionMNIST, or `synthetic` for the generated stand-in.
    #[arg(long, value_name = "DIR|synthetic")]
    data: Option<String>,
    /// The images to take: for training, or for testing.
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

/// The end of a file's name in lower case, for instance "png".
pub fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// An error unless the model takes FashionMNIST's images.
pub fn check_takes_data_set(learner: &Learner) -> Result<()> {
    let input = learner.preprocessing();
    if (input.channels, input.side) == (1, SIDE as i64) {
        return Ok(());
    }
    let (side, colors) = (input.side, if input.channels == 1 { "grey" } else { "colour" });
    Err(Error::argument(format!(
        "the model takes pictures of {side} × {side} pixels in {colors}, FashionMNIST has {SIDE} × {SIDE} in grey; give \
         pictures to predict or explain with --image"
    )))
}

/// A bar for a pass over `count` images.
pub fn progress(count: i64) -> ProgressBar {
    bar(count as u64, "{bar:30} {pos}/{len} images  {per_sec}  {eta} left")
}

pub fn bar(len: u64, template: &str) -> ProgressBar {
    ProgressBar::new(len).with_style(ProgressStyle::with_template(template).expect("a valid template"))
}
