//! Stand-in for architectures without bfloat16 products: [`detect`] returns false, so nothing here is used.

use super::block::BlockRun;
use super::parameters::{BlockWeights, VitParameters};
use super::rollout::Fusion;

pub(super) fn detect() -> bool {
    false
}

#[derive(Default)]
pub(super) struct Scratch;

#[derive(Default)]
pub(super) struct Weights;

impl Weights {
    pub fn load(&mut self, _: &BlockWeights, _: &[f32], _: usize) {}

    pub fn forward(
        &self,
        _: &VitParameters,
        _: usize,
        _: &mut [f32],
        _: Option<(Fusion, &mut [f32])>,
        _: &mut Scratch,
        _: BlockRun,
    ) {
        unreachable!("`detect` returns false")
    }
}
