//! Attention of one image and its softmax, with their backward passes.
//!
//! Maps are transposed: a query is a column, so that the softmax runs down the columns of whole registers.

use crate::cpu::Simd;
use crate::gelu::{exp, short_exp};
use crate::layers::{LANES, Room, lanes, lanes_mut, scale_by};
use crate::mat::{Mat, MatMut, Start, multiply, transpose};

/// Softmax down the columns, in place: p = exp(s x) / Σ exp(s x) with the scale s, [m, width]; `width` is a multiple of 16.
#[inline(always)]
pub(crate) fn softmax_columns(x: &mut [f32], width: usize, scale: f32, short: bool) {
    for first in (0..width).step_by(LANES) {
        let mut highest = [f32::NEG_INFINITY; LANES];
        for row in x.chunks_exact(width) {
            for (highest, x) in highest.iter_mut().zip(lanes::<LANES>(row, first)) {
                *highest = if *x > *highest { *x } else { *highest };
            }
        }
        let mut sums = [0.0f32; LANES];
        for row in x.chunks_exact_mut(width) {
            let row = lanes_mut::<LANES>(row, first);
            for i in 0..LANES {
                let below = (row[i] - highest[i]) * scale;
                row[i] = if short { short_exp(below) } else { exp(below) };
                sums[i] += row[i];
            }
        }
        scale_columns(x, width, first, sums.map(|sum| 1.0 / sum));
    }
}

/// Multiplies columns by a factor each, from column `first` on.
#[inline(always)]
pub(crate) fn scale_columns(x: &mut [f32], width: usize, first: usize, factors: [f32; LANES]) {
    for row in x.chunks_exact_mut(width) {
        scale_by(lanes_mut::<LANES>(row, first), &factors);
    }
}

/// dx = s p (d − Σ d p), with the sum down the column: d, the gradient of p, -> that of x, in place.
#[inline(always)]
pub(crate) fn softmax_columns_backward(d: &mut [f32], p: &[f32], width: usize, scale: f32) {
    for first in (0..width).step_by(LANES) {
        let mut along = [0.0f32; LANES];
        for (d, p) in d.chunks_exact(width).zip(p.chunks_exact(width)) {
            let (d, p) = (lanes::<LANES>(d, first), lanes::<LANES>(p, first));
            for i in 0..LANES {
                along[i] += d[i] * p[i];
            }
        }
        for (d, p) in d.chunks_exact_mut(width).zip(p.chunks_exact(width)) {
            let (d, p) = (lanes_mut::<LANES>(d, first), lanes::<LANES>(p, first));
            for i in 0..LANES {
                d[i] = scale * p[i] * (d[i] - along[i]);
            }
        }
    }
}

/// Attention (arXiv 1706.03762, equation 1) of one image, head by head, with D = E/H: P = softmax(K Qᵀ / √D) down the columns,
/// Y = Pᵀ V. q [Q, E], k and v [S, E] -> P, H × [S, padded Q], one column per query; y [m, E] of the first m queries
#[inline(always)]
pub(crate) fn attention<S: Simd>(
    simd: S,
    heads: usize,
    [q, k, v]: [Mat; 3],
    maps: &mut [f32],
    mut y: MatMut,
    [q_room, k_room, v_room, p_room, q_t, ..]: &mut Room,
) {
    let ((queries, e), (tokens, _), (rows, _)) = (q.shape(), k.shape(), y.shape());
    let (d, columns) = (e / heads, queries.next_multiple_of(16));
    let width = S::operands(d);
    let (q, k, v) = (simd.along(q, q_room), simd.along(k, k_room), simd.down(v, v_room));
    for (head, p) in maps.chunks_exact_mut(tokens * columns).take(heads).enumerate() {
        transpose(q.cols(head * width, width), q_t.room(width, columns)); // [Q, D] -> [D, padded Q]
        let scores = MatMut::new(p, tokens, columns);
        multiply(simd, k.cols(head * width, width), q_t.mat(width, columns), Start::Zero, scores); // [S, D] · [D, Q]
        softmax_columns(p, columns, 1.0 / (d as f32).sqrt(), S::VALUES > 1);
        let p = simd.down(Mat::new(p, tokens, columns), p_room);
        multiply(simd, p.t().rows(0, rows), v.cols(head * d, d), Start::Zero, y.cols(head * d, d)); // [m, S] · [S, D]
    }
}

/// dV = P dY, dP = V dYᵀ, dX = the softmax's gradient of dP, dK = dX Q, dQ = dXᵀ K, head by head: the derivative of the
/// products of [`attention`]. d_y [Q, E] -> d_q [Q, E], d_k and d_v [S, E]
#[inline(always)]
pub(crate) fn attention_backward<S: Simd>(
    simd: S,
    heads: usize,
    [q, k, v]: [Mat; 3],
    maps: &[f32],
    d_y: Mat,
    mut d_qkv: [MatMut; 3],
    [q_room, k_room, v_room, y_room, y_along_room, p_room, x_room, x_along_room, y_t, d_map]: &mut Room,
) {
    let ((queries, e), (tokens, _)) = (q.shape(), k.shape());
    let (d, columns) = (e / heads, queries.next_multiple_of(16));
    let (width, asking) = (S::operands(d), S::operands(queries));
    let (q, k, v) = (simd.down(q, q_room), simd.down(k, k_room), simd.along(v, v_room));
    let (d_y, d_y_along) = (simd.down(d_y, y_room), simd.along(d_y, y_along_room));
    for (head, p) in maps.chunks_exact(tokens * columns).take(heads).enumerate() {
        transpose(d_y_along.cols(head * width, width), y_t.room(width, columns)); // [Q, D] -> [D, padded Q]
        let (y_t, v) = (y_t.mat(width, columns), v.cols(head * width, width));
        multiply(simd, v, y_t, Start::Zero, d_map.room(tokens, columns)); // dP: [S, D] · [D, Q]
        softmax_columns_backward(&mut d_map[..p.len()], p, columns, 1.0 / (d as f32).sqrt());
        let (p, d_x) = (Mat::new(p, tokens, columns), d_map.mat(tokens, columns));
        let [d_q, d_k, d_v] = d_qkv.each_mut().map(|m| m.cols(head * d, d));
        let p = simd.along(p, p_room).cols(0, asking);
        multiply(simd, p, d_y.cols(head * d, d), Start::Zero, d_v); // [S, Q] · [Q, D]
        let along = simd.along(d_x, x_along_room).cols(0, asking);
        multiply(simd, along, q.cols(head * d, d), Start::Zero, d_k); // [S, Q] · [Q, D]
        let d_x = simd.down(d_x, x_room).t().rows(0, queries);
        multiply(simd, d_x, k.cols(head * d, d), Start::Zero, d_q); // [Q, S] · [S, D]
    }
}
