//! Which images a command works on: a part of a data set, or picture files.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use indicatif::{ProgressBar, ProgressStyle};
use tch::{Device, Tensor};
use vitlab::data::source::{SIDE, Split};
use vitlab::data::{Dataset, Origin, source};
use vitlab::{Error, Result};

/// Images of a data set or of files.
#[derive(clap::Args)]
pub struct Selection {
    /// Folder with FashionMNIST, or `synthetic` for the drawn stand-in.
    #[arg(long, value_name = "DIR|synthetic", conflicts_with = "image")]
    data: Option<String>,
    #[arg(long, value_enum, default_value = "test", conflicts_with = "image")]
    split: SplitName,
    /// Images A to B − 1 of the split [default: all].
    #[arg(long, value_name = "A..B", conflicts_with = "image")]
    range: Option<Span>,
    /// PNG files: grey, bright garment on black as in FashionMNIST; another size is scaled to 28 × 28.
    #[arg(long, value_name = "FILE.png", num_args = 1..)]
    image: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum SplitName {
    Train,
    Test,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Split::Train,
            SplitName::Test => Split::Test,
        }
    }
}

/// A..B with A < B.
#[derive(Clone, Debug)]
pub struct Span(Range<i64>);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a range; write A..B with A < B, for instance 0..10");
        let (start, end) = text.split_once("..").ok_or_else(wrong)?;
        let number = |s: &str| s.trim().parse::<i64>().map_err(|_| wrong());
        let range = number(start)?..number(end)?;
        if range.start < 0 || range.is_empty() { Err(wrong()) } else { Ok(Span(range)) }
    }
}

pub struct Selected {
    /// Where they come from, in words.
    pub source: String,
    /// [N, 28, 28] uint8
    pub images: Tensor,
    /// The true classes, where they are known.
    pub labels: Option<Vec<i64>>,
    pub origin: Origin,
}

impl Selected {
    pub fn len(&self) -> i64 {
        self.images.size()[0]
    }
}

impl Selection {
    pub fn read(&self, device: Device) -> Result<Selected> {
        if !self.image.is_empty() {
            let pictures = self.image.iter().map(picture).collect::<Result<Vec<_>>>()?;
            return Ok(Selected {
                source: "picture files".to_string(),
                images: Tensor::stack(&pictures, 0).to_device(device), // N × [28, 28] -> [N, 28, 28]
                labels: None,
                origin: Origin::default(),
            });
        }
        let source = source::find(self.data.as_deref())?;
        let data = Dataset::read(&source, self.split.into(), device)?;
        let Range { start, end } = self.range.clone().map_or(0..data.len(), |span| span.0);
        if end > data.len() {
            let (last, name) = (data.len(), data.split.name());
            return Err(Error::argument(format!("--range {start}..{end}: the {name} set has the images 0..{last}")));
        }
        let (images, labels) = data.range(start, end);
        Ok(Selected {
            source: source.to_string(),
            images,
            labels: Some(Vec::try_from(labels)?),
            origin: data.origin.clone(),
        })
    }
}

/// A PNG as [28, 28] uint8.
fn picture(path: &PathBuf) -> Result<Tensor> {
    let decoded = image::open(path)
        .map_err(|e| Error::file(path, format!("can't be read as a PNG ({e}); give a grey picture")))?
        .into_luma8();
    let side = SIDE as u32;
    let scaled = if decoded.dimensions() == (side, side) {
        decoded
    } else {
        image::imageops::resize(&decoded, side, side, image::imageops::FilterType::Triangle)
    };
    Ok(Tensor::from_slice(scaled.as_raw()).view([SIDE as i64, SIDE as i64]))
}

/// A bar for a pass over `count` images.
pub fn progress(count: i64) -> ProgressBar {
    let template = "{bar:30} {pos}/{len} images  {per_sec}  {eta} left";
    ProgressBar::new(count as u64).with_style(ProgressStyle::with_template(template).expect("a valid template"))
}
