//! Options chosen by evidence: the maps that do best on one half of the images, measured on the other half.

use ndarray::Axis;
use serde::Serialize;
use tch::Tensor;

use super::comparison::{against_random, areas, random_orders};
use super::{Candidate, Comparison, Target, Trial};
use crate::error::{Error, Result, ensure};
use crate::statistics::Estimate;

/// The chosen candidate, and the evidence for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Index of the candidate with the highest score on the choosing half.
    pub best: usize,
    /// Each candidate on the choosing half, then random order. Its scores are the reason of the choice: that of the best is
    /// too high on average, since it is the highest of many.
    pub tried: Vec<Comparison>,
    /// The best candidate's score minus that of each row of `tried`, image by image. The errors of two scores can't tell
    /// the maps apart, because both were measured on the same images; the error of their difference can.
    pub tried_lead: Vec<Estimate>,
    /// The chosen candidate on the other half, the references, then random order.
    pub reported: Vec<Comparison>,
    /// The chosen candidate's score minus that of each row of `reported`, image by image.
    pub lead: Vec<Estimate>,
    /// Indices of the images in the choosing and in the reporting half, in ascending order.
    pub halves: [Vec<usize>; 2],
}

/// Chooses the candidate with the highest mean score (insertion area − deletion area, minus that of random order) on one
/// half of the images, and measures it on the other half, beside references.
///
/// Arguments are as in [`compare`](super::compare); the target is the predicted class. The halves are [`halves`] of the
/// images by the trial's seed. No image of the reporting half has an influence on the choice.
///
/// # Errors
/// Fewer than four images, or the errors of [`compare`](super::compare).
///
/// ```
/// use vitlab::explain::{Candidate, Trial, choose};
/// use vitlab::ndarray::Array3;
/// use vitlab::tch::{Device, Kind, Tensor};
/// // A model that sees the first of four pixels, in four images where only this pixel is bright.
/// let model = |images: &Tensor| {
///     let first = images.select(3, 0).select(2, 0).select(1, 0);
///     Ok(Tensor::stack(&[&(8.0 * &first - 4.0), &first.zeros_like()], 1))
/// };
/// let images = Tensor::zeros([4, 1, 2, 2], (Kind::Float, Device::Cpu));
/// images.select(3, 0).select(2, 0).fill_(1.0);
/// let map = |name: &str, pixel| {
///     let maps = Array3::from_shape_fn([4, 2, 2], |(_, y, x)| if 2 * y + x == pixel { 1.0 } else { 0.0 });
///     Candidate { name: name.into(), maps }
/// };
/// let trial = Trial { steps: 4, ..Trial::default() };
/// let choice = choose(model, &images, &[map("last", 3), map("first", 0)], &[], &trial, |_, _| ())?;
/// assert_eq!(choice.best, 1);
/// assert_eq!((choice.reported[0].name.as_str(), choice.reported[0].images), ("first", 2));
/// // The best is ahead of the other candidate by the difference of their scores.
/// let apart = choice.tried[1].score.mean - choice.tried[0].score.mean;
/// assert!((choice.tried_lead[0].mean - apart).abs() < 1e-12 && choice.tried_lead[1].mean == 0.0);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub fn choose(
    model: impl Fn(&Tensor) -> Result<Tensor>,
    images: &Tensor,
    candidates: &[Candidate],
    references: &[Candidate],
    trial: &Trial,
    mut progress: impl FnMut(usize, usize),
) -> Result<Choice> {
    let count = images.size().first().copied().unwrap_or(0) as usize;
    ensure!(count >= 4, "choosing needs two images in each half, these are {count}; give at least four");
    ensure!(!candidates.is_empty(), "there are no maps to choose from; give at least one candidate");
    let everything: Vec<Candidate> = candidates.iter().chain(references).cloned().collect();
    let random = random_orders(images, &everything, trial)?;
    let halves = halves(count, trial.seed);
    let passes = |half: &[usize], maps| trial.passes(half.len(), maps);
    let total =
        passes(&halves[0], candidates.len() + random.len()) + passes(&halves[1], 1 + references.len() + random.len());
    let mut done = 0;
    let mut measure = |half: &[usize], some: Vec<&Candidate>| {
        let indices: Vec<i64> = half.iter().map(|&index| index as i64).collect();
        let images = images.index_select(0, &Tensor::from_slice(&indices).to_device(images.device()));
        let of_half = |candidate: &&Candidate| Candidate {
            name: candidate.name.clone(),
            maps: candidate.maps.select(Axis(0), half),
        };
        let some: Vec<Candidate> = some.iter().map(of_half).collect();
        areas(&model, &images, &some.iter().collect::<Vec<_>>(), &Target::Predicted, trial, &mut |more| {
            done += more;
            progress(done, total);
        })
    };

    let all: Vec<&Candidate> = candidates.iter().chain(&random).collect();
    let measured = measure(&halves[0], all.clone())?;
    let (tried, measured) = against_random(&all, measured, candidates.len());
    let best = highest(&tried[..candidates.len()])?;
    let tried_lead = measured.iter().map(|areas| measured[best].lead(areas)).collect();

    let shown: Vec<&Candidate> = [&candidates[best]].into_iter().chain(references).chain(&random).collect();
    let measured = measure(&halves[1], shown.clone())?;
    let (reported, measured) = against_random(&shown, measured, 1 + references.len());
    let lead = measured.iter().map(|areas| measured[0].lead(areas)).collect();
    Ok(Choice { best, tried, tried_lead, reported, lead, halves })
}

/// Index of the highest mean score, the first among equals.
fn highest(tried: &[Comparison]) -> Result<usize> {
    let mut best = 0;
    for (index, comparison) in tried.iter().enumerate() {
        let score = comparison.score.mean;
        if !score.is_finite() {
            return Err(Error::argument(format!("{}: its areas are not finite numbers", comparison.name)));
        }
        if score > tried[best].score.mean {
            best = index;
        }
    }
    Ok(best)
}

/// Two halves of `count` images, drawn by a seed: their indices in ascending order. Of an odd number, the second half has
/// one more.
///
/// ```
/// let [first, second] = vitlab::explain::halves(5, 42);
/// assert_eq!((first.len(), second.len()), (2, 3));
/// assert!((0..5).all(|index| first.contains(&index) != second.contains(&index)));
/// assert_eq!(vitlab::explain::halves(5, 42), [first, second]);
/// ```
pub fn halves(count: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut first: Vec<usize> = (0..count).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut first);
    let mut second = first.split_off(count / 2);
    first.sort_unstable();
    second.sort_unstable();
    [first, second]
}
