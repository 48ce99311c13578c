//! The learning rate of each epoch.

use crate::Config;

/// Linear warm-up over the first WARMUP_EPOCHS epochs, from LR/WARMUP_EPOCHS to LR, then half a cosine towards
/// MIN_LR. `epoch` counts from 0. The last epoch stays one step above MIN_LR, as in the material notebook, whose
/// `LinearLR` and `CosineAnnealingLR` this equals.
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
    let (peak, warmup) = (config.lr, config.warmup_epochs);
    if epoch < warmup {
        return peak * (epoch + 1) as f64 / warmup as f64;
    }
    let progress = (epoch - warmup) as f64 / (config.epochs - warmup) as f64;
    config.min_lr + (peak - config.min_lr) * (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0
}
