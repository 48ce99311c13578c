//! Attention rollout of a group of images right behind their blocks, while the attention is in the caches.
//!
//! The definition is [`crate::explain::rollout`]'s, in float32. A map shows one row of the product, which needs no product
//! of matrices: that row of the last layer's matrix, times the layers' matrices before it. As the attention itself, all
//! matrices here are transposed ([key, padded queries]).

use super::aligned::Aligned;
use super::matmul::dots;
use super::network::Sizes;
use super::rows::{LANES, add_column_sums};
use super::vector::Instructions;
use crate::explain::{DiscardPer, Fusion, Normalisation, Rollout};

/// A rollout for a network of certain sizes.
pub(super) struct Chosen<'a> {
    pub options: &'a Rollout,
    /// In ascending order.
    pub layers: Vec<usize>,
    /// The token whose row is wanted.
    pub query: usize,
}

/// Memory of one thread.
pub(super) struct Matrices {
    tokens: usize,
    /// S rounded up to whole vectors: the numbers of a row.
    width: usize,
    /// [L, G, S, width]: what the layers' matrices are after fusing, discarding and dividing
    steps: Aligned,
    /// Images for which `steps` has room.
    group: usize,
    /// [S, S] and room for a row: a matrix as it was fused, for choosing what to discard
    entries: Aligned<i32>,
    /// [width]
    row: Aligned,
    next: Aligned,
}

impl Matrices {
    pub fn new(sizes: &Sizes, layers: usize, group: usize) -> Self {
        let (tokens, width) = (sizes.tokens, sizes.tokens.next_multiple_of(16));
        Matrices {
            tokens,
            width,
            steps: Aligned::zeros(layers * group * tokens * width),
            group,
            entries: Aligned::zeros(tokens * tokens + width),
            row: Aligned::zeros(width),
            next: Aligned::zeros(width),
        }
    }

    /// Where a layer's fused heads go: [G, S, width]; `layer` counts the chosen ones.
    pub fn of_layer(&mut self, layer: usize) -> &mut [f32] {
        let size = self.group * self.tokens * self.width;
        &mut self.steps[layer * size..(layer + 1) * size]
    }

    /// A layer's attention [G, H, S, width], fused.
    #[inline(always)]
    pub fn fuse(&mut self, attention: &[f32], heads: usize, layer: usize, fusion: Fusion) {
        let size = self.tokens * self.width;
        let of_layer = self.of_layer(layer).chunks_exact_mut(size);
        for (step, attention) in of_layer.zip(attention.chunks_exact(heads * size)) {
            fuse(attention, fusion, step);
        }
    }

    /// A layer of `group` images behind the fusion; of the mean, the sum is there.
    #[inline(always)]
    pub fn complete(&mut self, group: usize, heads: usize, layer: usize, options: &Rollout) {
        let size = self.tokens * self.width;
        let mut steps = std::mem::take(&mut self.steps);
        let of_layer = steps[layer * self.group * size..].chunks_exact_mut(size);
        for step in of_layer.take(group) {
            if options.fusion == Fusion::Mean {
                for x in step.iter_mut() {
                    *x /= heads as f32;
                }
            }
            self.discard(step, options);
            normalise(step, self.width, options.normalisation);
        }
        self.steps = steps;
    }

    /// The query's row of an image's product, [S].
    #[inline(always)]
    pub fn row(&mut self, instructions: Instructions, image: usize, chosen: &Chosen, to: &mut [f32]) {
        let size = self.tokens * self.width;
        self.row.fill(0.0);
        self.row[chosen.query] = 1.0;
        for layer in (0..chosen.layers.len()).rev() {
            let step = &self.steps[(layer * self.group + image) * size..][..size];
            dots(instructions, step, &self.row, &mut self.next);
            std::mem::swap(&mut self.row, &mut self.next);
        }
        to.copy_from_slice(&self.row[..self.tokens]);
    }

    #[inline(always)]
    fn discard(&mut self, step: &mut [f32], options: &Rollout) {
        let (tokens, width) = (self.tokens, self.width);
        let class = step[0];
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
            // Numbers that aren't negative are ordered as their bits are. Whole vectors are written, of which the next key's
            // overwrite what is too much.
            let padded = rows.next_multiple_of(LANES).min(width - first);
            for (key, row) in step.chunks_exact(width).enumerate() {
                let entries = &mut self.entries[key * rows..][..padded];
                for (entry, x) in entries.iter_mut().zip(&row[first..first + padded]) {
                    *entry = x.to_bits() as i32;
                }
            }
            let (limit, mut more) = limit(&self.entries[..group], count);
            let [limit, next] = [limit, limit.wrapping_add(1)].map(|x| f32::from_bits(x as u32));
            // What isn't a number stays, so that it is noticed.
            let small = |x: f32| if x <= limit { 0.0 } else { x };
            if rows == tokens {
                // The padding, too, which nobody reads.
                for x in step.iter_mut() {
                    *x = small(*x);
                }
            } else {
                for row in step.chunks_exact_mut(width) {
                    row[first] = small(row[first]);
                }
            }
            // Of equal entries the earlier in reading order go.
            for query in first..first + rows {
                if more == 0 {
                    break;
                }
                for key in 0..tokens {
                    let x = &mut step[key * width + query];
                    if *x == next && more > 0 {
                        more -= 1;
                        *x = 0.0;
                    }
                }
            }
        }
        step[0] = class;
    }
}

/// The identity joins, then each query's entries are divided by their sum.
#[inline(always)]
fn normalise(step: &mut [f32], width: usize, normalisation: Normalisation) {
    for (key, row) in step.chunks_exact_mut(width).enumerate() {
        row[key] += 1.0;
    }
    if normalisation == Normalisation::Compat {
        // Each key's entries by the sum of the query of that number.
        let mut sums = vec![0.0; width];
        add_column_sums(step, width, &mut sums);
        for (row, sum) in step.chunks_exact_mut(width).zip(sums) {
            for x in row {
                *x /= sum;
            }
        }
        return;
    }
    for first in (0..width).step_by(LANES) {
        let mut sums = [0.0; LANES];
        for row in step.chunks_exact(width) {
            let row = &row[first..first + LANES];
            for i in 0..LANES {
                sums[i] += row[i];
            }
        }
        // Only the padding can sum to zero, and it mustn't become what is no number.
        let inverse = sums.map(|sum| if sum == 0.0 { 0.0 } else { 1.0 / sum });
        for row in step.chunks_exact_mut(width) {
            let row = &mut row[first..first + LANES];
            for i in 0..LANES {
                row[i] *= inverse[i];
            }
        }
    }
}

/// [H, S, width] -> [S, width]
#[inline(always)]
fn fuse(attention: &[f32], fusion: Fusion, step: &mut [f32]) {
    let mut heads = attention.chunks_exact(step.len());
    step.copy_from_slice(heads.next().expect("there is a head"));
    for head in heads {
        for (x, y) in step.iter_mut().zip(head) {
            *x = match fusion {
                Fusion::Mean => *x + *y,
                Fusion::Max if *y > *x => *y,
                Fusion::Min if *y < *x => *y,
                Fusion::Max | Fusion::Min => *x,
            };
        }
    }
}

/// The smallest `count` entries are those up to the first number and, of those one above it, as many as the second says.
/// Found by narrowing down what lies between, since counting is quick where sorting isn't.
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
            // Where the count would be if the entries lay evenly.
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

/// How many entries are at most `limit`.
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
        let entries: Vec<i32> = (0..37).map(|i| i * 7 % 37 / 2).collect(); // 0 0 1 1 … 17 17 18, in disorder
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
