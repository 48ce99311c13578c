//! Class and distillation token of a DeiT: how alike they are, and their maps.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::measures::{mean, patch_shares};
use crate::data::normalise;
use crate::error::ensure;
use crate::explain::{Query, Rollout};
use crate::metrics::in_batches;
use crate::statistics::correlation;
use crate::{Learner, Result};

/// Images per pass.
const BATCH: i64 = 100;

/// Cosines of class and distillation token, and the difference of their maps; means over images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenMeasures {
    /// Cosine of the two learned tokens without their positions, of which DeiT's paper reports 0.06.
    pub learned: f64,
    /// Cosine as they enter the first block, with their positions, and after each block.
    pub layers: Vec<f64>,
    /// Cosine after the last norm.
    pub normed: f64,
    /// Pearson's correlation of the tokens' rows in the default rollout, over the patches. `None` if no image has one.
    pub map_correlation: Option<f64>,
    /// Total variation distance of these rows, each divided by its sum over the patches: 0 for equal rows, 1 for rows
    /// without a common patch.
    pub map_distance: f64,
}

impl TokenMeasures {
    /// Measures the images `[N, I, I]` uint8.
    ///
    /// # Errors
    /// A model without a distillation token, or images that don't fit it.
    pub(super) fn of(learner: &Learner, images: &Tensor) -> Result<Self> {
        let embedding = &learner.deit()?.embedding;
        let cosine = |a: &Tensor, b: &Tensor| Tensor::cosine_similarity(a, b, -1, 1e-8);
        let learned = cosine(&embedding.cls_token, &embedding.dist_token).double_value(&[0, 0]);
        let prefix = learner.network().prefix_tokens()?;
        let parts = in_batches(images, BATCH, |bytes| {
            let images = normalise(bytes);
            let (layers, normed) = (learner.layer_tokens(&images)?, learner.tokens(&images)?);
            let tokens = Tensor::cat(&[layers, normed.unsqueeze(1)], 1); // -> [B, L + 2, S, E]
            let cosines = cosine(&tokens.select(2, 0), &tokens.select(2, 1)); // -> [B, L + 2]
            let share = |query| -> Result<Tensor> {
                Ok(patch_shares(&learner.rollout(&images, &Rollout::default(), query)?.0, prefix))
            };
            let (class, dist) = (share(Query::Class)?, share(Query::Distillation)?); // [B, P] each
            let apart: Tensor = (&class - &dist).abs() / 2.0; // [B, P]
            let distance = apart.sum_dim_intlist([1i64].as_slice(), false, Kind::Double);
            Ok(vec![cosines, correlation(&class, &dist), distance])
        })?;
        let cosines: Vec<f64> = Vec::try_from(parts[0].mean_dim([0i64].as_slice(), false, Kind::Double))?;
        let (normed, layers) = cosines.split_last().expect("the tokens after the last norm");
        let distance = parts[2].mean(Kind::Double).double_value(&[]);
        ensure!(distance.is_finite(), "the tokens' rows have no weight on the patches");
        Ok(TokenMeasures {
            learned,
            layers: layers.to_vec(),
            normed: *normed,
            map_correlation: mean(&parts[1]),
            map_distance: distance,
        })
    }
}
