//! Attention rollout of a group of images right behind their blocks, while the attention is in the caches.
//!
//! The definition is [`crate::explain::rollout`]'s, in float32. As the attention itself, all matrices here are transposed
//! ([key, padded queries]): the sum of a row becomes a sum of rows, and P = Ā · P of the definition becomes Pᵀ · Āᵀ.

use super::block::Kept;
use super::matmul::{Left, Out, Right, Start, matmul};
use super::network::Sizes;
use super::vector::Instructions;
use crate::explain::{DiscardPer, Fusion, Normalisation, Rollout};

/// A rollout for a network of certain sizes.
pub(super) struct Chosen<'a> {
    pub options: &'a Rollout,
    /// In ascending order.
    pub layers: Vec<usize>,
}

/// Memory of one thread.
pub(super) struct Matrices {
    tokens: usize,
    /// S rounded up to whole vectors: the numbers of a row.
    width: usize,
    /// [S, width]: of one layer and image
    step: Vec<f32>,
    /// [S, S]: the same as it was fused, for choosing what to discard
    entries: Vec<i32>,
    /// [G, S, width]
    product: Vec<f32>,
    next: Vec<f32>,
    sums: Vec<f32>,
}

impl Matrices {
    pub fn new(sizes: &Sizes, group: usize) -> Self {
        let (tokens, width) = (sizes.tokens, sizes.tokens.next_multiple_of(16));
        Matrices {
            tokens,
            width,
            step: vec![0.0; tokens * width],
            entries: vec![0; tokens * tokens],
            product: vec![0.0; group * tokens * width],
            next: vec![0.0; tokens * width],
            sums: vec![0.0; width],
        }
    }

    /// The product so far of each image in the group times this layer's matrix; `first`: it is the first chosen layer.
    #[inline(always)]
    pub fn multiply(
        &mut self,
        instructions: Instructions,
        kept: &Kept,
        (group, heads): (usize, usize),
        options: &Rollout,
        first: bool,
    ) {
        let size = self.tokens * self.width;
        for image in 0..group {
            let attention = kept.attention(image * heads * size..(image + 1) * heads * size);
            self.fuse(attention, options.fusion);
            self.discard(options);
            self.normalise(options.normalisation);
            let product = &mut self.product[image * size..(image + 1) * size];
            if first {
                product.copy_from_slice(&self.step);
                continue;
            }
            matmul(
                instructions,
                (self.tokens, self.width, self.tokens),
                Left::rows(product, self.width),
                Right::rows(&self.step, self.width),
                Out::rows(&mut self.next, self.width),
                Start::Zero,
            );
            product.copy_from_slice(&self.next);
        }
    }

    /// The product of an image, [S, S], row q of query q.
    #[inline(always)]
    pub fn write(&self, image: usize, to: &mut [f32]) {
        let size = self.tokens * self.width;
        let product = &self.product[image * size..(image + 1) * size];
        for (key, row) in product.chunks_exact(self.width).enumerate() {
            for (query, x) in row[..self.tokens].iter().enumerate() {
                to[query * self.tokens + key] = *x;
            }
        }
    }

    /// [H, S, width] -> `step`
    #[inline(always)]
    fn fuse(&mut self, attention: &[f32], fusion: Fusion) {
        let mut heads = attention.chunks_exact(self.step.len());
        let count = heads.len() as f32;
        self.step
            .copy_from_slice(heads.next().expect("there is a head"));
        for head in heads {
            for (x, y) in self.step.iter_mut().zip(head) {
                *x = match fusion {
                    Fusion::Mean => *x + *y,
                    Fusion::Max if *y > *x => *y,
                    Fusion::Min if *y < *x => *y,
                    Fusion::Max | Fusion::Min => *x,
                };
            }
        }
        if fusion == Fusion::Mean {
            for x in &mut self.step {
                *x /= count;
            }
        }
    }

    #[inline(always)]
    fn discard(&mut self, options: &Rollout) {
        let (tokens, width) = (self.tokens, self.width);
        let class = self.step[0];
        let rows = match options.discard_per {
            DiscardPer::Matrix => tokens,
            DiscardPer::Row => 1,
        };
        let group = rows * tokens;
        let count = (group as f64 * options.discard_ratio) as usize;
        if count == 0 {
            return;
        }
        for first in (0..tokens).step_by(rows) {
            let queries = first..first + rows;
            // Numbers that aren't negative are ordered as their bits are.
            let columns = self
                .step
                .chunks_exact(width)
                .map(|row| &row[queries.clone()]);
            for (entries, column) in self.entries.chunks_exact_mut(rows).zip(columns) {
                for (entry, x) in entries.iter_mut().zip(column) {
                    *entry = x.to_bits() as i32;
                }
            }
            let (threshold, below, equal) = smallest(&mut self.entries[..group], count);
            let threshold = f32::from_bits(threshold as u32);
            if below + equal == count {
                for row in self.step.chunks_exact_mut(width) {
                    for x in &mut row[queries.clone()] {
                        *x = if *x <= threshold { 0.0 } else { *x };
                    }
                }
                continue;
            }
            // Of equal entries the earlier in reading order go.
            let mut more = count - below;
            for query in queries {
                for key in 0..tokens {
                    let x = &mut self.step[key * width + query];
                    if *x == threshold && more > 0 {
                        more -= 1;
                        *x = 0.0;
                    } else if *x < threshold {
                        *x = 0.0;
                    }
                }
            }
        }
        self.step[0] = class;
    }

    /// The identity joins, then each query's entries are divided by their sum.
    #[inline(always)]
    fn normalise(&mut self, normalisation: Normalisation) {
        let width = self.width;
        self.sums.fill(0.0);
        for (key, row) in self.step.chunks_exact_mut(width).enumerate() {
            row[key] += 1.0;
            for (sum, x) in self.sums.iter_mut().zip(row) {
                *sum += *x;
            }
        }
        for (key, row) in self.step.chunks_exact_mut(width).enumerate() {
            match normalisation {
                Normalisation::RowSum => {
                    for (x, sum) in row.iter_mut().zip(&self.sums) {
                        *x /= sum;
                    }
                }
                Normalisation::Compat => {
                    let sum = self.sums[key];
                    for x in row {
                        *x /= sum;
                    }
                }
            }
        }
    }
}

/// The `count`-th smallest entry, how many are smaller, and how many equal it; no entry is negative, and they are moved about.
#[inline(always)]
fn smallest(entries: &mut [i32], count: usize) -> (i32, usize, usize) {
    let threshold = *entries.select_nth_unstable(count - 1).1;
    let below = if threshold == 0 {
        0
    } else {
        up_to(entries, threshold - 1)
    };
    (threshold, below, up_to(entries, threshold) - below)
}

/// How many entries are at most `limit`. A closure wouldn't be compiled for the processor's level, and checking each sum for
/// overflow would keep the loop from being one of vectors.
#[inline(always)]
fn up_to(entries: &[i32], limit: i32) -> usize {
    let mut sums = [0i32; 16];
    let (lanes, rest) = entries.as_chunks::<16>();
    for lane in lanes {
        for (sum, x) in sums.iter_mut().zip(lane) {
            *sum = sum.wrapping_add(i32::from(*x <= limit));
        }
    }
    let mut count = sums.iter().sum::<i32>();
    for x in rest {
        count += i32::from(*x <= limit);
    }
    count as usize
}

#[cfg(test)]
mod tests {
    use super::smallest;

    #[test]
    fn the_smallest_entry_is_found_with_its_equals() {
        let entries: Vec<i32> = (0..37).map(|i| i * 7 % 37 / 2).collect(); // 0 0 1 1 … 17 17 18, in disorder
        let nth = |count| smallest(&mut entries.clone(), count);
        assert_eq!(nth(1), (0, 0, 2));
        assert_eq!(nth(2), (0, 0, 2));
        assert_eq!(nth(3), (1, 2, 2));
        assert_eq!(nth(37), (18, 36, 1));
        assert_eq!(smallest(&mut [i32::MAX], 1), (i32::MAX, 0, 1));
    }
}
