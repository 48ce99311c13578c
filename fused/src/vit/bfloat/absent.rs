//! In the place of a block where no processor multiplies bfloat16 numbers by the instructions used here.

use crate::explain::Fusion;
use crate::fused::block::Site;
use crate::fused::network::{BlockPlaces, BlockWeights, Network, Sizes};

#[derive(Default)]
pub(in crate::fused) struct Weights;

impl Weights {
    pub fn load(&mut self, _: &BlockWeights, _: &[f32], _: usize) {}
}

pub(in crate::fused) struct Scratch;

impl Scratch {
    pub fn new(_: &Sizes, _: usize) -> Self {
        Scratch
    }
}

#[derive(Clone, Copy)]
#[allow(dead_code)] // what the real one reads
pub(in crate::fused) struct Block<'a> {
    pub network: &'a Network,
    pub weights: &'a Weights,
    pub places: &'a BlockPlaces,
    pub index: usize,
}

impl Block<'_> {
    pub fn forward(&self, _: &mut [f32], _: Option<(Fusion, &mut [f32])>, _: &mut Scratch, _: Site) {
        unreachable!("`detect` says no")
    }
}
