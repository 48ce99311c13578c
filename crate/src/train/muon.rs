//! Muon: momentum with orthogonal updates, for the hidden matrices of a network
//! (K. Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon>; scaled as in
//! [arXiv 2502.16982](https://arxiv.org/abs/2502.16982), equation 4).
//!
//! With the gradient G of an r × c matrix W, learning rate η, μ = 0.95 and weight decay λ:
//!
//! ```text
//! M ← μ M + (1 − μ) G        U = μ M + (1 − μ) G
//! W ← W − η λ W − η 0.2 √max(r, c) orthogonal(U)
//! ```
//!
//! The factor 0.2 √max(r, c) gives the update the size of AdamW's, so that both share learning rate and decay.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

const MOMENTUM: f64 = 0.95;

/// Coefficients of the iteration in [`orthogonal`].
const COEFFICIENTS: [f64; 3] = [3.4445, -4.775, 2.0315];

/// The shortest side of a hidden matrix. Tokens, positions, norms and the classifier's last layer have a shorter one.
const SHORTEST: i64 = 32;

/// The momentum of a model's hidden matrices.
#[derive(Debug)]
pub struct Muon {
    /// `[n]` M for all parameters of the model; entries outside of the matrices stay zero.
    pub(super) momentum: Tensor,
    /// Start in the vector of all parameters, for the matrices of each shape (rows, columns).
    matrices: BTreeMap<(i64, i64), Vec<i64>>,
}

impl Muon {
    /// Finds the matrices among `parameters`, which lie one after the other in a vector. The kernels of a convolution
    /// count as a matrix with a row per output channel.
    pub(super) fn new(parameters: &[Tensor]) -> Self {
        let (mut start, mut matrices) = (0, BTreeMap::<_, Vec<i64>>::new());
        for parameter in parameters {
            let length = parameter.numel() as i64;
            if parameter.dim() >= 2 {
                let rows = parameter.size()[0];
                let shape = (rows, length / rows);
                if shape.0.min(shape.1) >= SHORTEST {
                    matrices.entry(shape).or_default().push(start);
                }
            }
            start += length;
        }
        Muon { momentum: Tensor::zeros([start], (Kind::Float, parameters[0].device())), matrices }
    }

    /// Takes up the gradient `[n]`, and replaces the matrices' entries of `update` `[n]` by those of Muon for learning rate
    /// `lr`, without the weight decay.
    pub(super) fn replace(&mut self, update: &Tensor, gradient: &Tensor, lr: f64) {
        for (&(rows, columns), starts) in &self.matrices {
            let length = rows * columns;
            let part = |of: &Tensor, start: i64| of.narrow(0, start, length).view([rows, columns]);
            let directions: Vec<Tensor> = starts
                .iter()
                .map(|&start| {
                    let (mut momentum, gradient) = (part(&self.momentum, start), part(gradient, start));
                    let _ = momentum.lerp_(&gradient, 1.0 - MOMENTUM);
                    gradient.lerp(&momentum, MOMENTUM)
                })
                .collect();
            let scale = -lr * 0.2 * (rows.max(columns) as f64).sqrt();
            let orthogonal = orthogonal(&Tensor::stack(&directions, 0)) * scale; // [k, r, c]
            for (i, &start) in starts.iter().enumerate() {
                part(update, start).copy_(&orthogonal.get(i as i64));
            }
        }
    }
}

/// Matrices with nearly the same singular vectors whose singular values lie between about 0.7 and 1.2: five
/// Newton–Schulz iterations X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X on each of the matrices [k, r, c], from X = U / ‖U‖.
///
/// ```
/// use vitlab::{tch::{Kind, Tensor}, train::orthogonal};
/// // A diagonal matrix stays diagonal: each entry x becomes 3.4445 x − 4.775 x³ + 2.0315 x⁵, five times, from 3/5 and 4/5.
/// let matrix = Tensor::from_slice(&[3.0, 0.0, 0.0, 4.0]).view([1, 2, 2]).to_kind(Kind::Float);
/// let iterate = |x: f64| (0..5).fold(x, |x, _| 3.4445 * x - 4.775 * x.powi(3) + 2.0315 * x.powi(5));
/// let result = orthogonal(&matrix);
/// for (row, column, expected) in [(0, 0, iterate(0.6)), (1, 1, iterate(0.8)), (0, 1, 0.0)] {
///     assert!((result.double_value(&[0, row, column]) - expected).abs() < 1e-5);
/// }
/// ```
pub fn orthogonal(matrices: &Tensor) -> Tensor {
    let size = matrices.size(); // [k, r, c]
    if size[1] > size[2] {
        return orthogonal(&matrices.transpose(1, 2)).transpose(1, 2); // the smaller product X Xᵀ
    }
    let norms = matrices.square().sum_dim_intlist([1i64, 2].as_slice(), true, None).sqrt().clamp_min(1e-7); // [k, 1, 1]
    let mut x = matrices / norms;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..5 {
        let gram = x.bmm(&x.transpose(1, 2)); // [k, r, c] -> [k, r, r]
        let polynomial = &gram * b + gram.bmm(&gram) * c;
        x = &x * a + polynomial.bmm(&x); // [k, r, c]
    }
    x
}
