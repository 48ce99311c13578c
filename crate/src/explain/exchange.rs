//! Images whose pixels are exchanged in the order of maps, and the model's score after each step.

use ndarray::{Array1, Array2, Array3};
use tch::{Kind, Tensor};

use super::{Baseline, Direction, Faithfulness, Score, Target};
use crate::device::on_one_thread;
use crate::error::{Result, ensure};

/// A batch of images with its baseline, and the scores that don't depend on a map.
pub(super) struct Exchange<'a> {
    /// [B, C, I, I]
    images: &'a Tensor,
    /// [B, C, I, I]
    baseline: Tensor,
    reference: Reference,
    /// Scores of the images and of the baseline, `[B]` each.
    ends: [Array1<f64>; 2],
    /// Number of exchanged pixels after each step, from 0 to I · I.
    exchanged: Vec<i64>,
}

/// The output for the unchanged images, as far as the score needs it.
enum Reference {
    /// The target class, [B, 1].
    Class(Tensor),
    /// The features, [B, E].
    Features(Tensor),
}

impl<'a> Exchange<'a> {
    /// Calls the model twice: with the images and with their baseline. The direction in `options` has no effect.
    pub fn new(
        model: &impl Fn(&Tensor) -> Result<Tensor>,
        images: &'a Tensor,
        options: &Faithfulness,
        target: &Target,
    ) -> Result<Self> {
        let (size, kind, steps) = (images.size(), images.kind(), options.steps);
        let fits = matches!(size[..], [b, c, y, x] if b > 0 && c > 0 && y == x);
        ensure!(fits, "images {size:?}: give [B, C, I, I] with nothing empty");
        ensure!(images.is_floating_point(), "images of {kind:?}: give Float; Dataset::normalised makes such a batch");
        let (count, pixels) = (size[0], size[2] * size[2]);
        ensure!((1..=pixels as usize).contains(&steps), "steps {steps}: give 1 to {pixels}, the number of pixels");
        let outputs = model(images)?; // [B, C, I, I] -> [B, classes]
        let reference = match options.score {
            Score::Probability => Reference::Class(target.index(&outputs)?), // [B, classes] -> [B, 1]
            Score::Similarity => Reference::Features(outputs.shallow_clone()),
        };
        let rows = outputs.size().first().copied().unwrap_or(0);
        ensure!(rows == count, "model: it gave logits of {rows} images for {count} images");
        let baseline = options.baseline.of(images).contiguous();
        let ends = [reference.score(&outputs)?, reference.score(&model(&baseline)?)?];
        let share = |step: usize| (step as f64 * pixels as f64 / steps as f64).round() as i64;
        Ok(Exchange { images, baseline, reference, ends, exchanged: (0..=steps).map(share).collect() })
    }

    /// Share of exchanged pixels after each step, `[steps + 1]`.
    pub fn shares(&self) -> Array1<f64> {
        let pixels = self.exchanged[self.exchanged.len() - 1] as f64;
        self.exchanged.iter().map(|&exchanged| exchanged as f64 / pixels).collect()
    }

    /// The rank of each pixel in the order of maps `[B, I, I]`: largest value first, equal values in reading order.
    /// [B, 1, I, I]
    pub fn order(&self, maps: &Array3<f32>) -> Result<Tensor> {
        let size = self.images.size();
        let (count, side) = (size[0], size[2]);
        let fits = maps.shape() == [count as usize, side as usize, side as usize];
        ensure!(fits, "images {size:?} and maps {:?}: give [B, C, I, I] and [B, I, I]", maps.shape());
        ensure!(maps.iter().all(|value| value.is_finite()), "maps: they have values that are not finite");
        let importance = Tensor::try_from(maps.as_standard_layout())?.to_device(self.images.device());
        Ok(on_one_thread(|| {
            let order = importance.reshape([count, side * side]).argsort_stable(true, 1, true); // [B, I, I] -> [B, I·I]
            order.argsort(1, false).reshape([count, 1, side, side]) // [B, I·I] -> [B, 1, I, I]
        }))
    }

    /// Scores of each image after each step, `[B, steps + 1]`. The model gets several steps at a time, as long as they are
    /// at most `batch` images.
    pub fn scores(
        &self,
        model: &impl Fn(&Tensor) -> Result<Tensor>,
        order: &Tensor,
        direction: Direction,
        batch: i64,
    ) -> Result<Array2<f64>> {
        let [of_images, of_baseline] = &self.ends;
        let (from, to, first, last) = match direction {
            Direction::Deletion => (self.images, &self.baseline, of_images, of_baseline),
            Direction::Insertion => (&self.baseline, self.images, of_baseline, of_images),
        };
        let (count, steps) = (self.images.size()[0], self.exchanged.len() - 1);
        let mut scores = Array2::zeros([count as usize, steps + 1]);
        scores.column_mut(0).assign(first);
        scores.column_mut(steps).assign(last);
        let inner: Vec<usize> = (1..steps).collect();
        for some in inner.chunks((batch / count).max(1) as usize) {
            let mixed = |&step: &usize| to.where_self(&order.lt(self.exchanged[step]), from); // [B, C, I, I]
            let mixed = on_one_thread(|| Tensor::cat(&some.iter().map(mixed).collect::<Vec<_>>(), 0)); // -> [n·B, C, I, I]
            let outputs = model(&mixed)?; // [n·B, C, I, I] -> [n·B, classes]
            for (&step, outputs) in some.iter().zip(outputs.f_split(count, 0)?) {
                scores.column_mut(step).assign(&self.reference.score(&outputs)?);
            }
        }
        Ok(scores)
    }
}

impl Reference {
    /// The score of each image: [B, classes] -> `[B]`.
    fn score(&self, outputs: &Tensor) -> Result<Array1<f64>> {
        let scores = on_one_thread(|| match self {
            Reference::Class(class) => outputs.softmax(1, Kind::Double).f_gather(1, class, false), // -> [B, 1]
            Reference::Features(features) => {
                let (a, b) = (outputs.to_kind(Kind::Double), features.to_kind(Kind::Double));
                Tensor::f_cosine_similarity(&a, &b, 1, 1e-12) // two times [B, E] -> [B]
            }
        })?;
        Ok(Array1::from(Vec::<f64>::try_from(scores.reshape([-1]))?))
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
