//! The steps that turn a picture into a model's input, as the model's own configuration describes them.

/// How a picture of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Scales the shorter side to this length, then crops the centre, as models trained on ImageNet have it.
    Crop { shorter: i64 },
    /// Scales both sides to the input's side, which changes the shape.
    Stretch,
    /// Scales the longer side to the input's side and pads the shorter one with the background.
    Pad,
}

/// The filter that scales a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

/// The input of a model: its size and colours, and how a picture is brought to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Side of the input in pixels.
    pub side: i64,
    /// 1 for grey, 3 for red, green, blue.
    pub channels: i64,
    pub fit: Fit,
    pub filter: Filter,
    /// Mean of each channel, subtracted from values in [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, by which the difference is divided.
    pub std: Vec<f64>,
}

impl Preprocessing {
    /// The homework's: grey, 28 × 28, padded, values in [-1, 1].
    pub fn fashion_mnist() -> Self {
        Preprocessing { side: 28, channels: 1, fit: Fit::Pad, filter: Filter::Bilinear, mean: vec![0.5], std: vec![0.5] }
    }
}
