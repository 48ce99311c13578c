//! Sanity checks: the maps of a model whose layers are randomised from the top (arXiv 1810.03292, section 4).

use std::collections::BTreeSet;

use ndarray::{Array3, Axis};
use serde::Serialize;
use tch::Tensor;

use super::choose::references;
use super::network::no_attention;
use super::{Learner, Method, Network};
use crate::error::{Result, ensure};
use crate::explain::{Query, Score, rank_correlations};
use crate::model::{Model, MyDeiT, VisionTransformer};
use crate::statistics::Estimate;

/// Rank correlation of the maps of changed models with those of the model itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sanity {
    /// The names of the methods.
    pub methods: Vec<String>,
    /// The stages: "another image", then each randomised part with all above it, from the head to the embedding. The last
    /// one is an untrained model.
    pub stages: Vec<String>,
    /// One row per stage, one column per method.
    pub agreement: Vec<Vec<Agreement>>,
    /// Seed of the random weights.
    pub seed: u64,
}

/// Spearman's rank correlation of an image's two maps over the patches, as a mean over images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// `None` if no image has a correlation.
    pub correlation: Option<Estimate>,
    /// Images that have one: both maps have at least two different values.
    pub images: usize,
}

impl Agreement {
    fn of(a: &Array3<f32>, b: &Array3<f32>) -> Result<Self> {
        let known: Vec<f64> = rank_correlations(a, b)?.into_iter().flatten().collect();
        let correlation = (!known.is_empty()).then(|| Estimate::of(&known));
        Ok(Agreement { correlation, images: known.len() })
    }
}

impl Learner {
    /// Randomises the model's layers one after the other, from the head to the embedding, and correlates the maps of each
    /// stage with those of the model (arXiv 1810.03292, section 4.1). A map that hardly changes doesn't depend on what the
    /// randomised layers have learnt.
    ///
    /// The images are those of [`Learner::explain`]. Methods that explain a class explain the one that the unchanged model
    /// predicts. The random weights are those of a new model by this crate's initialisation, drawn from libtorch's
    /// generator after it was set to `seed`. The first row correlates each image's map with the next image's map, of the
    /// unchanged model: the share that has nothing to do with the image. `progress` gets the number of maps done, and of
    /// all.
    ///
    /// # Errors
    /// Fails as [`Learner::explain`] does.
    pub fn sanity(
        &self,
        images: &Tensor,
        methods: &[(String, Method)],
        query: Query,
        seed: u64,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Sanity> {
        self.network.check_query(query)?;
        let images = self.preprocessing.input(images)?;
        ensure!(images.size()[0] > 0 && !methods.is_empty(), "there are no images or no methods; give at least one");
        let classes: Vec<i64> = Vec::try_from(self.in_batches(&images)?.argmax(1, false))?;
        tch::manual_seed(seed as i64);
        let (fresh, changed) = (self.untrained()?, Learner::new(self.untrained()?));
        overwrite(&changed.network, &self.network, "");
        let parts = parts(&changed.network);
        let count = classes.len();
        let (mut done, total) = (0, (parts.len() + 1) * methods.len() * count);
        let mut maps = |learner: &Learner| -> Result<Vec<Array3<f32>>> {
            let mut maps = Vec::new();
            for (_, method) in methods {
                maps.push(learner.grids_of_classes(&images, method, query, &classes)?);
                done += count;
                progress(done, total);
            }
            Ok(maps)
        };
        let agree = |a: &[Array3<f32>], b: &[Array3<f32>]| {
            a.iter().zip(b).map(|(a, b)| Agreement::of(a, b)).collect::<Result<Vec<_>>>()
        };
        let trained = maps(self)?;
        let next: Vec<usize> = (1..=count).map(|index| index % count).collect();
        let others: Vec<Array3<f32>> = trained.iter().map(|maps| maps.select(Axis(0), &next)).collect();
        let (mut stages, mut agreement) = (vec!["another image".to_string()], vec![agree(&trained, &others)?]);
        for (name, prefixes) in parts {
            prefixes.iter().for_each(|prefix| overwrite(&changed.network, &fresh, prefix));
            stages.push(name);
            agreement.push(agree(&trained, &maps(&changed)?)?);
        }
        Ok(Sanity { methods: methods.iter().map(|(name, _)| name.clone()).collect(), stages, agreement, seed })
    }

    /// The methods that [`Learner::choose`] measures a rollout beside, with their names.
    pub fn reference_methods() -> Vec<(String, Method)> {
        references().into_iter().map(|(name, method)| (name.to_string(), method)).collect()
    }

    /// Logits of any number of images, [N, classes].
    fn in_batches(&self, images: &Tensor) -> Result<Tensor> {
        let batches = images.f_split(self.batch_size(), 0)?;
        let logits = batches.iter().map(|batch| self.predict(batch)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&logits, 0)?)
    }

    /// A model of the same sizes with new weights.
    fn untrained(&self) -> Result<Network> {
        let device = self.network.variables().device();
        match &self.network {
            Network::Vit(model) => Ok(VisionTransformer::with_sizes(model.config.clone(), device).into()),
            Network::Deit(model) => Ok(MyDeiT::with_sizes(model.config.clone(), device).into()),
            Network::Cnn(_) => Err(no_attention()),
        }
    }

    /// [`Learner::grids`], where the score of `classes` `[N]` is explained unless the method has a class or needs none.
    fn grids_of_classes(&self, images: &Tensor, method: &Method, query: Query, classes: &[i64]) -> Result<Array3<f32>> {
        if self.faithfulness_score() == Score::Similarity || of_class(method, 0).is_none() {
            return self.grids(images, method, query);
        }
        let mut maps: Vec<Option<ndarray::Array2<f32>>> = vec![None; classes.len()];
        for class in BTreeSet::from_iter(classes) {
            let indices: Vec<i64> = (0..).zip(classes).filter(|(_, of)| *of == class).map(|(index, _)| index).collect();
            let some = images.index_select(0, &Tensor::from_slice(&indices).to_device(images.device()));
            let method = of_class(method, *class).expect("it explains a class");
            let grids = self.grids(&some, &method, query)?;
            for (&index, grid) in indices.iter().zip(grids.outer_iter()) {
                maps[index as usize] = Some(grid.to_owned());
            }
        }
        let maps: Vec<_> = maps.iter().flatten().map(|map| map.view()).collect();
        Ok(ndarray::stack(Axis(0), &maps).expect("grids of one model have one shape"))
    }
}

/// The method for a class, if it would otherwise explain the predicted one.
fn of_class(method: &Method, class: i64) -> Option<Method> {
    match method {
        Method::GradientRollout(rollout, None) => Some(Method::GradientRollout(rollout.clone(), Some(class))),
        Method::Relevance(None) => Some(Method::Relevance(Some(class))),
        Method::GradCam(None) => Some(Method::GradCam(Some(class))),
        Method::AttnLrp(None) => Some(Method::AttnLrp(Some(class))),
        _ => None,
    }
}

/// The parts of a model from the head to the embedding, with the beginnings of their variables' names.
fn parts(network: &Network) -> Vec<(String, Vec<String>)> {
    let blocks = network.parts().map_or(0, |parts| parts.blocks.len());
    let mut parts = vec![("head and last norm".to_string(), vec!["classifier.".to_string(), "norm.".to_string()])];
    parts.extend((0..blocks).rev().map(|block| (format!("layer {block}"), vec![format!("encoder.{block}.")])));
    parts.push(("embedding: untrained".to_string(), vec!["embedding.".to_string()]));
    parts
}

/// Copies the variables whose names begin with `prefix` from a model of the same sizes.
fn overwrite(to: &Network, from: &Network, prefix: &str) {
    let from = from.variables().variables();
    tch::no_grad(|| {
        for (name, mut variable) in to.variables().variables() {
            if name.starts_with(prefix) {
                variable.copy_(&from[&name]);
            }
        }
    });
}
