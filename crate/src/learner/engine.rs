//! The fast engines behind one type.

use tch::Tensor;

use super::{Loss, Network};
use crate::Result;
use crate::fused::{Fused, FusedCnn};
use crate::train::Batch;

pub(super) enum Engine {
    Transformer(Fused),
    Cnn(FusedCnn),
}

impl Engine {
    /// # Errors
    /// A model on a GPU, or sizes or a precision that the engine doesn't have.
    pub fn new(network: &Network) -> Result<Self> {
        match network {
            Network::Vit(model) => Fused::vit(model).map(Engine::Transformer),
            Network::Deit(model) => Fused::deit(model).map(Engine::Transformer),
            Network::Cnn(model) => FusedCnn::new(model).map(Engine::Cnn),
        }
    }

    pub fn heads(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        match self {
            Engine::Transformer(fused) => fused.heads(images),
            Engine::Cnn(fused) => Ok(vec![fused.predict(images)?]),
        }
    }

    pub fn step(&mut self, images: &Tensor, labels: &Tensor, loss: Loss) -> Result<Batch> {
        match (self, loss) {
            (Engine::Cnn(fused), _) => fused.cross_entropy(images, labels),
            (Engine::Transformer(fused), Loss::CrossEntropy) => fused.cross_entropy(images, labels),
            (Engine::Transformer(fused), Loss::Hard { loss, teacher }) => {
                fused.hard_distillation(&loss, images, teacher, labels)
            }
            (Engine::Transformer(fused), Loss::Soft { loss, teacher }) => {
                fused.soft_distillation(&loss, images, teacher, labels)
            }
        }
    }
}
