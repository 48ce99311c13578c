//! The result of a training batch.

use tch::Tensor;

use super::AdamW;
use crate::Result;

/// The result of a forward pass on a training batch, which the optimizer and the history read.
#[derive(Debug)]
pub struct Batch {
    /// The scalar to minimise.
    pub loss: Tensor,
    /// [B, classes], for the accuracy
    pub logits: Tensor,
    /// Gradient of the loss with respect to all trainable variables in the order of their creation, `[n]`. libtorch
    /// differentiates `loss` where this is `None`.
    pub gradient: Option<Tensor>,
}

impl Batch {
    /// Takes one optimizer step with learning rate `lr`.
    ///
    /// # Errors
    /// As [`AdamW::step`] and [`AdamW::backward_step`].
    pub fn update(&self, optimizer: &mut AdamW, lr: f64) -> Result<()> {
        match &self.gradient {
            Some(gradient) => optimizer.step(&[gradient], lr),
            None => optimizer.backward_step(&self.loss, lr),
        }
    }
}

/// From the loss and the logits of a model's own forward pass.
impl From<(Tensor, Tensor)> for Batch {
    fn from((loss, logits): (Tensor, Tensor)) -> Self {
        Batch { loss, logits, gradient: None }
    }
}
