//! An encoder block for the tokens of a group of images.

use super::pass::{Pass, Saved, Scratch, dropout_layer};
use crate::attention::{attention, attention_backward};
use crate::cpu::Simd;
use crate::gelu::{gelu, gelu_slope};
use crate::layers::{add, scale_by};
use crate::mat::{Mat, MatMut, Start};

impl<S: Simd> Pass<'_, S> {
    /// x += dropout(attention(norm(x)) Wᵀ + b) (arXiv 2010.11929, equation 2): [G · S, E] -> [G · rows, E]
    #[inline(always)]
    pub fn attention(&self, i: usize, w: &mut Scratch, saved: &mut Saved) {
        let (simd, group, shape, (block, queries, rows)) = (self.simd, self.group, &self.network.shape, self.block(i));
        let (e, tokens) = (shape.embed, shape.tokens());
        let (all, asking, some) = (group * tokens, group * queries, group * rows);
        let (x, normed) = (&w.x[..all * e], &mut w.normed[..all * e]);
        block.norm1.forward(&self.network.flat, x, &mut saved.hat1, &mut saved.rstd1, normed);
        let [room, asking_room, ..] = &mut w.room;
        let normed = simd.along(w.normed.mat(all, e), room);
        block.keys.forward(simd, normed, saved.keys.mat_mut(all, e));
        block.values.forward(simd, normed, saved.values.mat_mut(all, e));
        let normed = if queries < tokens {
            self.gather(&mut w.normed, queries);
            simd.along(w.normed.mat(asking, e), asking_room)
        } else {
            normed
        };
        block.queries.forward(simd, normed, saved.queries.mat_mut(asking, e));
        let length = shape.heads * tokens * queries.next_multiple_of(16);
        for (image, maps) in saved.attention.chunks_exact_mut(length).take(group).enumerate() {
            let qkv = [(&saved.queries, queries), (&saved.keys, tokens), (&saved.values, tokens)];
            let qkv = qkv.map(|(x, rows)| of_image(x, image, rows, e));
            let y = MatMut::new(&mut saved.mixed[image * rows * e..], rows, e);
            attention(simd, shape.heads, qkv, maps, y, &mut w.room);
        }
        block.out.forward(simd, simd.along(saved.mixed.mat(some, e), &mut w.room[0]), w.out.mat_mut(some, e));
        self.dropout(dropout_layer(i), &mut w.out[..some * e]);
        self.gather(&mut w.x, rows);
        add(&mut w.x[..some * e], &w.out);
    }

    /// d in `x`, the gradient of the output [G · rows, E] -> of the input [G · S, E], layer by layer in reverse
    #[inline(always)]
    pub fn attention_backward(&self, i: usize, w: &mut Scratch, saved: &Saved, gradient: &mut [f32]) {
        let (simd, group, shape, (block, _, rows)) = (self.simd, self.group, &self.network.shape, self.block(i));
        let (e, tokens, flat) = (shape.embed, shape.tokens(), &self.network.flat);
        let (all, some) = (group * tokens, group * rows);
        w.out[..some * e].copy_from_slice(&w.x[..some * e]);
        self.dropout(dropout_layer(i), &mut w.out[..some * e]);
        let (operands, d_mixed) = ((saved.mixed.mat(some, e), w.out.mat(some, e)), w.d_mixed.mat_mut(some, e));
        block.out.backward(simd, operands, (Start::Present, gradient), (Start::Zero, d_mixed), &mut w.room);
        let length = shape.heads * tokens * rows.next_multiple_of(16);
        for (image, maps) in saved.attention.chunks_exact(length).take(group).enumerate() {
            let qkv = [(&saved.queries, rows), (&saved.keys, tokens), (&saved.values, tokens)];
            let qkv = qkv.map(|(x, rows)| of_image(x, image, rows, e));
            let d_y = of_image(&w.d_mixed, image, rows, e);
            let d_qkv = [(&mut w.d_queries, rows), (&mut w.d_keys, tokens), (&mut w.d_values, tokens)];
            let d_qkv = d_qkv.map(|(x, rows)| MatMut::new(&mut x[image * rows * e..], rows, e));
            attention_backward(simd, shape.heads, qkv, maps, d_y, d_qkv, &mut w.room);
        }
        // Keys and values give a gradient for all tokens, queries for the first tokens of each image.
        block.norm1.scale_shift(flat, &saved.hat1[..all * e], &mut w.normed);
        for (layer, d, start) in [(&block.keys, &w.d_keys, Start::Zero), (&block.values, &w.d_values, Start::Present)] {
            let (operands, d_normed) = ((w.normed.mat(all, e), d.mat(all, e)), w.out.mat_mut(all, e));
            layer.backward(simd, operands, (Start::Present, gradient), (start, d_normed), &mut w.room);
        }
        self.gather(&mut w.normed, rows);
        let (operands, back) = ((w.normed.mat(some, e), w.d_queries.mat(some, e)), w.d_mixed.mat_mut(some, e));
        block.queries.backward(simd, operands, (Start::Present, gradient), (Start::Zero, back), &mut w.room);
        let d_normed = &mut w.out[..all * e];
        for (d_normed, back) in d_normed.chunks_exact_mut(tokens * e).zip(w.d_mixed.chunks_exact(rows * e)) {
            add(d_normed, back);
        }
        if rows < tokens {
            for image in (0..group).rev() {
                let (from, to) = (image * rows * e, image * tokens * e);
                w.x.copy_within(from..from + rows * e, to); // [G · rows, E] -> [G · S, E], zero elsewhere
                w.x[to + rows * e..to + tokens * e].fill(0.0);
            }
        }
        block.norm1.backward(flat, d_normed, (&saved.hat1, &saved.rstd1), gradient, &mut w.x[..all * e]);
    }

    /// x += dropout(GELU(norm(x) W₁ᵀ + b₁) W₂ᵀ + b₂) (arXiv 2010.11929, equation 3): [G · rows, E] -> [G · rows, E]
    #[inline(always)]
    pub fn mlp(&self, i: usize, w: &mut Scratch, saved: &mut Saved) {
        let (simd, shape, (block, _, rows)) = (self.simd, &self.network.shape, self.block(i));
        let (e, f, some) = (shape.embed, shape.hidden, self.group * rows);
        let (x, normed) = (&mut w.x[..some * e], &mut w.normed[..some * e]);
        block.norm2.forward(&self.network.flat, x, &mut saved.hat2, &mut saved.rstd2, normed);
        block.fc1.forward(simd, simd.along(w.normed.mat(some, e), &mut w.room[0]), saved.hidden.mat_mut(some, f));
        let hidden = &mut saved.hidden[..some * f];
        match self.seed {
            Some(_) => gelu_slope(hidden, &mut saved.slope, S::VALUES > 1),
            None => gelu(hidden, S::VALUES > 1),
        }
        block.fc2.forward(simd, simd.along(saved.hidden.mat(some, f), &mut w.room[0]), w.out.mat_mut(some, e));
        self.dropout(dropout_layer(i) + 1, &mut w.out[..some * e]);
        add(x, &w.out);
    }

    /// d in `x`, the gradient of the output -> of the input, both [G · rows, E]
    #[inline(always)]
    pub fn mlp_backward(&self, i: usize, w: &mut Scratch, saved: &Saved, gradient: &mut [f32]) {
        let (simd, shape, (block, _, rows)) = (self.simd, &self.network.shape, self.block(i));
        let (e, f, some, flat) = (shape.embed, shape.hidden, self.group * rows, &self.network.flat);
        let (d, out) = (&mut w.x[..some * e], &mut w.out[..some * e]);
        out.copy_from_slice(d);
        self.dropout(dropout_layer(i) + 1, out);
        let (operands, d_hidden) = ((saved.hidden.mat(some, f), w.out.mat(some, e)), w.d_hidden.mat_mut(some, f));
        block.fc2.backward(simd, operands, (Start::Present, gradient), (Start::Zero, d_hidden), &mut w.room);
        scale_by(&mut w.d_hidden[..some * f], &saved.slope);
        block.norm2.scale_shift(flat, &saved.hat2[..some * e], &mut w.normed);
        let (operands, d_normed) = ((w.normed.mat(some, e), w.d_hidden.mat(some, f)), w.out.mat_mut(some, e));
        block.fc1.backward(simd, operands, (Start::Present, gradient), (Start::Zero, d_normed), &mut w.room);
        block.norm2.backward(flat, &mut w.out[..some * e], (&saved.hat2, &saved.rstd2), gradient, d);
    }

    /// Moves the first `rows` tokens of each image together: [G · S, E] -> [G · rows, E]
    #[inline(always)]
    fn gather(&self, x: &mut [f32], rows: usize) {
        let (e, tokens) = (self.network.shape.embed, self.network.shape.tokens());
        if rows < tokens {
            for image in 1..self.group {
                x.copy_within(image * tokens * e..(image * tokens + rows) * e, image * rows * e);
            }
        }
    }
}

/// The rows of an image: [G · rows, E] -> [rows, E]
#[inline(always)]
fn of_image(x: &[f32], image: usize, rows: usize, e: usize) -> Mat<'_> {
    Mat::new(&x[image * rows * e..], rows, e)
}
