//! Attention rollout (arXiv 2005.00928) of a group of images, block by block while the attention is in the caches.
//!
//! A heatmap shows one row of the product of all layers' matrices. It needs no matrix product: the query's row of the last
//! layer's matrix is multiplied by the matrices of the layers before. Like the attention, all matrices here are transposed:
//! [key, padded queries].

use super::shape::Shape;
use crate::attention::scale_columns;
use crate::cpu::Simd;
use crate::layers::{LANES, add, add_column_sums, lanes};
use crate::mat::{Buffer, Mat, dots};
use crate::{Error, Result};

/// How the heads of a layer become one matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    Mean,
    Max,
    Min,
}

/// A rollout whose layers and query token are known. In each of the layers, in order: the heads are fused, the smallest
/// entries discarded, the identity added, and the entries divided by sums. The product of these matrices is the rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedRollout {
    pub fusion: Fusion,
    /// Share of the smallest entries that become zero, in [0, 1). The entry (class, class) always stays.
    pub discard_ratio: f64,
    /// Discards the share of each query's row, instead of the share of the whole matrix.
    pub discard_per_row: bool,
    /// Divides column j by the sum of row j, as vit-explain does, instead of each row by its own sum.
    pub compat: bool,
    /// Layer indices from 0, in ascending order.
    pub layers: Vec<usize>,
    /// The token whose row is the result.
    pub query: usize,
}

impl ResolvedRollout {
    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        let (layers, tokens) = (shape.layers, shape.tokens());
        let ascending = self.layers.is_sorted_by(|a, b| a < b) && self.layers.last().is_some_and(|last| *last < layers);
        match ascending && self.query < tokens && (0.0..1.0).contains(&self.discard_ratio) {
            true => Ok(()),
            false => Err(Error(format!(
                "{self:?} is impossible: give layers below {layers} in ascending order, a query below {tokens} and a \
                 discard ratio in [0, 1)"
            ))),
        }
    }
}

/// Memory of one thread. `tokens` is S, and `width` is S padded to whole vectors, the length of a row.
#[derive(Default)]
pub(super) struct Matrices {
    tokens: usize,
    width: usize,
    /// Images for which `steps` has room.
    group: usize,
    /// [L, G, S, width]: the finished matrices of the layers.
    steps: Buffer,
    /// [S, S] and room for a row: bits of a fused matrix's entries, to find the smallest.
    entries: Buffer<i32>,
    /// [width]
    row: Buffer,
    next: Buffer,
}

impl Matrices {
    pub fn new(shape: &Shape, group: usize) -> Self {
        let (tokens, width) = (shape.tokens(), shape.padded_tokens());
        let steps = Buffer::zeros(shape.layers * group * tokens * width);
        let entries = Buffer::zeros(tokens * tokens + width);
        Matrices { tokens, width, group, steps, entries, row: Buffer::zeros(width), next: Buffer::zeros(width) }
    }

    /// The matrices of `group` images in a layer: fuses the heads' attention [G, H, S, width], discards, adds the identity and
    /// divides -> [G, S, width]
    #[inline(always)]
    pub fn fuse(&mut self, attention: &[f32], (group, heads): (usize, usize), step: usize, rollout: &ResolvedRollout) {
        let (size, fusion) = (self.tokens * self.width, rollout.fusion);
        let mut steps = std::mem::take(&mut self.steps);
        let matrices = steps[step * self.group * size..].chunks_exact_mut(size).take(group);
        for (matrix, attention) in matrices.zip(attention.chunks_exact(heads * size)) {
            let (first, others) = attention.split_at(size);
            matrix.copy_from_slice(first);
            for head in others.chunks_exact(size) {
                for (x, y) in matrix.iter_mut().zip(head) {
                    *x = match fusion {
                        Fusion::Mean => *x + *y,
                        Fusion::Max if *y > *x => *y,
                        Fusion::Min if *y < *x => *y,
                        Fusion::Max | Fusion::Min => *x,
                    };
                }
            }
            if fusion == Fusion::Mean {
                for x in matrix.iter_mut() {
                    *x /= heads as f32;
                }
            }
            self.discard(matrix, rollout);
            normalise(matrix, self.width, rollout.compat);
        }
        self.steps = steps;
    }

    /// Writes the query's row of an image's product, `[S]`.
    #[inline(always)]
    pub fn row<S: Simd>(&mut self, simd: S, image: usize, rollout: &ResolvedRollout, to: &mut [f32]) {
        let size = self.tokens * self.width;
        self.row.fill(0.0);
        self.row[rollout.query] = 1.0;
        for step in (0..rollout.layers.len()).rev() {
            let matrix = &self.steps[(step * self.group + image) * size..][..size];
            dots(simd, Mat::new(matrix, self.tokens, self.width), &self.row, &mut self.next);
            std::mem::swap(&mut self.row, &mut self.next);
        }
        to.copy_from_slice(&self.row[..self.tokens]);
    }

    /// Sets the smallest entries to zero, except the entry (class, class).
    #[inline(always)]
    fn discard(&mut self, matrix: &mut [f32], rollout: &ResolvedRollout) {
        let (tokens, width) = (self.tokens, self.width);
        let class = matrix[0];
        let rows = if rollout.discard_per_row { 1 } else { tokens };
        let compared = rows * tokens;
        let count = (compared as f64 * rollout.discard_ratio) as usize;
        if count == 0 {
            return;
        }
        for first in (0..tokens).step_by(rows) {
            // The bits of non-negative floats have the same order as the floats. Whole vectors are written; the next key
            // overwrites the padding.
            let padded = rows.next_multiple_of(LANES).min(width - first);
            for (key, row) in matrix.chunks_exact(width).enumerate() {
                let entries = &mut self.entries[key * rows..][..padded];
                for (entry, x) in entries.iter_mut().zip(&row[first..first + padded]) {
                    *entry = x.to_bits() as i32;
                }
            }
            let (limit, mut more) = limit(&self.entries[..compared], count);
            let [limit, next] = [limit, limit.wrapping_add(1)].map(|x| f32::from_bits(x as u32));
            // NaN stays, so that the caller sees it.
            let small = |x: f32| if x <= limit { 0.0 } else { x };
            if rows == tokens {
                // This includes the padding, which is never read.
                for x in matrix.iter_mut() {
                    *x = small(*x);
                }
            } else {
                for row in matrix.chunks_exact_mut(width) {
                    row[first] = small(row[first]);
                }
            }
            // Discards the first in reading order among equal entries.
            for query in first..first + rows {
                if more == 0 {
                    break;
                }
                for key in 0..tokens {
                    let x = &mut matrix[key * width + query];
                    if *x == next && more > 0 {
                        more -= 1;
                        *x = 0.0;
                    }
                }
            }
        }
        matrix[0] = class;
    }
}

/// Adds the identity, then divides each query's entries by their sum.
#[inline(always)]
fn normalise(matrix: &mut [f32], width: usize, compat: bool) {
    for (key, row) in matrix.chunks_exact_mut(width).enumerate() {
        row[key] += 1.0;
    }
    if compat {
        // Divides the entries of key j by the sum of query j.
        let mut sums = vec![0.0; width];
        add_column_sums(Mat::new(matrix, matrix.len() / width, width), &mut sums);
        for (row, sum) in matrix.chunks_exact_mut(width).zip(sums) {
            for x in row {
                *x /= sum;
            }
        }
        return;
    }
    for first in (0..width).step_by(LANES) {
        let mut sums = [0.0; LANES];
        for row in matrix.chunks_exact(width) {
            add(&mut sums, lanes::<LANES>(row, first));
        }
        // Only the padding can sum to zero; it must not become NaN.
        let inverse = sums.map(|sum| if sum == 0.0 { 0.0 } else { 1.0 / sum });
        scale_columns(matrix, width, first, inverse);
    }
}

/// Finds the smallest `count` entries: all up to the first result, and as many of the value one above as the second result
/// says. Bisects the values, because counting entries is faster than sorting them.
#[inline(always)]
fn limit(entries: &[i32], count: usize) -> (i32, usize) {
    let (mut least, mut most) = (i32::MAX, i32::MIN);
    for x in entries {
        least = least.min(*x);
        most = most.max(*x);
    }
    // below = up_to(low) <= count <= up_to(high) = above
    let (mut low, mut high) = (i64::from(least) - 1, i64::from(most));
    let (mut below, mut above) = (0, entries.len());
    let mut halve = true;
    while below < count && high - low > 1 {
        let between = high - low;
        let step = if halve {
            between / 2
        } else {
            // Interpolates as if the entries were spread evenly.
            let share = (count - below) as f64 / (above - below) as f64;
            (between as f64 * share) as i64
        };
        let middle = low + step.clamp(1, between - 1);
        let up_to = up_to(entries, middle as i32);
        if up_to <= count {
            (low, below) = (middle, up_to);
        } else {
            (high, above) = (middle, up_to);
        }
        halve = !halve;
    }
    (low as i32, count - below)
}

/// Number of entries that are at most `limit`.
#[inline(always)]
fn up_to(entries: &[i32], limit: i32) -> usize {
    let mut count = 0i32;
    for x in entries {
        count += i32::from(*x <= limit);
    }
    count as usize
}

#[cfg(test)]
mod tests {
    use super::limit;

    #[test]
    fn the_smallest_entries_are_found_with_their_equals() {
        let entries: Vec<i32> = (0..37).map(|i| i * 7 % 37 / 2).collect(); // 0 0 1 1 … 17 17 18, shuffled
        for count in 1..=37 {
            let (limit, more) = limit(&entries, count);
            let up_to = |limit: i32| entries.iter().filter(|x| **x <= limit).count();
            assert_eq!(up_to(limit) + more, count);
            assert!(up_to(limit) + more <= up_to(limit + 1));
        }
        assert_eq!(limit(&[5, 5, 5], 1), (4, 1));
        assert_eq!(limit(&[i32::MAX], 1), (i32::MAX - 1, 1));
    }
}
