//! The models. Each file defines the layers, then the model; `vit.rs` begins with the configuration.

mod cnn;
mod deit;
mod parts;
mod structure;
mod vit;

use std::collections::BTreeMap;

use tch::Tensor;
use tch::nn::{self, Init, VarStore};

use crate::config::Initialisation;
use crate::error::{Result, ensure};

pub use cnn::Cnn;
pub(crate) use cnn::MOMENTUM;
pub use deit::{DistilledClassifier, DistilledEmbedLayer, HeadLogits, MyDeiT};
pub use parts::Parts;
pub(crate) use structure::scaled;
pub use structure::{Head, Pool, Structure};
pub use vit::{Classifier, EmbedLayer, Encoder, SelfAttention, ViTConfig, VisionTransformer};

/// A network that can be evaluated, trained, and stored in a checkpoint file.
pub trait Model {
    /// The named parameters and buffers.
    fn variables(&self) -> &VarStore;

    /// Logits at inference: `[B, C, I, I]` float32 -> `[B, classes]`, without dropout and without recording gradients.
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    fn predict(&self, images: &Tensor) -> Result<Tensor>;

    /// Number of trainable parameters.
    fn parameters(&self) -> i64 {
        self.variables().trainable_variables().iter().map(|t| t.numel() as i64).sum()
    }

    /// Gradient of a scalar `loss` with respect to all trainable parameters, in the order of their creation: `[n]`. The
    /// graph of the loss is kept, so that more of it can be differentiated.
    ///
    /// ```
    /// use vitlab::model::{Model, VisionTransformer};
    /// use vitlab::tch::{Device, Kind, Tensor};
    /// use vitlab::{Config, tensor::TensorExt};
    /// let vit = VisionTransformer::new(&Config::default(), Device::Cpu)?;
    /// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
    /// let gradient = vit.gradient(&vit.forward(&images, false, false)?.0.sum(Kind::Float))?;
    /// assert_eq!(gradient.size(), [210_122]);
    /// // The biases of the last layer stand before its 640 weights. Each is added to the logits of both images.
    /// assert_eq!(gradient.narrow(0, 210_122 - 650, 10).to_vec(), [2.0; 10]);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// A loss that libtorch can't differentiate, or that doesn't depend on every parameter.
    fn gradient(&self, loss: &Tensor) -> Result<Tensor> {
        let gradients = gradients(loss, &self.variables().trainable_variables(), true)?;
        Ok(Tensor::cat(&Vec::from_iter(gradients.iter().map(|gradient| gradient.reshape([-1]))), 0))
    }
}

/// Gradient of a scalar `loss` with respect to each parameter.
pub(crate) fn gradients(loss: &Tensor, parameters: &[Tensor], keep_graph: bool) -> Result<Vec<Tensor>> {
    let gradients = Tensor::f_run_backward(&[loss], parameters, keep_graph, false)?;
    let complete = gradients.iter().all(Tensor::defined);
    ensure!(complete, "the loss doesn't depend on all parameters of the model; use every head in it");
    Ok(gradients)
}

/// Initial weights of the homework's material notebook: normal with standard deviation 0.02. PyTorch truncates at ±2,
/// 100 standard deviations; omitted here.
const NORMAL: Init = Init::Randn { mean: 0.0, stdev: 0.02 };

fn linear(path: nn::Path, inputs: i64, outputs: i64) -> nn::Linear {
    let config = nn::LinearConfig { ws_init: NORMAL, bs_init: Some(Init::Const(0.0)), bias: true };
    nn::linear(path, inputs, outputs, config)
}

fn layer_norm(path: nn::Path, config: &ViTConfig) -> nn::LayerNorm {
    let epsilon = nn::LayerNormConfig { eps: config.structure.norm_epsilon, ..Default::default() };
    nn::layer_norm(path, vec![config.embed_dim], epsilon)
}

/// The model, whose linear maps get new weights if `how` is [`Initialisation::Xavier`]. The patch projection counts as a
/// linear map of each patch: its weight [E, C, P, P] has E outputs and C · P² inputs.
fn initialised<M: Model>(model: M, how: Initialisation) -> M {
    if how == Initialisation::Normal {
        return model;
    }
    // The store lists its variables in no fixed order; sorting makes the draws depend on the seed alone.
    let sorted = BTreeMap::from_iter(model.variables().variables()).into_iter();
    for (_, mut weight) in sorted.filter(|(name, weight)| name.ends_with(".weight") && weight.dim() > 1) {
        let outputs = weight.size()[0];
        let inputs = weight.numel() as i64 / outputs;
        let bound = (6.0 / (inputs + outputs) as f64).sqrt();
        let _ = tch::no_grad(|| weight.uniform_(-bound, bound));
    }
    model
}

/// Checks that images are `[B, channels, side, side]` float32.
pub(crate) fn check_images(images: &Tensor, channels: i64, side: i64) -> Result<()> {
    let (size, kind) = (images.size(), images.kind());
    ensure!(
        size.len() == 4 && size[1..] == [channels, side, side] && kind == tch::Kind::Float,
        "the images are {size:?} of {kind:?}, this model needs [B, {channels}, {side}, {side}] of Float; \
         Dataset::normalised makes such a batch"
    );
    Ok(())
}
