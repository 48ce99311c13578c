//! Faithfulness of a map to the model, by deletion and insertion curves (arXiv 1806.07421, section 3.3).

use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::exchange::Exchange;
use super::{Heatmap, Target};
use crate::error::{Result, ensure};

/// Replacement for removed pixels. Black is no option: it is FashionMNIST's background, so removing background would
/// change nothing and removing clothing would draw another shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// The image's own mean of each channel.
    #[default]
    Mean,
    /// The blurred image: a Gaussian with a standard deviation of a seventh of the image's side, which is one patch.
    Blur,
}

/// Direction in which the image changes. The most important pixels change first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the image to the baseline: with a faithful map the probability falls early (small area).
    #[default]
    Deletion,
    /// From the baseline to the image: with a faithful map the probability rises early (large area).
    Insertion,
}

/// Number that a curve follows while the image changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// Probability of the target class.
    #[default]
    Probability,
    /// Cosine similarity of the model's output with its output for the unchanged image. For models without a class head,
    /// whose output is features. The target has no effect.
    Similarity,
}

by_serde_name!(Baseline, "baseline");
by_serde_name!(Direction, "direction");
by_serde_name!(Score, "score");

/// Probability of a class, or another [`Score`], while the pixels of an image are exchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Share of exchanged pixels, from 0 to 1: `[steps + 1]`.
    pub shares: Array1<f64>,
    /// Probability for each image, or its similarity with [`Score::Similarity`]: `[B, steps + 1]`.
    pub probabilities: Array2<f64>,
}

impl Curve {
    /// Mean probability over the images: `[steps + 1]`.
    pub fn mean(&self) -> Array1<f64> {
        self.probabilities.mean_axis(Axis(0)).expect("at least one image")
    }

    /// Area under each image's curve by the trapezoidal rule: `[B]`. It lies between 0 and 1, or −1 and 1 for similarities.
    pub fn areas(&self) -> Array1<f64> {
        let area = |p: ArrayView1<f64>| {
            let widths = self.shares.windows(2).into_iter().map(|s| s[1] - s[0]);
            let heights = p.windows(2).into_iter().map(|p| (p[0] + p[1]) / 2.0);
            widths.zip(heights).map(|(width, height)| width * height).sum()
        };
        self.probabilities.rows().into_iter().map(area).collect()
    }
}

/// Options of a deletion or insertion curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faithfulness {
    pub direction: Direction,
    pub baseline: Baseline,
    /// Number of equal steps from no pixel to all of them. Each step is one forward pass.
    pub steps: usize,
    pub score: Score,
}

impl Default for Faithfulness {
    fn default() -> Self {
        let (direction, baseline, score) = (Direction::Deletion, Baseline::Mean, Score::Probability);
        Faithfulness { direction, baseline, steps: 49, score }
    }
}

impl Faithfulness {
    /// Probability of the target class while the pixels of `images` `[B, C, I, I]` are exchanged in the order of `maps`
    /// `[B, I, I]`: largest value first, equal values in reading order.
    ///
    /// `model` gives logits `[B, classes]` for images and is called without gradients. The target is that of the
    /// unchanged image. Compare the curve with that of [`random_maps`]: a map is informative only if it does better.
    ///
    /// # Errors
    /// Maps that don't fit or aren't finite, images that aren't floats, an invalid `steps` or class; errors of `model`.
    ///
    /// ```
    /// use vitlab::{explain::{Faithfulness, Target}, tch::Tensor};
    /// // Probability of class 0: a tenth of the pixels' sum s, by softmax([ln s, ln(10 - s)]).
    /// let model = |images: &Tensor| {
    ///     let sum = images.sum_dim_intlist([1i64, 2, 3].as_slice(), false, None);
    ///     Ok(Tensor::stack(&[&sum, &(10.0 - &sum)], 1).log())
    /// };
    /// let image = Tensor::from_slice(&[4.0, 3.0, 2.0, 1.0]).reshape([1, 1, 2, 2]);
    /// let map = ndarray::arr3(&[[[4.0, 3.0], [2.0, 1.0]]]);
    /// let deletion = Faithfulness { steps: 4, ..Faithfulness::default() };
    /// let curve = deletion.curve(model, &image, &map, &Target::Class(0))?;
    /// // 4, 3, 2 and 1 become 2.5 (the mean), one after the other.
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
        tch::no_grad(|| {
            let exchange = Exchange::new(&model, images, self, target)?;
            let order = exchange.order(maps)?;
            let probabilities = exchange.scores(&model, &order, self.direction, images.size()[0])?;
            Ok(Curve { shares: exchange.shares(), probabilities })
        })
    }
}

/// Maps `[images, I, I]` of random grids of `side` × `side` patches, upsampled and scaled by `heatmap`: the control for
/// [`Faithfulness`], as coarse and as smooth as the maps that it is compared with.
///
/// # Errors
/// No images, no patches, more patches than pixels.
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
    let positive = images > 0 && side > 0;
    ensure!(positive, "random maps: {images} images with {side} × {side} patches; give at least one of each");
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<f64> = (0..images * side * side).map(|_| random.f64()).collect();
    heatmap.maps_of_grids(&Tensor::from_slice(&values).reshape([images as i64, side as i64, side as i64]))
}
