//! The parameters of a network, arranged for the matrix products.

use super::bfloat;
use super::shape::{BlockLayout, Layout, Shape};
use crate::Result;
use crate::aligned::Aligned;
use crate::error::check_parameters;
use crate::layers::transpose;
use crate::layout::LayerOffsets;

/// The matrices of a block as right operands of products: [inputs, outputs].
#[derive(Default)]
pub(super) struct BlockWeights {
    pub queries: Aligned,
    /// Keys and values side by side: [E, 2E].
    pub keys_values: Aligned,
    pub keys_values_bias: Aligned,
    /// The same matrix as [2E, E], for the backward pass.
    pub keys_values_back: Aligned,
    pub out: Aligned,
    pub fc1: Aligned,
    pub fc2: Aligned,
}

impl BlockWeights {
    fn load(&mut self, flat: &[f32], layout: &BlockLayout, (e, f): (usize, usize)) {
        transpose_weight(flat, layout.queries, (e, e), &mut self.queries);
        transpose_weight(flat, layout.out, (e, e), &mut self.out);
        transpose_weight(flat, layout.fc1, (f, e), &mut self.fc1);
        transpose_weight(flat, layout.fc2, (e, f), &mut self.fc2);
        let (bias, back) = (self.keys_values_bias.room(2 * e), self.keys_values_back.room(2 * e * e));
        for (i, layer) in [layout.keys, layout.values].into_iter().enumerate() {
            bias[i * e..][..e].copy_from_slice(&flat[layer.bias..][..e]);
            back[i * e * e..][..e * e].copy_from_slice(&flat[layer.weight..][..e * e]);
        }
        transpose(back, (2 * e, e), e, self.keys_values.room(2 * e * e), 2 * e);
    }
}

/// A layer's weight [outputs, inputs] -> [inputs, outputs]
fn transpose_weight(flat: &[f32], layer: LayerOffsets, (outputs, inputs): (usize, usize), to: &mut Aligned) {
    transpose(&flat[layer.weight..], (outputs, inputs), inputs, to.room(inputs * outputs), outputs);
}

/// Sizes and parameters, shared by the threads of a pass.
pub(super) struct VitParameters {
    pub shape: Shape,
    pub layout: Layout,
    /// All parameters, in the order of [`Layout`].
    pub flat: Aligned,
    pub conv: Aligned,
    pub blocks: Vec<BlockWeights>,
    /// The matrices of each block in bfloat16; empty while predictions are in float32.
    pub bfloat: Vec<bfloat::Weights>,
    pub fc1: Aligned,
}

impl VitParameters {
    pub fn new(shape: Shape) -> Result<Self> {
        shape.check()?;
        let layout = Layout::new(&shape);
        Ok(VitParameters {
            conv: Aligned::default(),
            blocks: layout.blocks.iter().map(|_| BlockWeights::default()).collect(),
            bfloat: Vec::new(),
            fc1: Aligned::default(),
            // NaN differs from all parameters, so the first `load` arranges them.
            flat: Aligned::filled(f32::NAN, layout.length),
            shape,
            layout,
        })
    }

    /// Chooses the precision of predictions, from the next [`VitParameters::load`] on.
    pub fn set_bfloat(&mut self, bfloat: bool) {
        self.bfloat.clear();
        self.bfloat.resize_with(if bfloat { self.blocks.len() } else { 0 }, bfloat::Weights::default);
        self.flat.fill(f32::NAN);
    }

    /// Arranges the parameters if they differ from those of the last call.
    pub fn load(&mut self, parameters: &[f32]) -> Result<()> {
        check_parameters(parameters, self.layout.length)?;
        if *parameters == *self.flat {
            return Ok(());
        }
        self.flat.copy_from_slice(parameters);
        let (flat, layout, e) = (&self.flat, &self.layout, self.shape.embed);
        transpose_weight(flat, layout.conv, (e, self.shape.patch_len()), &mut self.conv);
        transpose_weight(flat, layout.fc1, (e, e), &mut self.fc1);
        for (weights, layout) in self.blocks.iter_mut().zip(&layout.blocks) {
            weights.load(flat, layout, (e, self.shape.hidden));
        }
        for ((bfloat, weights), layout) in self.bfloat.iter_mut().zip(&self.blocks).zip(&layout.blocks) {
            bfloat.load(weights, &flat[layout.queries.bias..][..e], self.shape.heads);
        }
        Ok(())
    }

    /// `length` parameters from `start` on.
    pub fn at(&self, start: usize, length: usize) -> &[f32] {
        &self.flat[start..start + length]
    }
}
