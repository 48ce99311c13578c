//! Sizes of a network, its layers, and where their parameters lie.

use crate::cpu::{Level, Operation, Simd, dispatch};
use crate::layers::{Cursor, Linear, Norm, Room};
use crate::{Error, Result};

/// Sizes of a Vision Transformer (arXiv 2010.11929) or a DeiT student (arXiv 2012.12877).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Pixels of an image's side.
    pub image_side: usize,
    /// Pixels of a patch's side.
    pub patch_side: usize,
    pub channels: usize,
    /// Width of a token; a multiple of 16 per head.
    pub embed: usize,
    pub heads: usize,
    /// Width of the MLP between its two layers; a multiple of 16.
    pub hidden: usize,
    pub layers: usize,
    pub classes: usize,
    /// Rows of the position embedding: one per token, or one per patch.
    pub position_rows: usize,
    /// Whether there is a distillation token with a head of its own, as in a DeiT.
    pub distilled: bool,
    /// Dropout rate in training.
    pub dropout: f64,
}

impl Shape {
    /// N, the number of patches.
    pub fn patches(&self) -> usize {
        (self.image_side / self.patch_side).pow(2)
    }

    /// Tokens before the patches, which is also the number of output heads: class, and distillation in a DeiT.
    pub fn prefix(&self) -> usize {
        1 + usize::from(self.distilled)
    }

    /// S, the number of tokens.
    pub fn tokens(&self) -> usize {
        self.prefix() + self.patches()
    }

    /// Values of an image [C, I, I].
    pub fn image_len(&self) -> usize {
        self.channels * self.image_side * self.image_side
    }

    /// Length of the flat vector of all parameters.
    pub fn parameters(&self) -> usize {
        Network::new(*self).flat.len()
    }

    /// Values of a patch [C, P, P].
    pub(super) fn patch_len(&self) -> usize {
        self.channels * self.patch_side * self.patch_side
    }

    /// Values of a patch, padded to whole vectors.
    pub(super) fn patch_width(&self) -> usize {
        self.patch_len().next_multiple_of(16)
    }

    /// Tokens of a row, padded to whole vectors.
    pub(super) fn padded_tokens(&self) -> usize {
        self.tokens().next_multiple_of(16)
    }

    pub(super) fn check(&self) -> Result<()> {
        let sizes = [self.image_side, self.patch_side, self.channels, self.embed, self.heads, self.hidden];
        let positive = sizes.into_iter().chain([self.layers, self.classes]).all(|size| size > 0);
        if positive && !self.embed.is_multiple_of(16 * self.heads) {
            return Err(Error(format!(
                "the fused engine needs heads whose width is a multiple of 16 numbers; EMBED_DIM {} and \
                 N_ATTENTION_HEADS {} give {}; use the model's own forward pass",
                self.embed,
                self.heads,
                self.embed as f64 / self.heads as f64
            )));
        }
        if !positive
            || !self.image_side.is_multiple_of(self.patch_side)
            || !self.hidden.is_multiple_of(16)
            || ![self.patches(), self.tokens()].contains(&self.position_rows)
            || !(0.0..1.0).contains(&self.dropout)
        {
            return Err(Error(format!(
                "{self:?} is impossible: give positive sizes, whole patches, hidden as a multiple of 16, a position for \
                 each patch or token, and dropout in [0, 1)"
            )));
        }
        Ok(())
    }
}

/// Layers of an encoder block.
pub(super) struct Block {
    pub norm1: Norm,
    pub queries: Linear,
    pub keys: Linear,
    pub values: Linear,
    pub out: Linear,
    pub norm2: Norm,
    pub fc1: Linear,
    pub fc2: Linear,
}

/// The layers and parameters of a network, shared by the threads of a pass.
pub(super) struct Network {
    pub shape: Shape,
    /// All parameters, in the order of [`Transformer::load`](super::Transformer::load) and of vitlab's models.
    pub flat: Vec<f32>,
    /// The level whose operands the layers hold.
    arranged: Option<Level>,
    pub conv: Linear,
    /// Offset of the position embedding.
    pub position: usize,
    /// Offsets of the class token and, in a DeiT, of the distillation token.
    pub tokens: Vec<usize>,
    pub blocks: Vec<Block>,
    pub norm: Norm,
    /// The class head's layer before tanh.
    pub fc1: Linear,
    /// The layer that gives the logits of each head.
    pub logits: Vec<Linear>,
}

impl Network {
    pub fn new(shape: Shape) -> Self {
        let (e, f) = (shape.embed, shape.hidden);
        let mut next = Cursor::default();
        let block = |next: &mut Cursor| Block {
            norm1: next.norm(e),
            queries: next.linear(e, e),
            keys: next.linear(e, e),
            values: next.linear(e, e),
            out: next.linear(e, e),
            norm2: next.norm(e),
            fc1: next.linear(e, f),
            fc2: next.linear(f, e),
        };
        Network {
            conv: next.linear(shape.patch_len(), e),
            position: next.parameter(shape.position_rows * e),
            tokens: (0..shape.prefix()).map(|_| next.parameter(e)).collect(),
            blocks: (0..shape.layers).map(|_| block(&mut next)).collect(),
            norm: next.norm(e),
            fc1: next.linear(e, e),
            logits: (0..shape.prefix()).map(|_| next.linear(e, shape.classes)).collect(),
            flat: vec![f32::NAN; next.0],
            arranged: None,
            shape,
        }
    }

    /// Copies the parameters. They become operands when a pass needs them.
    pub fn load(&mut self, parameters: &[f32]) {
        if *parameters != *self.flat {
            self.flat.copy_from_slice(parameters);
            self.arranged = None;
        }
    }

    /// Arranges the parameters as the level's operands.
    pub fn arrange(&mut self, level: Level) {
        if self.arranged != Some(level) {
            dispatch!(level, simd => simd.run(&mut *self));
            self.arranged = Some(level);
        }
    }

    /// `length` parameters from `start` on.
    pub fn at(&self, start: usize, length: usize) -> &[f32] {
        &self.flat[start..start + length]
    }
}

/// Arranges the parameters.
impl<S: Simd> Operation<S> for &mut Network {
    #[inline(always)]
    fn call(self, simd: S) {
        let (flat, room) = (&self.flat, &mut Room::default());
        self.conv.load(simd.float32(), flat, room);
        self.fc1.load(simd.float32(), flat, room);
        for Block { queries, keys, values, out, fc1, fc2, .. } in &mut self.blocks {
            for layer in [queries, keys, values, out, fc1, fc2] {
                layer.load(simd, flat, room);
            }
        }
    }
}
