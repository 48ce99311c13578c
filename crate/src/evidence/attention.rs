//! The attention of a ViT or DeiT by layer, and what its rollout leaves out.

use std::ops::Range;

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};
use tch::nn::Module;
use tch::{Kind, Tensor};

use super::measures::{mean, patch_shares};
use crate::data::normalise;
use crate::explain::{
    Fusion, Layers, Query, Rollout, attention_distance, attention_entropy, query_entropy, rollout_rows,
};
use crate::metrics::in_batches;
use crate::model::{Parts, scaled};
use crate::statistics::correlation;
use crate::{Learner, Result};

/// Images per pass: the attention of all layers fits into the processor's cache.
const BATCH: i64 = 100;

/// A pixel above this value, of 0 to 255, belongs to the garment; the background is black.
const GARMENT: f64 = 0.0;

/// Fusions and discard ratios of which the class token's own share is measured.
const FUSIONS: [Fusion; 3] = [Fusion::Mean, Fusion::Max, Fusion::Min];
const DISCARD_RATIOS: [f64; 3] = [0.0, 0.5, 0.9];

/// One value for each of two rollouts of the class token. `None` if no image has one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfRollouts {
    /// Mean over the heads, nothing discarded: the default.
    pub mean_0: Option<f64>,
    /// Maximum over the heads, 90 % discarded.
    pub max_90: Option<f64>,
}

/// Length of a branch's output divided by that of the residual that it is added to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengths {
    pub class: f64,
    /// Mean over the patches.
    pub patches: f64,
}

/// Measures of one layer; means over images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerMeasures {
    /// Share of the class token's map of this layer alone that lies on the garment.
    pub garment: OfRollouts,
    /// Entropy of the attention rows in nats, mean over heads and tokens.
    pub entropy: f64,
    /// Entropy of the class token's rows in nats, mean over heads.
    pub class_entropy: f64,
    /// [`attention_distance`] in patches, mean over heads.
    pub distance: f64,
    /// Length of the attention's output, after its projection.
    pub attention_length: Lengths,
    pub mlp_length: Lengths,
}

/// The class token's own share in its row of rollouts of the first 1, 2, … layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnShare {
    pub fusion: Fusion,
    pub discard_ratio: f64,
    pub layers: Vec<f64>,
}

/// Measures of the attention; means over images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionMeasures {
    /// Share of the area that garments cover: what a flat map would have on them.
    pub garment_area: f64,
    /// Share of the class token's map of all layers that lies on the garment.
    pub garment: OfRollouts,
    pub layers: Vec<LayerMeasures>,
    /// Correlation over the patches of the map of the first half of the layers with that of the second half. `None` for a
    /// single layer.
    pub early_late: OfRollouts,
    /// Correlations of the maps of single layers with each other, L × L, with the default rollout.
    pub layer_correlations: Vec<Vec<Option<f64>>>,
    pub own_share: Vec<OwnShare>,
}

impl AttentionMeasures {
    /// Measures the images `[N, I, I]` uint8.
    ///
    /// # Errors
    /// A CNN, images that don't fit the model, or attention that isn't finite.
    pub(super) fn of(learner: &Learner, images: &Tensor) -> Result<Self> {
        let parts = learner.network().parts()?;
        let (count, prefix, patch) = (parts.blocks.len(), parts.prefix_tokens(), parts.config.patch_size);
        let rollouts = rollouts(count);
        let measured = in_batches(images, BATCH, |bytes| {
            let images = normalise(bytes);
            let (_, attention) = learner.attention(&images)?; // [B, L, H, S, S]
            let rows = rollout_rows(&attention.unbind(1), &rollouts, Query::Class, prefix)?;
            let each = |heads: Array2<f64>| of_each(&heads, bytes.size()[0]);
            Ok(vec![
                Tensor::stack(&rows, 1), // R × [B, S] -> [B, R, S]
                each(attention_entropy(&attention)?),
                each(query_entropy(&attention, 0)?),
                each(attention_distance(&attention, prefix, 1.0)?),
                lengths(&parts, &images)?, // [B, L, 4]
            ])
        })?;
        let garment = images.unsqueeze(1).gt(GARMENT).to_kind(Kind::Double); // [N, I, I] -> [N, 1, I, I]
        let covered = garment.avg_pool2d([patch; 2], [patch; 2], [0, 0], false, true, None).flatten(1, -1); // -> [N, P]
        let maps = Maps { rollouts: &rollouts, rows: &measured[0], prefix, covered };
        let means = |values: &Tensor| values.mean_dim([0i64].as_slice(), false, Kind::Double); // [N, …] -> […]
        let [entropy, class_entropy, distance, lengths] = [1, 2, 3, 4].map(|i| means(&measured[i]));
        let length = |layer, branch| Lengths {
            class: lengths.double_value(&[layer, branch]),
            patches: lengths.double_value(&[layer, branch + 1]),
        };
        let layers = (0..count).map(|layer| {
            let index = layer as i64;
            LayerMeasures {
                garment: maps.on_garment(layer..layer + 1),
                entropy: entropy.double_value(&[index]),
                class_entropy: class_entropy.double_value(&[index]),
                distance: distance.double_value(&[index]),
                attention_length: length(index, 0),
                mlp_length: length(index, 2),
            }
        });
        Ok(AttentionMeasures {
            garment_area: maps.covered.mean(Kind::Double).double_value(&[]),
            garment: maps.on_garment(0..count),
            layers: layers.collect(),
            early_late: maps.early_late(count),
            layer_correlations: maps.layer_correlations(count),
            own_share: maps.own_shares(count),
        })
    }
}

fn default_rollout() -> Rollout {
    Rollout::default()
}

fn discarding_rollout() -> Rollout {
    Rollout { fusion: Fusion::Max, discard_ratio: 0.9, ..Rollout::default() }
}

fn of_layers(rollout: Rollout, layers: Range<usize>) -> Rollout {
    Rollout { layers: Layers::Range(layers), ..rollout }
}

/// The rollouts that are measured, those that differ in their layers only side by side.
fn rollouts(count: usize) -> Vec<Rollout> {
    let mut all = Vec::new();
    for fusion in FUSIONS {
        for discard_ratio in DISCARD_RATIOS {
            let rollout = Rollout { fusion, discard_ratio, ..Rollout::default() };
            all.extend((1..=count).map(|end| of_layers(rollout.clone(), 0..end)));
            if rollout == default_rollout() || rollout == discarding_rollout() {
                let single = (1..count).map(|layer| layer..layer + 1);
                let late = Some(count / 2..count).filter(|late| late.len() > 1);
                all.extend(single.chain(late).map(|layers| of_layers(rollout.clone(), layers)));
            }
        }
    }
    all
}

/// Means over heads `[L, H]` as the values of each of `count` images: `[count, L]`.
fn of_each(heads: &Array2<f64>, count: i64) -> Tensor {
    let layers = heads.mean_axis(Axis(1)).expect("a layer has heads").to_vec();
    Tensor::from_slice(&layers).unsqueeze(0).repeat([count, 1])
}

/// The rows `[N, R, S]` of all rollouts, and the part of each patch that the garment covers `[N, P]`.
struct Maps<'a> {
    rollouts: &'a [Rollout],
    rows: &'a Tensor,
    prefix: i64,
    covered: Tensor,
}

impl Maps<'_> {
    /// `[N, S]`
    fn row(&self, rollout: &Rollout) -> Tensor {
        let index = self.rollouts.iter().position(|known| known == rollout).expect("one of the rollouts");
        self.rows.select(1, index as i64)
    }

    fn shares(&self, rollout: Rollout, layers: Range<usize>) -> Tensor {
        patch_shares(&self.row(&of_layers(rollout, layers)), self.prefix)
    }

    fn on_garment(&self, layers: Range<usize>) -> OfRollouts {
        let share = |rollout| {
            let on = self.shares(rollout, layers.clone()) * &self.covered; // [N, P]
            mean(&on.sum_dim_intlist([1i64].as_slice(), false, Kind::Double))
        };
        OfRollouts { mean_0: share(default_rollout()), max_90: share(discarding_rollout()) }
    }

    fn early_late(&self, count: usize) -> OfRollouts {
        let alike = |rollout: Rollout| {
            let half = count / 2;
            let halves = |rollout: Rollout| [0..half, half..count].map(|part| self.shares(rollout.clone(), part));
            (half > 0).then(|| halves(rollout)).and_then(|[early, late]| mean(&correlation(&early, &late)))
        };
        OfRollouts { mean_0: alike(default_rollout()), max_90: alike(discarding_rollout()) }
    }

    fn layer_correlations(&self, count: usize) -> Vec<Vec<Option<f64>>> {
        let maps = Vec::from_iter((0..count).map(|layer| self.shares(default_rollout(), layer..layer + 1)));
        maps.iter().map(|a| maps.iter().map(|b| mean(&correlation(a, b))).collect()).collect()
    }

    fn own_shares(&self, count: usize) -> Vec<OwnShare> {
        let own = |rollout: Rollout| self.row(&rollout).select(1, 0).mean(Kind::Double).double_value(&[]);
        let mut shares = Vec::new();
        for fusion in FUSIONS {
            for discard_ratio in DISCARD_RATIOS {
                let rollout = Rollout { fusion, discard_ratio, ..Rollout::default() };
                let layers = (1..=count).map(|end| own(of_layers(rollout.clone(), 0..end)));
                shares.push(OwnShare { fusion, discard_ratio, layers: layers.collect() });
            }
        }
        shares
    }
}

/// The lengths of each layer for the class token and the mean of the patches, of the attention and then of the MLP:
/// [B, C, I, I] -> [B, L, 4].
fn lengths(parts: &Parts, images: &Tensor) -> Result<Tensor> {
    let prefix = parts.prefix_tokens();
    let mut x = parts.tokens(images)?; // [B, S, E]
    let mut layers = Vec::new();
    for block in parts.blocks {
        let attention = scaled(block.attention.forward(&block.norm1.forward(&x), false).0, &block.scales[0]);
        let between = &x + &attention;
        let next = block.forward(&x, false, false).0;
        let mlp = &next - &between;
        layers.push(Tensor::cat(&[ratios(&attention, &x, prefix), ratios(&mlp, &between, prefix)], 1)); // [B, 4]
        x = next;
    }
    Ok(Tensor::stack(&layers, 1))
}

/// Length of each token in `branch` divided by that in `residual`, two [B, S, E]: class token and mean of patches, [B, 2].
fn ratios(branch: &Tensor, residual: &Tensor, prefix: i64) -> Tensor {
    let length = |x: &Tensor| x.square().sum_dim_intlist([-1i64].as_slice(), false, Kind::Double).sqrt();
    let ratio = length(branch) / length(residual); // [B, S]
    let patches = ratio.narrow(1, prefix, ratio.size()[1] - prefix).mean_dim([1i64].as_slice(), false, Kind::Double);
    Tensor::stack(&[ratio.select(1, 0), patches], 1)
}
