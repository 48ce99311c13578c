//! The models: each file reads from the configuration over the parts to the whole.

mod attention;
mod classifier;
mod cnn;
mod deit;
mod embed;
mod encoder;
mod initialise;
mod vit;

pub use attention::SelfAttention;
pub use classifier::Classifier;
pub use cnn::Cnn;
pub(crate) use cnn::MOMENTUM;
pub use deit::{DistilledClassifier, DistilledEmbedLayer, HeadLogits, MyDeiT};
pub use embed::EmbedLayer;
pub use encoder::Encoder;
pub use vit::{ViTConfig, VisionTransformer};

use tch::Tensor;
use tch::nn::{self, Init, VarStore};

use crate::{Error, Result};

/// What evaluation, training and the weight files need of a model.
pub trait Model {
    /// The named parameters and buffers.
    fn variables(&self) -> &VarStore;

    /// Class scores at inference: [B, C, I, I] float32 -> [B, classes], with dropout off. Gradients are not
    /// recorded.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    fn predict(&self, images: &Tensor) -> Result<Tensor>;

    /// Number of trainable numbers.
    fn parameters(&self) -> i64 {
        self.variables().trainable_variables().iter().map(|t| t.numel() as i64).sum()
    }
}

/// A parameter as the material notebook initialises it: normal with standard deviation 0.02 (its truncation
/// at ±2 lies 100 standard deviations out).
const NORMAL: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

fn linear(path: nn::Path, inputs: i64, outputs: i64) -> nn::Linear {
    let config = nn::LinearConfig { ws_init: NORMAL, bs_init: Some(Init::Const(0.0)), bias: true };
    nn::linear(path, inputs, outputs, config)
}

fn layer_norm(path: nn::Path, width: i64) -> nn::LayerNorm {
    nn::layer_norm(path, vec![width], nn::LayerNormConfig::default())
}

/// Images must be [B, C, I, I] float32.
pub(crate) fn check_images(images: &Tensor, channels: i64, side: i64) -> Result<()> {
    let size = images.size();
    if size.len() == 4 && size[1..] == [channels, side, side] && images.kind() == tch::Kind::Float {
        return Ok(());
    }
    Err(Error::argument(format!(
        "the images are {size:?} of {:?}, this model needs [B, {channels}, {side}, {side}] of Float; \
         Dataset::normalised makes such a batch",
        images.kind()
    )))
}
