//! AdamW (arXiv 1711.05101) on one flat vector of all parameters.

use std::borrow::Borrow;

use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use crate::device::on_one_thread;
use crate::{Error, Result};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// The same update as `torch.optim.AdamW`, but all parameters lie in one vector, of which the model's tensors are
/// views: eight operations a step instead of eight per tensor.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Tensor>,
    /// [n] all parameters in the order of `parameters`; the model's tensors are views of it
    flat: Tensor,
    /// [n] running mean of the gradient
    pub(super) exp_avg: Tensor,
    /// [n] running mean of its square
    pub(super) exp_avg_sq: Tensor,
    pub(super) steps: i64,
    weight_decay: f64,
}

impl AdamW {
    /// Takes over the storage of the store's trainable variables; one optimizer per model at a time.
    pub fn new(store: &VarStore, weight_decay: f64) -> Self {
        no_grad(|| {
            let mut parameters = store.trainable_variables();
            let flat = Tensor::cat(&parameters.iter().map(|p| p.detach().flatten(0, -1)).collect::<Vec<_>>(), 0); // [n]
            let mut start = 0;
            for parameter in &mut parameters {
                let length = parameter.numel() as i64;
                parameter.set_data(&flat.narrow(0, start, length).view(parameter.size().as_slice()));
                start += length;
            }
            AdamW {
                exp_avg: flat.zeros_like(),
                exp_avg_sq: flat.zeros_like(),
                flat,
                parameters,
                steps: 0,
                weight_decay,
            }
        })
    }

    /// Gradients of `loss` and one step at learning rate `lr`.
    ///
    /// # Errors
    /// When libtorch can't differentiate `loss`, for instance because it doesn't depend on a parameter.
    pub fn backward_step(&mut self, loss: &Tensor, lr: f64) -> Result<()> {
        let gradients = Tensor::f_run_backward(&[loss], &self.parameters, false, false)?;
        if !gradients.iter().all(Tensor::defined) {
            return Err(Error::argument(
                "the loss doesn't depend on all parameters of the model; use every head in it",
            ));
        }
        self.step(&gradients, lr)
    }

    /// One step with given gradients, a tensor per trainable variable in the order of their creation.
    ///
    /// # Errors
    /// When their number of elements is not the parameters'.
    pub fn step<T: Borrow<Tensor>>(&mut self, gradients: &[T], lr: f64) -> Result<()> {
        let add_update = || {
            let flat: Vec<Tensor> = gradients.iter().map(|g| g.borrow().reshape([-1])).collect();
            let gradient = Tensor::cat(&flat, 0); // [n]
            if gradient.size() != self.flat.size() {
                return Err(Error::argument(format!(
                    "the gradients have {:?} elements, the parameters {:?}",
                    gradient.size(),
                    self.flat.size()
                )));
            }
            self.steps += 1;
            let correction1 = 1.0 - BETA1.powi(self.steps as i32);
            let correction2 = 1.0 - BETA2.powi(self.steps as i32);
            let _ = self.flat.g_mul_scalar_(1.0 - lr * self.weight_decay);
            let _ = self.exp_avg.lerp_(&gradient, 1.0 - BETA1);
            let _ = self.exp_avg_sq.lerp_(&gradient.square(), 1.0 - BETA2);
            let denominator = (self.exp_avg_sq.sqrt() / correction2.sqrt()).g_add_scalar_(EPS);
            let update = (&self.exp_avg / denominator).g_mul_scalar_(-lr / correction1);
            let _ = self.flat.g_add_(&update);
            Ok(())
        };
        on_one_thread(|| no_grad(add_update))
    }
}
