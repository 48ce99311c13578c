//! The options of a rollout chosen by deletion and insertion, beside other methods.

use ndarray::Array3;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::{Learner, Method};
use crate::error::{Result, ensure};
use crate::explain::{
    self, Candidate, Choice, Comparison, Fusion, Layers, Query, Rollout, Score, Target, Trial, rollout_rows,
};
use crate::model::Model;

/// Images whose rollouts are computed at a time, so that the matrices of a layer fit into the processor's cache.
const IMAGES_AT_A_TIME: i64 = 32;

/// The rollouts to choose from: each fusion with each discard ratio and each selection of layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutGrid {
    pub fusions: Vec<Fusion>,
    pub discard_ratios: Vec<f64>,
    /// Selections of layers; none stands for all layers, each half and each third of the model's.
    pub layers: Vec<Layers>,
}

impl Default for RolloutGrid {
    fn default() -> Self {
        RolloutGrid {
            fusions: vec![Fusion::Mean, Fusion::Max, Fusion::Min],
            discard_ratios: vec![0.0, 0.5, 0.9],
            layers: Vec::new(),
        }
    }
}

impl RolloutGrid {
    /// The rollouts for a model with `count` layers. Selections of the same layers are tried once.
    ///
    /// ```
    /// use vitlab::learner::RolloutGrid;
    /// let rollouts = RolloutGrid::default().rollouts(12)?;
    /// let layers: Vec<String> = rollouts.iter().take(6).map(|rollout| rollout.layers.to_string()).collect();
    /// assert_eq!(layers, ["all", "0..6", "6..12", "0..4", "4..8", "8..12"]);
    /// assert_eq!(rollouts.len(), 3 * 3 * 6);
    /// assert_eq!(RolloutGrid::default().rollouts(1)?.len(), 3 * 3);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// Options that a rollout refuses, for this number of layers.
    pub fn rollouts(&self, count: usize) -> Result<Vec<Rollout>> {
        let parts = |n: usize| (0..n).map(move |i| Layers::Range(i * count / n..(i + 1) * count / n));
        let layers = match &self.layers[..] {
            [] => [Layers::All].into_iter().chain(parts(2)).chain(parts(3)).collect(),
            layers => layers.to_vec(),
        };
        let mut distinct: Vec<(Layers, Vec<usize>)> = Vec::new();
        for layers in layers {
            let empty = matches!(&layers, Layers::Range(range) if range.is_empty());
            if self.layers.is_empty() && empty {
                continue; // a third of two layers
            }
            let indices = layers.indices(count)?;
            if distinct.iter().all(|(_, known)| *known != indices) {
                distinct.push((layers, indices));
            }
        }
        let mut rollouts = Vec::new();
        for &fusion in &self.fusions {
            for &discard_ratio in &self.discard_ratios {
                let rollout = |(layers, _): &(Layers, _)| Rollout {
                    fusion,
                    discard_ratio,
                    layers: layers.clone(),
                    ..Rollout::default()
                };
                rollouts.extend(distinct.iter().map(rollout));
            }
        }
        ensure!(!rollouts.is_empty(), "there are no rollouts to choose from; give a fusion and a discard ratio");
        Ok(rollouts)
    }
}

/// The rollout that did best, and the evidence for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chosen {
    pub rollout: Rollout,
    /// The rollouts that were tried, in the order of `choice.tried`.
    pub rollouts: Vec<Rollout>,
    pub choice: Choice,
}

/// The methods that a chosen rollout is measured beside, with their names in tables.
pub(super) fn references() -> Vec<(&'static str, Method)> {
    vec![
        ("attention of the last layer", Method::Attention { layer: None, head: None }),
        ("gradient rollout", Method::GradientRollout(Rollout::default(), None)),
        ("relevance", Method::Relevance(None)),
        ("Grad-CAM", Method::GradCam(None)),
        ("AttnLRP", Method::AttnLrp(None)),
    ]
}

/// Fusion, discard ratio and layers in words.
fn name(rollout: &Rollout) -> String {
    format!("rollout {} {} {}", rollout.fusion, rollout.discard_ratio, rollout.layers)
}

impl Learner {
    /// Chooses a rollout's options by deletion and insertion on one half of the images and measures it on the other, beside
    /// the attention of the last layer and methods with gradients, see [`explain::choose`]. The images are those of
    /// [`Learner::explain`]. `progress` gets the number of images that the model has computed, and that it will compute.
    ///
    /// The score is a probability, or the cosine similarity of features for a model without a class head. The attention is
    /// computed once per image, and all rollouts are made from it.
    ///
    /// # Errors
    /// A CNN, fewer than four images, images or a query that don't fit the model, or options that a rollout refuses.
    pub fn choose(
        &self,
        images: &Tensor,
        grid: &RolloutGrid,
        query: Query,
        trial: &Trial,
        progress: impl FnMut(usize, usize),
    ) -> Result<Chosen> {
        let rollouts = grid.rollouts(self.network.parts()?.blocks.len())?;
        self.network.check_query(query)?;
        let images = self.preprocessing.input(images)?;
        let count = images.size()[0];
        ensure!(count >= 4, "choosing needs two images in each half, these are {count}; give at least four");
        let grids = self.rollout_grids(&images, &rollouts, query)?.into_iter();
        let candidate = |(rollout, maps)| Candidate { name: name(rollout), maps };
        let candidates: Vec<_> = rollouts.iter().zip(grids).map(candidate).collect();
        let reference = |(name, method): (&str, Method)| {
            Ok(Candidate { name: name.into(), maps: self.grids(&images, &method, query)? })
        };
        let references = references().into_iter().map(reference).collect::<Result<Vec<_>>>()?;
        let trial = self.trial(trial);
        let choice =
            explain::choose(|images| self.predict(images), &images, &candidates, &references, &trial, progress)?;
        Ok(Chosen { rollout: rollouts[choice.best].clone(), rollouts, choice })
    }

    /// Compares maps with random order by deletion and insertion, see [`explain::compare`]. The images are those of
    /// [`Learner::explain`], and the maps its grids. The score is that of [`Learner::faithfulness_score`].
    ///
    /// # Errors
    /// Images or maps that don't fit, or a class that the model doesn't have.
    pub fn compare(
        &self,
        images: &Tensor,
        candidates: &[Candidate],
        target: &Target,
        trial: &Trial,
        progress: impl FnMut(usize, usize),
    ) -> Result<Vec<Comparison>> {
        let images = self.preprocessing.input(images)?;
        let predict = |images: &Tensor| self.predict(images);
        explain::compare(predict, &images, candidates, target, &self.trial(trial), progress)
    }

    /// The score that deletion and insertion follow: the probability of a class, or the similarity of the features of a
    /// model without a class head.
    pub fn faithfulness_score(&self) -> Score {
        if self.has_class_head() { Score::Probability } else { Score::Similarity }
    }

    /// The trial with this model's score and batch.
    fn trial(&self, trial: &Trial) -> Trial {
        Trial { score: self.faithfulness_score(), batch: trial.batch.min(self.batch_size() as usize), ..trial.clone() }
    }

    /// A method's maps of the model's input as grids of patches, [N, G, G].
    pub(super) fn grids(&self, images: &Tensor, method: &Method, query: Query) -> Result<Array3<f32>> {
        let batches = images.f_split(self.batch_size(), 0)?;
        let rows = batches.iter().map(|batch| Ok(self.explained_rows(batch, method, query)?.0));
        explain::grid_of_rows(&Tensor::f_cat(&rows.collect::<Result<Vec<_>>>()?, 0)?, self.network.prefix_tokens()?)
    }

    /// The grids [N, G, G] of each rollout.
    fn rollout_grids(&self, images: &Tensor, rollouts: &[Rollout], query: Query) -> Result<Vec<Array3<f32>>> {
        let prefix = self.network.prefix_tokens()?;
        let mut rows: Vec<Vec<Tensor>> = rollouts.iter().map(|_| Vec::new()).collect(); // batches of [B, S]
        for batch in images.f_split(self.batch_size().min(IMAGES_AT_A_TIME), 0)? {
            let (_, layers) = no_grad(|| self.network.forward(&batch, false))?;
            for (rows, row) in rows.iter_mut().zip(rollout_rows(&layers, rollouts, query, prefix)?) {
                rows.push(row);
            }
        }
        rows.iter().map(|rows| explain::grid_of_rows(&Tensor::f_cat(rows, 0)?, prefix)).collect()
    }
}
