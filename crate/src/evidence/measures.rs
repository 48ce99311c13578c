//! Measures of one network on the test set, in JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{AttentionMeasures, HeadMeasures, TokenMeasures};
use crate::config::plain;
use crate::data::{Dataset, FashionMnist, Origin};
use crate::device::{describe, versions};
use crate::learner::Network;
use crate::metrics::evaluate;
use crate::model::Model;
use crate::{Config, Error, Learner, Result, file};

/// Test images, from the first, whose attention and tokens are measured.
const MAP_IMAGES: i64 = 1000;

/// The largest translation in pixels.
const MOST_PIXELS: i64 = 4;

/// Measures of one network. Accuracies and agreements are fractions from 0 to 1, of all test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measures {
    pub config: Config,
    pub origin: Origin,
    /// Versions and device of the measurement.
    pub made_with: BTreeMap<String, String>,
    pub test_images: i64,
    /// Number of images, from the first, of `tokens` and `attention`.
    pub map_images: i64,
    pub accuracy: f64,
    /// Accuracy on images that are translated by 0, 1, … pixels: the mean over left, right, up and down, with black behind.
    pub shifts: Vec<f64>,
    /// Accuracies of both heads; a DeiT alone has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<HeadMeasures>,
    /// Comparison of the class and the distillation token; a DeiT alone has both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenMeasures>,
    /// Statistics of the attention; a CNN has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionMeasures>,
}

impl Measures {
    /// Measures a network that `config` describes, with the teachers that it learned from.
    ///
    /// # Errors
    /// A network that doesn't fit the images or the teachers, or whose scores or attention are not finite.
    pub fn of(learner: &Learner, teachers: &[Learner], config: &Config, data: &FashionMnist) -> Result<Self> {
        let accuracy = evaluate(learner, &data.test)?.accuracy;
        let shifts = (1..=MOST_PIXELS).map(|pixels| shifted_accuracy(learner, &data.test, pixels));
        let map_images = data.test.len().min(MAP_IMAGES);
        let (images, _) = data.test.range(0, map_images);
        let is_deit = matches!(learner.network(), Network::Deit(_));
        let is_cnn = matches!(learner.network(), Network::Cnn(_));
        let mut made_with: BTreeMap<String, String> = versions().into_iter().collect();
        made_with.insert("device".to_string(), describe(learner.variables().device()));
        Ok(Measures {
            config: config.clone(),
            origin: data.test.origin.clone(),
            made_with,
            test_images: data.test.len(),
            map_images,
            accuracy,
            shifts: [Ok(accuracy)].into_iter().chain(shifts).collect::<Result<_>>()?,
            heads: if is_deit { Some(HeadMeasures::of(learner, teachers, config, data)?) } else { None },
            tokens: if is_deit { Some(TokenMeasures::of(learner, &images)?) } else { None },
            attention: if is_cnn { None } else { Some(AttentionMeasures::of(learner, &images)?) },
        })
    }

    /// Reads measures from a JSON file.
    ///
    /// # Errors
    /// A file that can't be read or doesn't hold measures.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::file(path, format!("can't be read ({e}); `vitlab evidence` writes such files")))?;
        let damaged = |e| format!("doesn't hold a network's measures ({}); delete it to measure again", plain(e));
        serde_json::from_str(&text).map_err(|e| Error::file(path, damaged(e)))
    }

    /// Writes the measures to a JSON file.
    ///
    /// # Errors
    /// A file that can't be written; an existing file then stays unchanged.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(file::replace(path, |out| writeln!(out, "{}", serde_json::to_string_pretty(self)?))?)
    }
}

/// The mean accuracy over the four directions.
fn shifted_accuracy(learner: &Learner, test: &Dataset, pixels: i64) -> Result<f64> {
    let directions = [(0, -pixels), (0, pixels), (-pixels, 0), (pixels, 0)];
    let accuracies = directions.map(|(down, right)| {
        let (images, labels) = (translated(&test.images, down, right), test.labels.shallow_clone());
        let moved = Dataset { images, labels, split: test.split, origin: test.origin.clone() };
        Ok(evaluate(learner, &moved)?.accuracy)
    });
    let accuracies = accuracies.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(accuracies.iter().sum::<f64>() / accuracies.len() as f64)
}

/// Images `[N, I, I]` moved down and to the right by so many pixels, with zeros where nothing was: `[N, I, I]`.
///
/// ```
/// use vitlab::{evidence::translated, tch::Tensor};
/// let image = Tensor::from_slice(&[1u8, 2, 3, 4]).view([1, 2, 2]);
/// let moved = |down, right| Vec::<u8>::try_from(translated(&image, down, right).flatten(0, -1)).unwrap();
/// assert_eq!(moved(0, 0), [1, 2, 3, 4]);
/// assert_eq!(moved(1, 0), [0, 0, 1, 2]);
/// assert_eq!(moved(0, -1), [2, 0, 4, 0]);
/// ```
pub fn translated(images: &Tensor, down: i64, right: i64) -> Tensor {
    let (size, margin) = (images.size(), down.abs().max(right.abs()));
    let padded = images.constant_pad_nd([margin; 4]); // [N, I, I] -> [N, I + 2 margin, I + 2 margin]
    padded.narrow(1, margin - down, size[1]).narrow(2, margin - right, size[2]).contiguous()
}

/// The mean of the values `[N]` that are finite: images whose map has no weight left have none.
pub(super) fn mean(values: &Tensor) -> Option<f64> {
    let finite = values.masked_select(&values.isfinite());
    (finite.numel() > 0).then(|| finite.mean(Kind::Double).double_value(&[]))
}

/// Rows `[N, S]` as shares of their sum over the patches: `[N, P]` float64, NaN where nothing is left.
pub(super) fn patch_shares(rows: &Tensor, prefix_tokens: i64) -> Tensor {
    let patches = rows.narrow(1, prefix_tokens, rows.size()[1] - prefix_tokens).to_kind(Kind::Double);
    &patches / patches.sum_dim_intlist([1i64].as_slice(), true, Kind::Double)
}
