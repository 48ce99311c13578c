//! The layers before the encoder blocks and after them, in float32 at all precisions.

use super::pass::{EMBEDDING, GROUP, Pass, Scratch};
use crate::cpu::Simd;
use crate::layers::{add, add_column_sums};
use crate::mat::{Mat, MatMut, Start, multiply};

impl<S: Simd> Pass<'_, S> {
    /// x = dropout([tokens; patches Wᵀ + b] + position) (arXiv 2010.11929, equation 1): images [G, C, I, I] -> [G · S, E]
    #[inline(always)]
    pub fn embed(&self, w: &mut Scratch, images: &[f32]) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, width, patches, tokens) = (shape.embed, shape.patch_width(), shape.patches(), shape.tokens());
        let (side, patch, across) = (shape.image_side, shape.patch_side, shape.image_side / shape.patch_side);
        for (row, to) in w.patches[..group * patches * width].chunks_exact_mut(width).enumerate() {
            let (image, at) = (row / patches, row % patches);
            for (i, to) in to.chunks_exact_mut(patch).take(shape.channels * patch).enumerate() {
                let (channel, y) = (i / patch, at / across * patch + i % patch);
                let from = ((image * shape.channels + channel) * side + y) * side + at % across * patch;
                // `copy_from_slice` would call memcpy for a few values.
                for (to, from) in to.iter_mut().zip(&images[from..from + patch]) {
                    *to = *from;
                }
            }
        }
        // Each token starts as its row of the position embedding, or as zero if it has none.
        let position = network.at(network.position, shape.position_rows * e);
        let bias = network.at(network.conv.bias_at, e);
        let skipped = tokens - shape.position_rows;
        let all = &mut w.x[..group * tokens * e];
        for (image, x) in all.chunks_exact_mut(tokens * e).enumerate() {
            x[..skipped * e].fill(0.0);
            x[skipped * e..].copy_from_slice(position);
            for (x, token) in x.chunks_exact_mut(e).zip(&network.tokens) {
                add(x, network.at(*token, e));
            }
            let x = &mut x[shape.prefix() * e..];
            for x in x.chunks_exact_mut(e) {
                add(x, bias);
            }
            let patch_rows = Mat::strided(&w.patches[image * patches * width..], patches, shape.patch_len(), width);
            let (weight, x) = (network.conv.transposed::<S::Float32>(), MatMut::new(x, patches, e));
            multiply(self.simd.float32(), patch_rows, weight, Start::Present, x); // [N, C · P · P] · [C · P · P, E]
        }
        self.dropout(EMBEDDING, all);
    }

    /// dW = dᵀ patches, db = Σ d over the patches; d position and d tokens are the tokens' gradients: d in `x` [G · S, E]
    #[inline(always)]
    pub fn embed_backward(&self, w: &mut Scratch, gradient: &mut [f32]) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, width, patches, tokens) = (shape.embed, shape.patch_width(), shape.patches(), shape.tokens());
        let d = &mut w.x[..group * tokens * e];
        self.dropout(EMBEDDING, d);
        w.d_conv.fill(0.0);
        let skipped = tokens - shape.position_rows;
        for (image, d) in d.chunks_exact(tokens * e).enumerate() {
            add(&mut gradient[network.position..][..shape.position_rows * e], &d[skipped * e..]);
            for (d, token) in d.chunks_exact(e).zip(&network.tokens) {
                add(&mut gradient[*token..token + e], d);
            }
            let d = Mat::new(&d[shape.prefix() * e..], patches, e);
            add_column_sums(d, &mut gradient[network.conv.bias_at..][..e]);
            let patch_rows = Mat::new(&w.patches[image * patches * width..], patches, width);
            let d_conv = w.d_conv.mat_mut(e, width);
            multiply(self.simd.float32(), d.t(), patch_rows, Start::Present, d_conv); // [E, N] · [N, C · P · P]
        }
        let rows = gradient[network.conv.weight_at..].chunks_exact_mut(shape.patch_len()).take(e);
        for (row, d) in rows.zip(w.d_conv.chunks_exact(width)) {
            add(row, d);
        }
    }

    /// z = tanh(norm(x) W₁ᵀ + b₁) W₂ᵀ + b₂ of the class token, norm(x) W₂ᵀ + b₂ of the distillation token (arXiv 2012.12877):
    /// prefix tokens [G · prefix, E] in `x` -> `logits`
    #[inline(always)]
    pub fn heads(&self, w: &mut Scratch) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, prefix, classes) = (shape.embed, shape.prefix(), shape.classes);
        let x = &w.x[..group * prefix * e];
        network.norm.forward(&network.flat, x, &mut w.hat, &mut w.rstd, &mut w.features);
        w.tokens.copy_from_slice(&w.features);
        let class_tokens = Mat::strided(&w.features, group, e, prefix * e);
        let hidden = MatMut::strided(&mut w.tokens, group, e, prefix * e);
        network.fc1.forward(self.simd.float32(), class_tokens, hidden);
        for (image, tokens) in w.tokens.chunks_exact_mut(prefix * e).take(group).enumerate() {
            tokens[..e].iter_mut().for_each(|x| *x = x.tanh());
            for (head, (layer, x)) in network.logits.iter().zip(tokens.chunks_exact(e)).enumerate() {
                layer.forward_row(&network.flat, x, &mut w.logits[(head * GROUP + image) * classes..][..classes]);
            }
        }
    }

    /// dW₂ = dᵀ x, db₂ = Σ d, dx = d W₂; through tanh: d (1 − tanh²). Gradients in `logits` -> of the prefix tokens in `x`
    #[inline(always)]
    pub fn heads_backward(&self, w: &mut Scratch, gradient: &mut [f32]) {
        let (network, shape, group) = (self.network, &self.network.shape, self.group);
        let (e, prefix, classes) = (shape.embed, shape.prefix(), shape.classes);
        w.d_tokens.fill(0.0);
        for (head, layer) in network.logits.iter().enumerate() {
            for image in 0..group {
                let token = (image * prefix + head) * e..(image * prefix + head + 1) * e;
                let x_and_d = (&w.tokens[token.clone()], &w.logits[(head * GROUP + image) * classes..][..classes]);
                layer.backward_row(&network.flat, x_and_d, gradient, &mut w.d_tokens[token]);
            }
        }
        w.d_features.copy_from_slice(&w.d_tokens);
        for (d, x) in w.d_tokens.chunks_exact_mut(prefix * e).zip(w.tokens.chunks_exact(prefix * e)) {
            for (d, x) in d[..e].iter_mut().zip(x) {
                *d *= 1.0 - x * x;
            }
        }
        let operands = [&w.features, &w.d_tokens].map(|x| Mat::strided(x, group, e, prefix * e));
        let d_x = (Start::Zero, MatMut::strided(&mut w.d_features, group, e, prefix * e));
        network.fc1.backward(self.simd.float32(), operands.into(), (Start::Present, gradient), d_x, &mut w.room);
        let (x, d_features) = (&mut w.x[..group * prefix * e], &mut w.d_features[..group * prefix * e]);
        x.fill(0.0);
        network.norm.backward(&network.flat, d_features, (&w.hat, &w.rstd), gradient, x);
    }
}
