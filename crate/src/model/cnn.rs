//! The teacher: a convolutional network for 28 × 28 images.

use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Model, check_images};
use crate::config::Precision;
use crate::{Config, Result};

/// Output channels of the convolutions, for each stage.
const STAGES: [&[i64]; 3] = [&[32], &[64, 64], &[128, 128]];

/// Width of the first linear layer.
const HIDDEN: i64 = 256;

/// Constant that batch norm adds to the variance, as in PyTorch.
pub(crate) const EPS: f64 = 1e-5;

/// Weight of a batch's statistics in the update of the running ones, as in PyTorch.
pub(crate) const MOMENTUM: f64 = 0.1;

/// PyTorch's initial weights and biases of a layer with `inputs` inputs per output. tch's default is √6 times as wide.
/// Batch norm cancels the width, so wider weights only change direction more slowly during training.
fn uniform(inputs: i64) -> nn::Init {
    let up = (inputs as f64).sqrt().recip();
    nn::Init::Uniform { lo: -up, up }
}

/// 3 × 3 convolution, batch norm, ReLU.
#[derive(Debug)]
pub(crate) struct ConvBlock {
    pub(crate) conv: nn::Conv2D,
    pub(crate) bn: nn::BatchNorm,
}

impl ConvBlock {
    fn new(path: nn::Path, inputs: i64, outputs: i64) -> Self {
        let conv = nn::ConvConfig { padding: 1, bias: false, ws_init: uniform(inputs * 9), ..Default::default() };
        // PyTorch's scales are 1; deep networks learn faster with that. tch draws them from [0, 1).
        let ws_init = nn::Init::Const(1.0);
        let bn = nn::BatchNormConfig { ws_init, eps: EPS, momentum: MOMENTUM, ..Default::default() };
        ConvBlock {
            conv: nn::conv2d(&path / "conv", inputs, outputs, 3, conv),
            bn: nn::batch_norm2d(&path / "bn", outputs, bn),
        }
    }

    /// [B, C, I, I] -> [B, C', I, I], in the type of `x`
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let conv = |weight: &Tensor, bias: Option<&Tensor>| {
            let bias = bias.map(|bias| bias.to_kind(x.kind()));
            x.conv2d(&channels_last(&weight.to_kind(x.kind())), bias, 1, 1, 1, 1) // [B, C, I, I] -> [B, C', I, I]
        };
        if train {
            return self.bn.forward_t(&conv(&self.conv.ws, None), true).relu();
        }
        // With fixed statistics, batch norm is a factor and a shift per channel: they are folded into the convolution.
        let (Some(ws), Some(bs)) = (&self.bn.ws, &self.bn.bs) else {
            unreachable!("the batch norm is affine");
        };
        let scale = ws / (&self.bn.running_var + EPS).sqrt(); // [C']
        let shift = bs - &self.bn.running_mean * &scale;
        conv(&(&self.conv.ws * scale.view([-1, 1, 1, 1])), Some(&shift)).relu_()
    }
}

/// The same tensor [A, C, Y, X] with the channels of a position adjacent in memory. libtorch's convolutions, norms and
/// pools preserve that layout and are faster in it, by a fifth to a third as measured on two processors.
fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Three stages of 3 × 3 convolutions with batch norm (arXiv 1502.03167), each ended by max pooling, and two linear layers
/// with dropout, after VGG (arXiv 1409.1556).
///
/// ```
/// use vitlab::{Config, model::{Cnn, Model}, tch::{Device, Kind, Tensor}};
/// let model = Cnn::new(&Config::default(), Device::Cpu).unwrap();
/// assert_eq!(model.parameters(), 575_338);
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// assert_eq!(model.predict(&images).unwrap().size(), [2, 10]);
/// ```
#[derive(Debug)]
pub struct Cnn {
    pub(crate) stages: Vec<Vec<ConvBlock>>,
    pub(crate) fc1: nn::Linear,
    pub(crate) fc2: nn::Linear,
    /// Channels and side of the images.
    pub(crate) image: (i64, i64),
    pub(crate) dropout: f64,
    pub(crate) precision: Precision,
    variables: VarStore,
}

impl Cnn {
    /// A teacher with random weights from libtorch's generator (see [`crate::data::seed_everything`]).
    ///
    /// # Errors
    /// A configuration that [`Config::check`] refuses.
    pub fn new(config: &Config, device: Device) -> Result<Self> {
        config.check()?;
        let variables = VarStore::new(device);
        let root = variables.root();
        let (mut stages, mut channels) = (Vec::new(), config.n_channels);
        for (widths, i) in STAGES.iter().zip(0i64..) {
            let mut stage = Vec::new();
            for (&width, j) in widths.iter().zip(0i64..) {
                stage.push(ConvBlock::new(&root / "stages" / i / j, channels, width));
                channels = width;
            }
            stages.push(stage);
        }
        let side = config.image_size >> STAGES.len(); // each stage's pooling halves it
        let linear = |name: &str, inputs, outputs| {
            let config = nn::LinearConfig { ws_init: uniform(inputs), bs_init: Some(uniform(inputs)), bias: true };
            nn::linear(&root / name, inputs, outputs, config)
        };
        Ok(Cnn {
            stages,
            fc1: linear("fc1", channels * side * side, HIDDEN),
            fc2: linear("fc2", HIDDEN, config.n_classes),
            image: (config.n_channels, config.image_size),
            dropout: config.dropout,
            precision: config.precision,
            variables,
        })
    }

    /// [B, C, I, I] -> logits [B, classes]. With `train`, batch norm uses the batch's statistics and updates the
    /// running ones.
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        check_images(images, self.image.0, self.image.1)?;
        let kind = match self.precision {
            Precision::Float32 => Kind::Float,
            Precision::Bfloat16 => Kind::BFloat16,
        };
        let mut x = images.to_kind(kind);
        for stage in &self.stages {
            for block in stage {
                x = block.forward(&x, train);
            }
            x = x.max_pool2d_default(2); // [B, C, I, I] -> [B, C, I/2, I/2]
        }
        let linear = |layer: &nn::Linear, x: &Tensor| {
            let bias = layer.bs.as_ref().map(|bias| bias.to_kind(kind));
            x.linear(&layer.ws.to_kind(kind), bias)
        };
        let features = x.flatten(1, -1).dropout(self.dropout, train); // [B, 128, 3, 3] -> [B, 1152]
        let hidden = linear(&self.fc1, &features).relu(); // [B, 1152] -> [B, 256]
        let logits = linear(&self.fc2, &hidden.dropout(self.dropout, train)); // [B, 256] -> [B, classes]
        Ok(logits.to_kind(Kind::Float))
    }
}

impl Model for Cnn {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        no_grad(|| self.forward(images, false))
    }
}
