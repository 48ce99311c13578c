//! Does a map point at what the model uses? Deletion and insertion curves (arXiv 1806.07421, section 3.3).

use super::gradient::Target;
use super::heatmap::Heatmap;
use super::named::by_name;
use crate::{Error, Result};
use ndarray::{Array1, Array2, Array3, Axis};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What stands in a removed pixel's place. Black would not do: it is FashionMNIST's background, so that removing
/// background would change nothing and removing clothing would draw another shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// The image's own mean, channel by channel.
    #[default]
    Mean,
    /// The image blurred: a Gaussian with a standard deviation of a seventh of its side, one patch.
    Blur,
}

/// In which direction the image changes, most important pixels first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the image to the baseline: a faithful map makes the probability fall early (small area).
    #[default]
    Deletion,
    /// From the baseline to the image: a faithful map makes it rise early (large area).
    Insertion,
}

by_name!(Baseline, "baseline");
by_name!(Direction, "direction");

/// A class's probability while an image's pixels are exchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Share of the pixels exchanged, from 0 to 1: `[steps + 1]`.
    pub shares: Array1<f64>,
    /// The probability in each image: `[B, steps + 1]`.
    pub probabilities: Array2<f64>,
}

impl Curve {
    /// The curve over all images: `[steps + 1]`.
    pub fn mean(&self) -> Array1<f64> {
        self.probabilities.mean_axis(Axis(0)).expect("at least one image")
    }

    /// Each image's area under the curve (trapezoids), between 0 and 1: `[B]`.
    pub fn areas(&self) -> Array1<f64> {
        self.probabilities
            .rows()
            .into_iter()
            .map(|p| {
                let widths = self.shares.windows(2).into_iter().map(|s| s[1] - s[0]);
                let heights = p.windows(2).into_iter().map(|p| (p[0] + p[1]) / 2.0);
                widths.zip(heights).map(|(width, height)| width * height).sum()
            })
            .collect()
    }
}

/// How a curve is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faithfulness {
    pub direction: Direction,
    pub baseline: Baseline,
    /// Equal steps from no pixel to all of them; each is one pass through the model.
    pub steps: usize,
}

impl Default for Faithfulness {
    fn default() -> Self {
        Faithfulness { direction: Direction::Deletion, baseline: Baseline::Mean, steps: 49 }
    }
}

impl Faithfulness {
    /// The probability of the target class while the pixels of `images` `[B, C, I, I]` are exchanged in the order
    /// of `maps` `[B, I, I]`, the largest value first (of equal values the first in reading order).
    ///
    /// `model` gives logits `[B, classes]` for images; it is called without gradients. The target is that of the
    /// unchanged image. Compare with [`random_maps`]: a map is worth something only if it does better than those.
    ///
    /// Errors: maps that don't fit the images or aren't finite, no steps or more than pixels, a class that doesn't
    /// exist, the model's own.
    ///
    /// ```
    /// use tch::Tensor;
    /// use vitlab::explain::{Faithfulness, Target};
    /// // A model that gives class 0 a probability of a tenth of the pixels' sum: softmax([ln s, ln(10 - s)]).
    /// let model = |images: &Tensor| {
    ///     let sum = images.sum_dim_intlist([1i64, 2, 3].as_slice(), false, None);
    ///     Ok(Tensor::stack(&[&sum, &(10.0 - &sum)], 1).log())
    /// };
    /// let image = Tensor::from_slice(&[4.0, 3.0, 2.0, 1.0]).reshape([1, 1, 2, 2]);
    /// let map = ndarray::arr3(&[[[4.0, 3.0], [2.0, 1.0]]]);
    /// let deletion = Faithfulness { steps: 4, ..Faithfulness::default() };
    /// let curve = deletion.curve(model, &image, &map, &Target::Class(0))?;
    /// // 4, 3, 2 and 1 become 2.5, one after the other.
    /// for (ours, expected) in curve.probabilities.iter().zip([1.0, 0.85, 0.8, 0.85, 1.0]) {
    ///     assert!((ours - expected).abs() < 1e-6);
    /// }
    /// assert!((curve.areas()[0] - 0.875).abs() < 1e-6);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn curve(
        &self,
        model: impl Fn(&Tensor) -> Result<Tensor>,
        images: &Tensor,
        maps: &Array3<f32>,
        target: &Target,
    ) -> Result<Curve> {
        let size = images.size();
        let fits = matches!(*size.as_slice(), [b, c, y, x]
            if b > 0 && c > 0 && y == x && maps.shape() == [b as usize, y as usize, x as usize]);
        if !fits {
            return Err(Error::argument(format!(
                "images {size:?} and maps {:?}: give [B, C, I, I] and [B, I, I]",
                maps.shape()
            )));
        }
        if !maps.iter().all(|value| value.is_finite()) {
            return Err(Error::argument("maps: they have values that are not finite"));
        }
        let (count, side, steps) = (size[0], size[2], self.steps);
        let pixels = side * side;
        if steps == 0 || steps > pixels as usize {
            return Err(Error::argument(format!("steps {steps}: give 1 to {pixels}, the number of pixels")));
        }
        tch::no_grad(|| {
            let class = target.index(&model(images)?)?;
            let baseline = self.baseline.of(images)?;
            let (from, to) = match self.direction {
                Direction::Deletion => (images, &baseline),
                Direction::Insertion => (&baseline, images),
            };
            let importance = Tensor::try_from(maps.as_standard_layout())?.f_reshape([count, pixels])?;
            let order = importance.f_to_device(images.device())?.f_argsort_stable(true, 1, true)?;
            let rank = order.f_argsort(1, false)?; // the place of each pixel in the order
            let rank = rank.f_reshape([count, 1, side, side])?; // [B, I·I] -> [B, 1, I, I]

            let mut probabilities = Array2::zeros([count as usize, steps + 1]);
            for (step, mut column) in probabilities.columns_mut().into_iter().enumerate() {
                let exchanged = exchanged(step, steps, pixels);
                let mixed = to.f_where_self(&rank.f_lt(exchanged)?, from)?;
                let probability = model(&mixed)?.f_softmax(1, Kind::Double)?.f_gather(1, &class, false)?;
                column.assign(&Array1::from(Vec::<f64>::try_from(probability.f_reshape(-1)?)?));
            }
            let share = |step| exchanged(step, steps, pixels) as f64 / pixels as f64;
            Ok(Curve { shares: (0..=steps).map(share).collect(), probabilities })
        })
    }
}

/// Pixels exchanged after `step` of `steps` steps.
fn exchanged(step: usize, steps: usize, pixels: i64) -> i64 {
    (step as f64 * pixels as f64 / steps as f64).round() as i64
}

impl Baseline {
    fn of(self, images: &Tensor) -> Result<Tensor> {
        let (count, channels, side, _) = images.size4()?;
        match self {
            Baseline::Mean => {
                let mean = images.f_mean_dim([2i64, 3].as_slice(), true, None)?;
                Ok(mean.f_expand_as(images)?) // [B, C, 1, 1] -> [B, C, I, I]
            }
            Baseline::Blur => {
                let deviation = side as f64 / 7.0;
                let reach = (3.0 * deviation).ceil() as i64;
                let options = (images.kind(), images.device());
                let away = Tensor::f_arange_start(-reach, reach + 1, options)?;
                let weights = away.f_square()?.f_mul_scalar(-0.5 / deviation.powi(2))?.f_softmax(0, None)?;
                // The image goes on beyond its edges as it is there, so that they don't darken.
                let flat = images.f_reshape([count * channels, 1, side, side])?;
                let flat = flat.f_replication_pad2d([reach, reach, reach, reach])?;
                let conv = |x: &Tensor, kernel: &Tensor| x.f_conv2d::<Tensor>(kernel, None, 1, 0, 1, 1);
                let rows = conv(&flat, &weights.f_reshape([1, 1, 1, -1])?)?;
                Ok(conv(&rows, &weights.f_reshape([1, 1, -1, 1])?)?.f_reshape_as(images)?)
            }
        }
    }
}

/// Maps `[images, I, I]` of random grids, made as `heatmap` makes its maps: the control of [`Faithfulness`], as
/// coarse and as smooth as the maps of `side` × `side` patches it is compared with.
///
/// ```
/// use vitlab::explain::{Heatmap, random_maps};
/// let maps = random_maps(2, 7, &Heatmap::default(), 42)?;
/// assert_eq!(maps.shape(), [2, 28, 28]);
/// assert_eq!(maps, random_maps(2, 7, &Heatmap::default(), 42)?);
/// assert_ne!(maps, random_maps(2, 7, &Heatmap::default(), 43)?);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn random_maps(images: usize, side: usize, heatmap: &Heatmap, seed: u64) -> Result<Array3<f32>> {
    if images == 0 || side == 0 {
        return Err(Error::argument(format!(
            "random maps: {images} images with {side} × {side} patches; give at least one of each"
        )));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let grids: Vec<f64> = (0..images * side * side).map(|_| random.f64()).collect();
    let grids = Tensor::f_from_slice(&grids)?;
    heatmap.of_grids(&grids.f_reshape([images as i64, side as i64, side as i64])?)
}
