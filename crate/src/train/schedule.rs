//! The learning rate of each epoch or step: linear warm-up, then half a cosine (Loshchilov and Hutter,
//! [arXiv 1608.03983](https://arxiv.org/abs/1608.03983), equation 5).
//!
//! For w units of warm-up out of n, unit t (from 0) has the rate
//!
//! ```text
//! LR (t + 1) / w                                                    for t < w
//! MIN_LR + (LR − MIN_LR) (1 + cos(π (t − w) / (n − w))) / 2         for t ≥ w
//! ```

use crate::Config;

/// The learning rate of an epoch, counted from 0. The warm-up takes WARMUP_EPOCHS.
///
/// Equals PyTorch's `LinearLR` followed by `CosineAnnealingLR`, as in the homework's material notebook: the last epoch
/// is one unit of the cosine before MIN_LR.
///
/// ```
/// use vitlab::{Config, train::learning_rate};
/// // The homework: ten epochs, all of them warm-up.
/// let config = Config::default();
/// assert!((learning_rate(&config, 0) - 5e-5).abs() < 1e-12);
/// assert!((learning_rate(&config, 9) - 5e-4).abs() < 1e-12);
/// // Four epochs, two of warm-up: the cosine starts at LR and is half-way in its second epoch.
/// let config = Config { epochs: 4, warmup_epochs: 2, ..config };
/// let rates: Vec<f64> = (0..4).map(|e| learning_rate(&config, e)).collect();
/// for (rate, expected) in rates.iter().zip([2.5e-4, 5e-4, 5e-4, 2.55e-4]) {
///     assert!((rate - expected).abs() < 1e-12);
/// }
/// ```
pub fn learning_rate(config: &Config, epoch: usize) -> f64 {
    step_learning_rate(config, epoch, 1)
}

/// The learning rate of a step, for LR_PER_STEP: the same curve with `steps` steps in each epoch. `step` counts from 0
/// over the whole training.
///
/// ```
/// use vitlab::{Config, train::step_learning_rate};
/// // Two epochs of four steps, the first of them warm-up.
/// let config = Config { epochs: 2, warmup_epochs: 1, lr: 1.0, min_lr: 0.0, ..Config::default() };
/// let rates: Vec<f64> = (0..8).map(|step| step_learning_rate(&config, step, 4)).collect();
/// for (rate, expected) in rates.iter().zip([0.25, 0.5, 0.75, 1.0, 1.0, 0.853553, 0.5, 0.146447]) {
///     assert!((rate - expected).abs() < 1e-6);
/// }
/// ```
pub fn step_learning_rate(config: &Config, step: usize, steps: usize) -> f64 {
    let (warmup, end) = (config.warmup_epochs * steps, config.epochs * steps);
    if step < warmup {
        return config.lr * (step + 1) as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / (end - warmup) as f64;
    let cosine = (std::f64::consts::PI * progress).cos();
    config.min_lr + (config.lr - config.min_lr) * (1.0 + cosine) / 2.0
}
