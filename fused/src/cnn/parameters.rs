//! The layers, norms and parameters of a network.

use super::layer::Layer;
use super::norm::Norm;
use super::{CnnShape, NormStatistics};
use crate::cpu::CpuLevel;
use crate::error::check_parameters;
use crate::layers::transpose;
use crate::layout::LayerOffsets;
use crate::threads::run_jobs;
use crate::{Error, Result};

/// Sizes and parameters, shared by the threads of a pass, and the norms of the present batch.
pub(super) struct CnnParameters {
    pub shape: CnnShape,
    pub layers: Vec<Layer>,
    pub norms: Vec<Norm>,
    /// All parameters, in the order of [`Cnn::load`](super::Cnn::load).
    pub flat: Vec<f32>,
    pub fc1: LayerOffsets,
    pub fc2: LayerOffsets,
    /// [features, hidden]
    pub fc1_weights: Vec<f32>,
    /// [hidden, padded classes] and [padded classes]
    pub fc2_weights: Vec<f32>,
    pub fc2_bias: Vec<f32>,
    /// Width of the last layer's output, flattened.
    pub features: usize,
}

impl CnnParameters {
    pub fn new(shape: CnnShape) -> Self {
        let (layers, mut next) = shape.layers();
        let last = layers.last().expect("the shape has layers");
        let features = last.outputs * last.next_grid().side.pow(2);
        let columns = shape.classes.next_multiple_of(16);
        CnnParameters {
            norms: vec![Norm::default(); layers.len()],
            fc1: next.linear(features, shape.hidden),
            fc2: next.linear(shape.hidden, shape.classes),
            fc1_weights: vec![0.0; features * shape.hidden],
            fc2_weights: vec![0.0; shape.hidden * columns],
            fc2_bias: vec![0.0; columns],
            // NaN differs from all parameters, so the first `load` arranges them.
            flat: vec![f32::NAN; next.0],
            features,
            layers,
            shape,
        }
    }

    /// Classes, padded to whole vectors.
    pub fn columns(&self) -> usize {
        self.shape.classes.next_multiple_of(16)
    }

    pub fn last(&self) -> &Layer {
        self.layers.last().expect("the shape has layers")
    }

    /// Arranges the parameters if they differ from those of the last call.
    pub fn load(&mut self, parameters: &[f32], level: CpuLevel, threads: usize) -> Result<()> {
        check_parameters(parameters, self.flat.len())?;
        if *parameters == *self.flat {
            return Ok(());
        }
        self.flat.copy_from_slice(parameters);
        let (flat, columns) = (&self.flat, self.columns());
        let mut loads = Vec::new();
        for layer in &mut self.layers {
            loads.extend(layer.load(&flat[layer.conv..][..layer.weights()]));
        }
        // The last layers are the largest and start first.
        loads.reverse();
        run_jobs(&mut vec![(); threads], loads, |(), load| load.run(level));
        let (features, hidden, classes) = (self.features, self.shape.hidden, self.shape.classes);
        let (fc1, fc2) = (&flat[self.fc1.weight..], &flat[self.fc2.weight..]);
        transpose(fc1, (hidden, features), features, &mut self.fc1_weights, hidden);
        transpose(fc2, (classes, hidden), hidden, &mut self.fc2_weights, columns);
        self.fc2_bias[..classes].copy_from_slice(&flat[self.fc2.bias..][..classes]);
        Ok(())
    }

    /// Sets the norm of layer `l` to a mean and variance.
    pub fn set_norm(&mut self, l: usize, mean: Vec<f32>, variance: &[f32]) {
        let layer = &self.layers[l];
        let parameters = |start: usize| &self.flat[start..start + layer.outputs];
        self.norms[l] = Norm::new(mean, variance, parameters(layer.norm.weight), parameters(layer.norm.bias));
    }

    /// Sets all norms.
    pub fn set_norms(&mut self, statistics: &[NormStatistics]) -> Result<()> {
        let fits = |(layer, s): (&Layer, &NormStatistics)| [s.mean.len(), s.variance.len()] == [layer.outputs; 2];
        if statistics.len() != self.layers.len() || !self.layers.iter().zip(statistics).all(fits) {
            return Err(Error("the statistics don't fit the norms; give a mean and variance for each channel".into()));
        }
        for (l, statistics) in statistics.iter().enumerate() {
            self.set_norm(l, statistics.mean.clone(), &statistics.variance);
        }
        Ok(())
    }
}
