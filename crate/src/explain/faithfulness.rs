//! Faithfulness of a map to the model, by deletion and insertion curves (arXiv 1806.07421, section 3.3).

use ndarray::{Array1, Array2, Array3, ArrayView1, Axis};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

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

by_serde_name!(Baseline, "baseline");
by_serde_name!(Direction, "direction");

/// Probability of a class while the pixels of an image are exchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Share of exchanged pixels, from 0 to 1: `[steps + 1]`.
    pub shares: Array1<f64>,
    /// Probability for each image: `[B, steps + 1]`.
    pub probabilities: Array2<f64>,
}

impl Curve {
    /// Mean probability over the images: `[steps + 1]`.
    pub fn mean(&self) -> Array1<f64> {
        self.probabilities.mean_axis(Axis(0)).expect("at least one image")
    }

    /// Area under each image's curve by the trapezoidal rule, between 0 and 1: `[B]`.
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
}

impl Default for Faithfulness {
    fn default() -> Self {
        Faithfulness { direction: Direction::Deletion, baseline: Baseline::Mean, steps: 49 }
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
        let (size, kind) = (images.size(), images.kind());
        let fits = matches!(*size.as_slice(), [b, c, y, x]
            if b > 0 && c > 0 && y == x && maps.shape() == [b as usize, y as usize, x as usize]);
        ensure!(fits, "images {size:?} and maps {:?}: give [B, C, I, I] and [B, I, I]", maps.shape());
        ensure!(images.is_floating_point(), "images of {kind:?}: give Float; Dataset::normalised makes such a batch");
        ensure!(maps.iter().all(|value| value.is_finite()), "maps: they have values that are not finite");
        let (count, side, steps) = (size[0], size[2], self.steps);
        let pixels = side * side;
        ensure!((1..=pixels as usize).contains(&steps), "steps {steps}: give 1 to {pixels}, the number of pixels");
        tch::no_grad(|| {
            let class = target.index(&model(images)?)?; // [B, classes] -> [B, 1]
            let rows = class.size()[0];
            ensure!(rows == count, "model: it gave logits of {rows} images for {count} images");
            let baseline = self.baseline.of(images);
            let (from, to) = match self.direction {
                Direction::Deletion => (images, &baseline),
                Direction::Insertion => (&baseline, images),
            };
            let importance = Tensor::try_from(maps.as_standard_layout())?.to_device(images.device());
            let order = importance.reshape([count, pixels]).argsort_stable(true, 1, true); // [B, I, I] -> [B, I·I]
            let rank = order.argsort(1, false).reshape([count, 1, side, side]); // [B, I·I] -> [B, 1, I, I]

            let exchanged: Vec<i64> =
                (0..=steps).map(|step| (step as f64 * pixels as f64 / steps as f64).round() as i64).collect();
            let mut probabilities = Array2::zeros([count as usize, steps + 1]);
            for (&exchanged, mut column) in exchanged.iter().zip(probabilities.columns_mut()) {
                let mixed = to.where_self(&rank.lt(exchanged), from); // [B, C, I, I]
                let probability = model(&mixed)?.softmax(1, Kind::Double).gather(1, &class, false); // -> [B, 1]
                column.assign(&Array1::from(Vec::<f64>::try_from(probability.reshape([-1]))?));
            }
            let shares = exchanged.iter().map(|&exchanged| exchanged as f64 / pixels as f64).collect();
            Ok(Curve { shares, probabilities })
        })
    }
}

impl Baseline {
    /// The baseline of images `[B, C, I, I]`, in the same shape.
    fn of(self, images: &Tensor) -> Tensor {
        match self {
            // [B, C, I, I] -> [B, C, 1, 1] -> [B, C, I, I]
            Baseline::Mean => images.mean_dim([2i64, 3].as_slice(), true, None).expand_as(images),
            Baseline::Blur => {
                let side = images.size()[3];
                let deviation = side as f64 / 7.0;
                let reach = (3.0 * deviation).ceil() as i64;
                let distance = Tensor::arange_start(-reach, reach + 1, (images.kind(), images.device()));
                let weights = (distance.square() * (-0.5 / deviation.powi(2))).softmax(0, None); // [2 · reach + 1]
                // Repeating the outermost pixels keeps the edges from darkening.
                let flat = images.reshape([-1, 1, side, side]).replication_pad2d([reach; 4]); // -> [B·C, 1, I', I']
                let conv = |x: &Tensor, kernel: Tensor| x.conv2d::<Tensor>(&kernel, None, 1, 0, 1, 1);
                let rows = conv(&flat, weights.reshape([1, 1, 1, -1])); // -> [B·C, 1, I', I]
                conv(&rows, weights.reshape([1, 1, -1, 1])).reshape_as(images) // -> [B·C, 1, I, I] -> [B, C, I, I]
            }
        }
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
