//! Attention rollout (arXiv 2005.00928) of a group of images, block by block while the attention is in the caches.
//!
//! A heatmap shows one row of the product of all layers' matrices. It needs no matrix product: the query's row of the last
//! layer's matrix is multiplied by the matrices of the layers before. Like the attention, all matrices here are transposed:
//! [key, padded queries].

use super::pass::GROUP;
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
pub(super) struct Matrices {
    tokens: usize,
    width: usize,
    /// [L, G, S, width]: the finished matrices of the layers.
    steps: Buffer,
    /// [S, S] and room for a row: bits of a fused matrix's entries, to find the smallest.
    entries: Buffer<i32>,
    /// [width]
    row: Buffer,
    next: Buffer,
}

impl Matrices {
    pub fn new(shape: &Shape) -> Self {
        let (tokens, width) = (shape.tokens(), shape.padded_tokens());
        let steps = Buffer::zeros(shape.layers * GROUP * tokens * width);
        let entries = Buffer::zeros(tokens * tokens + width);
        Matrices { tokens, width, steps, entries, row: Buffer::zeros(width), next: Buffer::zeros(width) }
    }

    /// The matrices of `group` images in a layer: fuses the heads' attention [G, H, S, width], discards, adds the identity and
    /// divides -> [G, S, width]
    #[inline(always)]
    pub fn fuse(&mut self, attention: &[f32], (group, heads): (usize, usize), step: usize, rollout: &ResolvedRollout) {
        let (size, fusion) = (self.tokens * self.width, rollout.fusion);
        let matrices = self.steps[step * GROUP * size..].chunks_exact_mut(size).take(group);
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
            discard(matrix, (self.tokens, self.width), &mut self.entries, rollout);
            normalise(matrix, self.width, rollout.compat);
        }
    }

    /// The query's row of an image's product, `[S]`.
    #[inline(always)]
    pub fn row<S: Simd>(&mut self, simd: S, image: usize, rollout: &ResolvedRollout) -> &[f32] {
        let size = self.tokens * self.width;
        self.row.fill(0.0);
        self.row[rollout.query] = 1.0;
        for step in (0..rollout.layers.len()).rev() {
            let matrix = &self.steps[(step * GROUP + image) * size..][..size];
            dots(simd, Mat::new(matrix, self.tokens, self.width), &self.row, &mut self.next);
            std::mem::swap(&mut self.row, &mut self.next);
        }
        &self.row[..self.tokens]
    }
}

/// Sets the smallest entries of a matrix [S, width] to zero, except the entry (class, class).
#[inline(always)]
fn discard(matrix: &mut [f32], (tokens, width): (usize, usize), bits: &mut [i32], rollout: &ResolvedRollout) {
    // Queries whose entries are compared, and the columns that change: padding is never read, and whole vectors are fast.
    let (queries, columns) = if rollout.discard_per_row { (1, 1) } else { (tokens, width) };
    let count = ((queries * tokens) as f64 * rollout.discard_ratio) as usize;
    if count == 0 {
        return;
    }
    let class = matrix[0];
    for first in (0..tokens).step_by(queries) {
        // The bits of non-negative floats have the same order as the floats. Whole vectors are written; the next key
        // overwrites the padding.
        let padded = queries.next_multiple_of(LANES).min(width - first);
        for (key, row) in matrix.chunks_exact(width).enumerate() {
            for (bits, x) in bits[key * queries..][..padded].iter_mut().zip(&row[first..first + padded]) {
                *bits = x.to_bits() as i32;
            }
        }
        let (limit, more) = limit(&bits[..queries * tokens], count);
        let [limit, next] = [limit, limit.wrapping_add(1)].map(|x| f32::from_bits(x as u32));
        for row in matrix.chunks_exact_mut(width) {
            for x in &mut row[first..first + columns] {
                // NaN stays, so that the caller sees it.
                *x = if *x <= limit { 0.0 } else { *x };
            }
        }
        // Discards the first in reading order among equal entries.
        let places = (first..first + queries).flat_map(|query| (0..tokens).map(move |key| key * width + query));
        let equal: Vec<usize> = places.filter(|place| matrix[*place] == next).take(more).collect();
        equal.into_iter().for_each(|place| matrix[place] = 0.0);
    }
    matrix[0] = class;
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
