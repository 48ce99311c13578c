//! Rows of many rollouts of the same attention.

use tch::{Tensor, no_grad};

use super::{Query, Rollout, grid_side};
use crate::error::{Result, ensure};

/// The query's row of each of `rollouts` of the same attention, one [B, H, S, S] per layer: [B, S] each, float64.
///
/// Gives what [`rollout`](super::rollout) and [`row`](super::row) give, up to rounding. A layer's matrix is made once for
/// all rollouts that differ in their layers only. The product begins with the query's row at the last layer and goes down,
/// so that it needs S² operations per layer instead of S³.
///
/// # Errors
/// No attention, or the errors of [`rollout`](super::rollout) and [`row`](super::row).
pub(crate) fn rollout_rows(
    attention: &[Tensor],
    rollouts: &[Rollout],
    query: Query,
    prefix_tokens: i64,
) -> Result<Vec<Tensor>> {
    ensure!(!attention.is_empty(), "there is no attention; give one tensor per layer");
    let tokens = attention[0].size().last().copied().unwrap_or(0);
    grid_side(tokens, prefix_tokens)?;
    let query = query.index(tokens, prefix_tokens)?;
    let mut rows = Vec::with_capacity(rollouts.len());
    no_grad(|| {
        for similar in rollouts.chunk_by(only_layers_differ) {
            let matrices = similar[0].matrices(attention)?;
            for rollout in similar {
                let layers = rollout.layer_indices(attention.len())?;
                let (last, before) = layers.split_last().expect("layer_indices refuses an empty selection");
                let row = matrices[*last].narrow(1, query, 1); // [B, S, S] -> [B, 1, S]
                let row = before.iter().rev().fold(row, |row, &layer| row.bmm(&matrices[layer]));
                rows.push(row.squeeze_dim(1)); // [B, 1, S] -> [B, S]
            }
        }
        Ok(rows)
    })
}

fn only_layers_differ(a: &Rollout, b: &Rollout) -> bool {
    Rollout { layers: b.layers.clone(), ..a.clone() } == *b
}

impl Rollout {
    /// The normalised matrix of each layer, L × [B, S, S].
    fn matrices(&self, attention: &[Tensor]) -> Result<Vec<Tensor>> {
        let matrix = |heads: &Tensor| self.normalise(&self.discard(&self.fuse(heads)?)?);
        attention.iter().map(matrix).collect()
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::explain::{DiscardPer, Fusion, Layers, Normalisation, rollout, row};

    #[test]
    fn rows_are_those_of_single_rollouts() {
        tch::manual_seed(3);
        let layers: Vec<Tensor> = (0..5)
            .map(|_| Tensor::randn([3, 2, 11, 11], (Kind::Float, Device::Cpu)).softmax(-1, Kind::Float))
            .collect();
        let attention = Tensor::stack(&layers, 1);
        let mut rollouts = Vec::new();
        for fusion in [Fusion::Mean, Fusion::Max] {
            for normalisation in [Normalisation::RowSum, Normalisation::Compat] {
                for (layers, discard_per) in [
                    (Layers::All, DiscardPer::Matrix),
                    (Layers::Range(1..3), DiscardPer::Matrix),
                    (Layers::List(vec![0, 4]), DiscardPer::Row),
                    (Layers::Range(4..5), DiscardPer::Row),
                ] {
                    rollouts.push(Rollout { fusion, discard_ratio: 0.6, discard_per, layers, normalisation });
                }
            }
        }
        for query in [Query::Class, Query::Token(7)] {
            let rows = rollout_rows(&layers, &rollouts, query, 2).unwrap();
            assert_eq!(rows.len(), rollouts.len());
            for (ours, options) in rows.iter().zip(&rollouts) {
                let expected = row(&rollout(&attention, options).unwrap(), query, 2).unwrap();
                assert_eq!(ours.size(), [3, 11]);
                assert!((ours - expected).abs().max().double_value(&[]) < 1e-14, "{options:?}");
            }
        }
    }
}
