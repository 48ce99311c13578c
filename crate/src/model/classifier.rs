//! From the class token to class scores.

use tch::Tensor;
use tch::nn::{self, Module};

use super::linear;

/// Two layers with tanh between them, on the class token alone.
#[derive(Debug)]
pub struct Classifier {
    pub fc1: nn::Linear,
    pub fc2: nn::Linear,
}

impl Classifier {
    pub(super) fn new(path: nn::Path, embed: i64, classes: i64) -> Self {
        Classifier { fc1: linear(&path / "fc1", embed, embed), fc2: linear(&path / "fc2", embed, classes) }
    }

    /// [B, S, E] -> [B, classes]
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let cls = tokens.select(1, 0); // [B, S, E] -> [B, E]
        self.fc2.forward(&self.fc1.forward(&cls).tanh())
    }
}
