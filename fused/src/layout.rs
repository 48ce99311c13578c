//! Places of the parameters in the flat vector.

/// Offsets of a layer's weight and bias in the flat vector of all parameters.
#[derive(Clone, Copy)]
pub(super) struct LayerOffsets {
    pub weight: usize,
    pub bias: usize,
}

/// Assigns offsets to parameters in the order in which tch creates them. The field is the next free offset.
#[derive(Default)]
pub(super) struct Cursor(pub usize);

impl Cursor {
    pub fn parameter(&mut self, length: usize) -> usize {
        self.0 += length;
        self.0 - length
    }

    /// A linear or convolution layer: bias [outputs], then weight [outputs, inputs].
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> LayerOffsets {
        let bias = self.parameter(outputs);
        LayerOffsets { bias, weight: self.parameter(outputs * inputs) }
    }

    /// A norm: weight [width], then bias [width].
    pub fn norm(&mut self, width: usize) -> LayerOffsets {
        LayerOffsets { weight: self.parameter(width), bias: self.parameter(width) }
    }
}
