//! The teacher: a plain convolutional network for 28 × 28 images.

use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::{Model, check_images};
use crate::config::Precision;
use crate::{Config, Result};

/// Output channels of each stage's convolutions.
const STAGES: [&[i64]; 3] = [&[32], &[64, 64], &[128, 128]];

/// Width of the first linear layer.
const HIDDEN: i64 = 256;

/// Added to the variance by batch norm, as in PyTorch.
pub(crate) const EPS: f64 = 1e-5;

/// How much of a batch's statistics the running ones take over, as in PyTorch.
pub(crate) const MOMENTUM: f64 = 0.1;

/// PyTorch's initial weights and biases for an output of `inputs` numbers. tch's default is √6 times as wide, and behind a
/// batch norm, which takes the width out again, that much wider weights turn that much more slowly.
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
        let config = nn::ConvConfig { padding: 1, bias: false, ws_init: uniform(inputs * 9), ..Default::default() };
        ConvBlock {
            conv: nn::conv2d(&path / "conv", inputs, outputs, 3, config),
            // tch's default draws the scales from [0, 1); PyTorch's, with which deep networks learn faster, are 1.
            bn: nn::batch_norm2d(
                &path / "bn",
                outputs,
                nn::BatchNormConfig {
                    ws_init: nn::Init::Const(1.0),
                    eps: EPS,
                    momentum: MOMENTUM,
                    ..Default::default()
                },
            ),
        }
    }

    /// [B, C, I, I] -> [B, C', I, I], in the kind of `x`
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let conv = |weight: &Tensor, bias: Option<&Tensor>| {
            let bias = bias.map(|bias| bias.to_kind(x.kind()));
            let weight = channels_last(&weight.to_kind(x.kind()));
            x.conv2d(&weight, bias, 1, 1, 1, 1)
        };
        if train {
            return self.bn.forward_t(&conv(&self.conv.ws, None), true).relu();
        }
        // With fixed statistics the norm is a factor and a shift per channel, which the convolution takes over.
        let (Some(ws), Some(bs)) = (&self.bn.ws, &self.bn.bs) else {
            unreachable!("the norm was made with factors and shifts");
        };
        let scale = ws / (&self.bn.running_var + EPS).sqrt(); // [C']
        let shift = bs - &self.bn.running_mean * &scale;
        conv(&(&self.conv.ws * scale.view([-1, 1, 1, 1])), Some(&shift)).relu_()
    }
}

/// The same tensor with the channels of a position side by side in memory: libtorch's convolutions, norms and pools keep
/// that order and are faster in it (by a fifth to a third, measured on two processors).
fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Three stages of 3 × 3 convolutions, each ended by max pooling, and two linear layers with dropout: the scheme of VGG
/// (arXiv 1409.1556), with batch norm (arXiv 1502.03167).
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use vitlab::{Config, model::{Cnn, Model}};
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
    /// A teacher with fresh weights, drawn from libtorch's generator.
    ///
    /// # Errors
    /// A configuration that can't work.
    pub fn new(config: &Config, device: Device) -> Result<Self> {
        config.check()?;
        let variables = VarStore::new(device);
        let root = variables.root();
        let (mut inputs, mut side) = (config.n_channels, config.image_size);
        let mut stages = Vec::new();
        for (i, widths) in STAGES.iter().enumerate() {
            let mut stage = Vec::new();
            for (j, &width) in widths.iter().enumerate() {
                let path = &root / "stages" / i as i64 / j as i64;
                stage.push(ConvBlock::new(path, inputs, width));
                inputs = width;
            }
            stages.push(stage);
            side /= 2;
        }
        let linear = |name: &str, inputs, outputs| {
            let config = nn::LinearConfig { ws_init: uniform(inputs), bs_init: Some(uniform(inputs)), bias: true };
            nn::linear(&root / name, inputs, outputs, config)
        };
        Ok(Cnn {
            stages,
            fc1: linear("fc1", inputs * side * side, HIDDEN),
            fc2: linear("fc2", HIDDEN, config.n_classes),
            image: (config.n_channels, config.image_size),
            dropout: config.dropout,
            precision: config.precision,
            variables,
        })
    }

    /// [B, C, I, I] -> logits [B, classes]. With `train` the batch's own statistics are used and remembered.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
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
        let hidden = linear(&self.fc1, &features).relu(); // [B, 256]
        let logits = linear(&self.fc2, &hidden.dropout(self.dropout, train));
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
