//! AdamW (Loshchilov and Hutter, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101), algorithm 2).
//!
//! With gradient g, learning rate η and weight decay λ, step t updates the parameters θ and the moments m and v:
//!
//! ```text
//! θ ← θ − η λ θ
//! m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
//! θ ← θ − η (m / (1 − β₁ᵗ)) / (√v / √(1 − β₂ᵗ) + ε)
//! ```

use std::borrow::Borrow;

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::Muon;
use crate::Result;
use crate::device::on_one_thread;
use crate::error::ensure;
use crate::model::gradients;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// The same update as `torch.optim.AdamW` on one vector of all parameters. The model's tensors are views of it, so a
/// step takes eight operations instead of eight per tensor.
///
/// ```
/// use tch::{Device, Tensor, nn};
/// use vitlab::train::AdamW;
/// let store = nn::VarStore::new(Device::Cpu);
/// let parameter = store.root().ones("parameter", &[1]);
/// let mut optimizer = AdamW::new(&store, 0.5);
/// // A constant gradient g > 0 gives m / (1 − β₁ᵗ) = g and v / (1 − β₂ᵗ) = g²: each step subtracts η λ θ + η.
/// for expected in [1.0 - 0.1 * 0.5 * 1.0 - 0.1, 0.85 - 0.1 * 0.5 * 0.85 - 0.1] {
///     optimizer.step(&[Tensor::from_slice(&[3.0_f32])], 0.1)?;
///     assert!((parameter.double_value(&[0]) - expected).abs() < 1e-6);
/// }
/// # Ok::<(), vitlab::Error>(())
/// ```
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Tensor>,
    /// `[n]` all parameters in the order of `parameters`; the model's tensors are views of it
    flat: Tensor,
    /// `[n]` m, the running mean of the gradient
    pub(super) exp_avg: Tensor,
    /// `[n]` v, the running mean of the squared gradient
    pub(super) exp_avg_sq: Tensor,
    /// t, the number of steps so far
    pub(super) steps: i64,
    weight_decay: f64,
    /// Updates the hidden matrices in place of AdamW.
    pub(super) muon: Option<Muon>,
}

impl AdamW {
    /// Moves the store's trainable variables into one vector. A model has at most one optimizer at a time.
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
            let (exp_avg, exp_avg_sq) = (flat.zeros_like(), flat.zeros_like());
            AdamW { parameters, flat, exp_avg, exp_avg_sq, steps: 0, weight_decay, muon: None }
        })
    }

    /// Updates the hidden matrices by [`Muon`] instead.
    pub fn with_muon(self) -> Self {
        AdamW { muon: Some(Muon::new(&self.parameters)), ..self }
    }

    /// All parameters `[n]`, in the order of their creation. The model's tensors are views of this vector.
    pub fn parameters(&self) -> &Tensor {
        &self.flat
    }

    /// Differentiates `loss`, then takes one step at learning rate `lr`.
    ///
    /// # Errors
    /// Fails if libtorch can't differentiate `loss`, or if `loss` doesn't depend on every parameter.
    pub fn backward_step(&mut self, loss: &Tensor, lr: f64) -> Result<()> {
        self.step(&gradients(loss, &self.parameters, false)?, lr)
    }

    /// Takes one step with the given gradients: a tensor per trainable variable in the order of their creation, or one
    /// vector of them all.
    ///
    /// # Errors
    /// Fails if the gradients have another number of elements than the parameters.
    pub fn step<T: Borrow<Tensor>>(&mut self, gradients: &[T], lr: f64) -> Result<()> {
        let update = || {
            let mut flat: Vec<Tensor> = gradients.iter().map(|g| g.borrow().reshape([-1])).collect();
            let gradient = if flat.len() == 1 { flat.remove(0) } else { Tensor::cat(&flat, 0) }; // [n]
            let (given, wanted) = (gradient.size(), self.flat.size());
            ensure!(given == wanted, "the gradients have {given:?} elements, the parameters {wanted:?}");
            self.steps += 1;
            let correction1 = 1.0 - BETA1.powi(self.steps as i32);
            let correction2 = 1.0 - BETA2.powi(self.steps as i32);
            let _ = self.flat.g_mul_scalar_(1.0 - lr * self.weight_decay);
            let _ = self.exp_avg.lerp_(&gradient, 1.0 - BETA1);
            let _ = self.exp_avg_sq.lerp_(&gradient.square(), 1.0 - BETA2);
            let denominator = (exact_sqrt(&self.exp_avg_sq)? / correction2.sqrt()).g_add_scalar_(EPS);
            let update = (&self.exp_avg / denominator).g_mul_scalar_(-lr / correction1);
            if let Some(muon) = &mut self.muon {
                muon.replace(&update, &gradient, lr);
            }
            let _ = self.flat.g_add_(&update);
            Ok(())
        };
        on_one_thread(|| no_grad(update))
    }
}

/// Square roots of `x` `[n]`, correctly rounded. On the CPU, libtorch takes them from MKL, whose last digits depend on the
/// kind of CPU: a seed would train another network on each.
fn exact_sqrt(x: &Tensor) -> Result<Tensor> {
    if x.device() != Device::Cpu || x.kind() != Kind::Float {
        return Ok(x.sqrt());
    }
    let roots: Vec<f32> = Vec::<f32>::try_from(x)?.into_iter().map(f32::sqrt).collect();
    Ok(Tensor::from_slice(&roots))
}
