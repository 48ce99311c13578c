//! The running average of a model's weights (B. Polyak and A. Juditsky 1992).

use tch::{Tensor, no_grad};

use crate::device::on_one_thread;

/// An exponential average of all parameters. It is nearer to the minimum than the weights of the last step, which the
/// noise of the batches moves about.
#[derive(Debug)]
pub struct Average {
    decay: f64,
    /// `[n]`
    pub(super) weights: Tensor,
    pub(super) steps: i64,
}

impl Average {
    /// An average that starts at the parameters `[n]`.
    ///
    /// ```
    /// use vitlab::{tch::Tensor, train::Average};
    /// let mut average = Average::new(0.5, &Tensor::from_slice(&[0f32]));
    /// // The first decays are (1 + t) / (10 + t) = 2/11 and 3/12, as long as they are below 0.5.
    /// average.add(&Tensor::from_slice(&[11f32]));
    /// assert_eq!(average.weights(), &Tensor::from_slice(&[9f32]));
    /// average.add(&Tensor::from_slice(&[1f32]));
    /// assert_eq!(average.weights(), &Tensor::from_slice(&[3f32]));
    /// ```
    pub fn new(decay: f64, parameters: &Tensor) -> Self {
        Average { decay, weights: parameters.detach().copy(), steps: 0 }
    }

    /// Moves the average towards the parameters `[n]`. In the first steps, a lower decay forgets the initial weights.
    pub fn add(&mut self, parameters: &Tensor) {
        self.steps += 1;
        let decay = self.decay.min((1 + self.steps) as f64 / (10 + self.steps) as f64);
        let _ = on_one_thread(|| no_grad(|| self.weights.lerp_(&parameters.detach(), 1.0 - decay)));
    }

    /// The average `[n]`.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// Exchanges the average and the parameters `[n]`.
    pub(super) fn swap(&mut self, parameters: &Tensor) {
        let mut parameters = parameters.detach();
        let current = parameters.copy();
        parameters.copy_(&self.weights);
        self.weights = current;
    }
}
