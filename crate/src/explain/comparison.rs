//! Deletion and insertion areas of maps, compared with those of random order on the same images.

use ndarray::{Array3, Axis};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::exchange::Exchange;
use super::{Baseline, Curve, Direction, Faithfulness, Heatmap, MapScale, Score, Target, Upsample, random_maps};
use crate::device::on_one_thread;
use crate::error::{Error, Result, ensure};
use crate::statistics::Estimate;

/// Maps of N images by one method, to compare with others.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub name: String,
    /// Grids of patches `[N, G, G]`, which are upsampled to the images, or maps `[N, I, I]`.
    pub maps: Array3<f32>,
}

/// Options of the deletion and insertion curves of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trial {
    /// Number of equal steps from no pixel to all of them.
    pub steps: usize,
    pub baseline: Baseline,
    pub score: Score,
    /// Interpolation of grids over pixels.
    pub upsample: Upsample,
    /// Random orders per image. Their areas are averaged, so that few images have a steady comparison.
    pub orders: usize,
    /// Seed of the random orders, and of the halves that [`choose`](super::choose) draws.
    pub seed: u64,
    /// Images per call of the model. No result depends on it.
    #[serde(skip)]
    pub batch: usize,
}

impl Default for Trial {
    fn default() -> Self {
        let (baseline, score, upsample) = (Baseline::Mean, Score::Probability, Upsample::Bilinear);
        Trial { steps: 14, baseline, score, upsample, orders: 1, seed: 42, batch: 400 }
    }
}

/// Areas under the deletion and insertion curves of a method's maps, means over images.
///
/// The differences are taken image by image, so that their standard errors don't contain the spread between images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub name: String,
    /// Number of images.
    pub images: usize,
    /// Area under the deletion curve: small for a faithful map.
    pub deletion: Estimate,
    /// Deletion area minus that of random order: negative for a faithful map.
    pub deletion_against_random: Estimate,
    /// Area under the insertion curve: large for a faithful map.
    pub insertion: Estimate,
    /// Insertion area minus that of random order: positive for a faithful map.
    pub insertion_against_random: Estimate,
    /// (insertion − deletion) minus that of random order: 0 for random order, positive for a faithful map.
    pub score: Estimate,
}

/// Deletion and insertion areas of each image, `[N]` each.
#[derive(Clone, Debug, Default)]
pub(super) struct Areas {
    pub deletion: Vec<f64>,
    pub insertion: Vec<f64>,
}

impl Areas {
    pub fn against(&self, name: &str, random: &Areas) -> Comparison {
        Comparison {
            name: name.to_string(),
            images: self.deletion.len(),
            deletion: Estimate::of(&self.deletion),
            deletion_against_random: Estimate::of(&differences(&self.deletion, &random.deletion)),
            insertion: Estimate::of(&self.insertion),
            insertion_against_random: Estimate::of(&differences(&self.insertion, &random.insertion)),
            score: self.lead(random),
        }
    }

    /// The mean of several maps' areas, image by image.
    fn mean(all: &[Areas]) -> Areas {
        let mean = |of: fn(&Areas) -> &Vec<f64>| {
            let images = 0..of(&all[0]).len();
            images.map(|image| all.iter().map(|areas| of(areas)[image]).sum::<f64>() / all.len() as f64).collect()
        };
        Areas { deletion: mean(|areas| &areas.deletion), insertion: mean(|areas| &areas.insertion) }
    }

    /// (insertion − deletion) minus that of other maps, image by image.
    pub fn lead(&self, other: &Areas) -> Estimate {
        let gap = |areas: &Areas| differences(&areas.insertion, &areas.deletion);
        Estimate::of(&differences(&gap(self), &gap(other)))
    }
}

/// The name of the last row.
const RANDOM: &str = "random order";

fn differences(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// Measures maps by deletion and insertion (arXiv 1806.07421, section 3.3) and compares them with random order. Gives one
/// comparison per candidate, and that of random order with itself at the end.
///
/// `model` gives logits `[B, classes]`, or features, for images `[B, C, I, I]`; `images` are `[N, C, I, I]`. Random order
/// is that of [`random_maps`] with as many cells as the candidates' maps. `progress` gets the number of images that the
/// model has computed, and the number that it will compute in all.
///
/// # Errors
/// Maps that don't fit the images or each other, or aren't finite; an invalid `steps` or class; errors of `model`.
///
/// ```
/// use vitlab::explain::{Candidate, Target, Trial, compare};
/// use vitlab::tch::Tensor;
/// // Probability of class 0: a twentieth of the pixels' sum s, by softmax([ln s, ln(20 - s)]).
/// let model = |images: &Tensor| {
///     let sum = images.sum_dim_intlist([1i64, 2, 3].as_slice(), false, None);
///     Ok(Tensor::stack(&[&sum, &(20.0 - &sum)], 1).log())
/// };
/// let image = Tensor::from_slice(&[4.0, 3.0, 2.0, 0.0]).reshape([1, 1, 2, 2]);
/// let map = Candidate { name: "brightness".into(), maps: vitlab::ndarray::arr3(&[[[4.0, 3.0], [2.0, 0.0]]]) };
/// let trial = Trial { steps: 4, ..Trial::default() };
/// let compared = compare(model, &image, &[map], &Target::Class(0), &trial, |_, _| ())?;
/// // The mean is 2.25. The sums are 9, 7.25, 6.5, 6.75, 9 at deletion, and 9, 10.75, 11.5, 11.25, 9 at insertion.
/// assert!((compared[0].deletion.mean - (9.0 / 2.0 + 7.25 + 6.5 + 6.75 + 9.0 / 2.0) / 80.0).abs() < 1e-6);
/// assert!((compared[0].insertion.mean - (9.0 / 2.0 + 10.75 + 11.5 + 11.25 + 9.0 / 2.0) / 80.0).abs() < 1e-6);
/// assert_eq!((compared[1].name.as_str(), compared[1].score.mean), ("random order", 0.0));
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn compare(
    model: impl Fn(&Tensor) -> Result<Tensor>,
    images: &Tensor,
    candidates: &[Candidate],
    target: &Target,
    trial: &Trial,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Comparison>> {
    let random = random_orders(images, candidates, trial)?;
    let all: Vec<&Candidate> = candidates.iter().chain(&random).collect();
    let (mut done, total) = (0, trial.passes(images.size()[0] as usize, all.len()));
    let measured = areas(&model, images, &all, target, trial, &mut |more| {
        done += more;
        progress(done, total);
    })?;
    Ok(against_random(&all, measured, candidates.len()).0)
}

/// Comparisons of the first `count` candidates with the mean of the others, which are random orders, then of this mean with
/// itself; and the areas of each row.
pub(super) fn against_random(
    candidates: &[&Candidate],
    mut measured: Vec<Areas>,
    count: usize,
) -> (Vec<Comparison>, Vec<Areas>) {
    let random = Areas::mean(&measured.split_off(count));
    let rows = candidates.iter().zip(&measured).map(|(candidate, areas)| areas.against(&candidate.name, &random));
    let rows = rows.chain([random.against(RANDOM, &random)]).collect();
    measured.push(random);
    (rows, measured)
}

impl Trial {
    /// Number of images that the model computes for `images` images and `maps` maps of each.
    pub(super) fn passes(&self, images: usize, maps: usize) -> usize {
        images * (2 + 2 * maps * self.steps.saturating_sub(1))
    }

    fn curve(&self) -> Faithfulness {
        let Trial { steps, baseline, score, .. } = *self;
        Faithfulness { direction: Direction::Deletion, baseline, steps, score }
    }
}

/// Random maps of the images, as coarse as those of the candidates, which are checked.
pub(super) fn random_orders(images: &Tensor, candidates: &[Candidate], trial: &Trial) -> Result<Vec<Candidate>> {
    ensure!(trial.orders > 0, "random orders: give at least one per image");
    let first = candidates.first().ok_or_else(|| Error::argument("there are no maps; give at least one candidate"))?;
    let (size, count) = (first.maps.shape(), images.size().first().copied().unwrap_or(0) as usize);
    let &[maps, rows, columns] = size else { unreachable!("an Array3 has three axes") };
    ensure!(
        count > 0 && maps == count && rows == columns,
        "{}: its maps are {size:?} of {count} images; give [N, G, G] or [N, I, I]",
        first.name
    );
    for Candidate { name, maps } in candidates {
        ensure!(maps.shape() == size, "{name}: its maps are {:?}, those of {} {size:?}", maps.shape(), first.name);
        ensure!(maps.iter().all(|value| value.is_finite()), "{name}: its maps have values that are not finite");
    }
    let grids = Heatmap { scale: MapScale::Raw, image_size: rows as i64, ..Heatmap::default() };
    let seeds = (0..trial.orders as u64).map(|order| trial.seed.wrapping_add(order));
    seeds.map(|seed| Ok(Candidate { name: RANDOM.into(), maps: random_maps(count, rows, &grids, seed)? })).collect()
}

/// The areas of each candidate. `done` gets the number of images of each call of the model.
pub(super) fn areas(
    model: &impl Fn(&Tensor) -> Result<Tensor>,
    images: &Tensor,
    candidates: &[&Candidate],
    target: &Target,
    trial: &Trial,
    done: &mut impl FnMut(usize),
) -> Result<Vec<Areas>> {
    let size = images.size();
    ensure!(size.len() == 4, "images {size:?}: give [N, C, I, I]");
    let (count, batch) = (size[0] as usize, trial.batch.max(1));
    if let Target::PerImage(classes) = target {
        let given = classes.len();
        ensure!(given == count, "target: {given} classes for {count} images; give one per image");
    }
    let heatmap = Heatmap { scale: MapScale::Raw, upsample: trial.upsample, image_size: size[2], ..Heatmap::default() };
    let done = std::cell::RefCell::new(done);
    let model = |images: &Tensor| {
        let outputs = model(images)?;
        ensure!(
            on_one_thread(|| outputs.isfinite().all().int64_value(&[])) == 1,
            "the model's scores are not finite numbers: its weights are broken or don't fit its architecture"
        );
        (done.borrow_mut())(images.size()[0] as usize);
        Ok(outputs)
    };
    let mut areas = vec![Areas::default(); candidates.len()];
    tch::no_grad(|| {
        for start in (0..count).step_by(batch) {
            let end = (start + batch).min(count);
            let some = images.narrow(0, start as i64, (end - start) as i64); // [N, C, I, I] -> [B, C, I, I]
            let target = match target {
                Target::PerImage(classes) => Target::PerImage(classes[start..end].to_vec()),
                target => target.clone(),
            };
            let exchange = Exchange::new(&model, &some, &trial.curve(), &target)?;
            for (candidate, areas) in candidates.iter().zip(&mut areas) {
                let grids = candidate.maps.slice_axis(Axis(0), (start..end).into());
                let grids = Tensor::try_from(grids.as_standard_layout())?; // [B, G, G]
                let maps = on_one_thread(|| heatmap.maps_of_grids(&grids.to_kind(Kind::Double)))?; // -> [B, I, I]
                let order = exchange.order(&maps)?;
                let area = |direction| -> Result<_> {
                    let probabilities = exchange.scores(&model, &order, direction, batch as i64)?;
                    Ok(Curve { shares: exchange.shares(), probabilities }.areas())
                };
                areas.deletion.extend(area(Direction::Deletion)?);
                areas.insertion.extend(area(Direction::Insertion)?);
            }
        }
        Ok(areas)
    })
}
