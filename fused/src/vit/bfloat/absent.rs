//! Stand-in for the block on architectures without bfloat16 products.

use crate::vit::block::BlockRun;
use crate::vit::network::{BlockWeights, Network};
use crate::vit::rollout::Fusion;
use crate::vit::shape::{BlockLayout, Shape};

#[derive(Default)]
pub(in crate::vit) struct Weights;

impl Weights {
    pub fn load(&mut self, _: &BlockWeights, _: &[f32], _: usize) {}
}

pub(in crate::vit) struct Scratch;

impl Scratch {
    pub fn new(_: &Shape, _: usize) -> Self {
        Scratch
    }
}

#[derive(Clone, Copy)]
#[allow(dead_code)] // the fields that the other block reads
pub(in crate::vit) struct Block<'a> {
    pub network: &'a Network,
    pub weights: &'a Weights,
    pub layout: &'a BlockLayout,
    pub index: usize,
}

impl Block<'_> {
    pub fn forward(&self, _: &mut [f32], _: Option<(Fusion, &mut [f32])>, _: &mut Scratch, _: BlockRun) {
        unreachable!("`detect` returns false")
    }
}
