//! Sizes of a network, its layers, and its parameters.

use super::NormStatistics;
use super::layer::Layer;
use super::norm::squares;
use crate::cpu::{Level, Simd, dispatch};
use crate::layers::{Cursor, Linear, Room};
use crate::threads::run_jobs;
use crate::{Error, Result};

/// Sizes of the network: stages of 3 × 3 convolutions with batch norm and ReLU, each ended by 2 × 2 max pooling, and two
/// linear layers with dropout before each.
#[derive(Clone, Debug, PartialEq)]
pub struct CnnShape {
    /// Pixels of an image's side.
    pub image_side: usize,
    pub channels: usize,
    /// Output channels of each stage's convolutions; multiples of 32.
    pub stages: Vec<Vec<usize>>,
    /// Width of the first linear layer; a multiple of 16.
    pub hidden: usize,
    pub classes: usize,
    /// Dropout rate in training.
    pub dropout: f64,
}

impl CnnShape {
    /// Values of an image [C, I, I].
    pub fn image_len(&self) -> usize {
        self.channels * self.image_side * self.image_side
    }

    pub(super) fn check(&self) -> Result<()> {
        let outputs = || self.stages.iter().flatten();
        let possible = [self.channels, self.hidden, self.classes, outputs().count()].iter().all(|size| *size > 0)
            && self.stages.iter().all(|stage| !stage.is_empty())
            && self.stages.iter().fold(self.image_side, |side, _| side / 2) > 0
            && outputs().all(|outputs| *outputs > 0 && outputs.is_multiple_of(32))
            && self.hidden.is_multiple_of(16)
            && (0.0..1.0).contains(&self.dropout);
        match possible {
            true => Ok(()),
            false => Err(Error(format!(
                "{self:?} is impossible: give positive sizes, an image that all stages can halve, output channels as \
                 multiples of 32, hidden as a multiple of 16, and dropout in [0, 1)"
            ))),
        }
    }
}

/// Sizes and parameters, shared by the threads of a pass.
pub(super) struct Network {
    pub shape: CnnShape,
    pub layers: Vec<Layer>,
    /// All parameters, in the order of [`Cnn::load`](super::Cnn::load).
    pub flat: Vec<f32>,
    pub fc1: Linear,
    pub fc2: Linear,
    /// Width of the last layer's output, flattened.
    pub features: usize,
}

impl Network {
    pub fn new(shape: CnnShape) -> Self {
        let (mut next, mut layers) = (Cursor::default(), Vec::new());
        let (mut side, mut inputs) = (shape.image_side, shape.channels);
        for stage in &shape.stages {
            for (i, &outputs) in stage.iter().enumerate() {
                layers.push(Layer::new(&mut next, (side, inputs, outputs), i + 1 == stage.len()));
                inputs = outputs;
            }
            side /= 2;
        }
        let features = inputs * side * side;
        Network {
            fc1: next.linear(features, shape.hidden),
            fc2: next.linear(shape.hidden, shape.classes),
            // NaN differs from all parameters, so the first `load` arranges them.
            flat: vec![f32::NAN; next.0],
            features,
            layers,
            shape,
        }
    }

    pub fn last(&self) -> &Layer {
        self.layers.last().expect("the shape has layers")
    }

    /// Arranges the parameters if they differ from those of the last call.
    pub fn load(&mut self, parameters: &[f32], level: Level, threads: usize) {
        if *parameters == *self.flat {
            return;
        }
        self.flat.copy_from_slice(parameters);
        let flat = &self.flat;
        let mut loads = Vec::new();
        for layer in &mut self.layers {
            let weights = &flat[layer.conv..][..layer.weights()];
            loads.extend(layer.load(weights).into_iter().map(|mapped| (mapped, weights)));
        }
        // The last layers are the largest and start first.
        loads.reverse();
        run_jobs(&mut vec![(); threads], loads, |(), (mapped, weights)| mapped.load(level, weights));
        let room = &mut Room::default();
        dispatch!(level, simd => [&mut self.fc1, &mut self.fc2].map(|layer| layer.load(simd.float32(), flat, room)));
    }

    /// Calls `each` with every feature, in the order of the tensor [C, I, I], and its place in the last layer's output.
    #[inline(always)]
    pub fn feature_positions(&self, mut each: impl FnMut(usize, usize)) {
        let (grid, channels) = (self.last().next_grid(), self.last().outputs);
        for (y, x) in squares(grid.side) {
            for channel in 0..channels {
                each((channel * grid.side + y) * grid.side + x, grid.at(y, x) * channels + channel);
            }
        }
    }

    /// Sets the statistics of all norms.
    pub fn set_norms(&mut self, statistics: &[NormStatistics]) -> Result<()> {
        let fits = |(layer, s): (&Layer, &NormStatistics)| [s.mean.len(), s.variance.len()] == [layer.outputs; 2];
        if statistics.len() != self.layers.len() || !self.layers.iter().zip(statistics).all(fits) {
            return Err(Error("the statistics don't fit the norms; give a mean and variance for each channel".into()));
        }
        for (layer, NormStatistics { mean, variance }) in self.layers.iter_mut().zip(statistics) {
            layer.norm.set(&self.flat, mean, variance);
        }
        Ok(())
    }
}
