//! The names of Google's files (.npz of google-research/vision_transformer), which jeonsworld's PyTorch code reads, too:
//! `Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel`.
//!
//! A kernel has its input axes first: the patches' [P, P, C, E], a query's [E, H, D], the output projection's [H, D, E].
//! Google's code approximates GELU by tanh; timm and transformers compute these files with the exact GELU, as this crate.

use super::input::UsualInput;
use super::names::Names;
use super::positions::Interpolation;
use super::{Layout, StateDict};
use crate::data::Filter;

pub(super) const LAYOUT: Layout = Layout {
    name: "Google",
    signs: &["embedding/kernel", "opt/target/embedding/kernel"],
    names: NAMES,
    unused: &["opt/state"],
    own: false,
    head_width: 64,
    norm_epsilon: 1e-6,
    interpolation: Interpolation::BilinearCorners,
    input: UsualInput { imagenet: false, crop: None, filter: Filter::Bilinear },
    any_image_size: false,
    prepare: torch_shapes,
};

const NAMES: &Names = &[
    ("cls", "embedding.cls_token"),
    ("Transformer/posembed_input/pos_embedding", "embedding.pos_embedding"),
    ("embedding/kernel", "embedding.conv1.weight"),
    ("embedding/bias", "embedding.conv1.bias"),
    ("Transformer/encoderblock_#/LayerNorm_0/scale", "encoder.#.norm1.weight"),
    ("Transformer/encoderblock_#/LayerNorm_0/bias", "encoder.#.norm1.bias"),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/query/kernel", "encoder.#.attention.queries.weight"),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/query/bias", "encoder.#.attention.queries.bias"),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/key/kernel", "encoder.#.attention.keys.weight"),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/key/bias", "encoder.#.attention.keys.bias"),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/value/kernel", "encoder.#.attention.values.weight"),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/value/bias", "encoder.#.attention.values.bias"),
    (
        "Transformer/encoderblock_#/MultiHeadDotProductAttention_1/out/kernel",
        "encoder.#.attention.out_projection.weight",
    ),
    ("Transformer/encoderblock_#/MultiHeadDotProductAttention_1/out/bias", "encoder.#.attention.out_projection.bias"),
    ("Transformer/encoderblock_#/LayerNorm_2/scale", "encoder.#.norm2.weight"),
    ("Transformer/encoderblock_#/LayerNorm_2/bias", "encoder.#.norm2.bias"),
    ("Transformer/encoderblock_#/MlpBlock_3/Dense_0/kernel", "encoder.#.fc1.weight"),
    ("Transformer/encoderblock_#/MlpBlock_3/Dense_0/bias", "encoder.#.fc1.bias"),
    ("Transformer/encoderblock_#/MlpBlock_3/Dense_1/kernel", "encoder.#.fc2.weight"),
    ("Transformer/encoderblock_#/MlpBlock_3/Dense_1/bias", "encoder.#.fc2.bias"),
    ("Transformer/encoder_norm/scale", "norm.weight"),
    ("Transformer/encoder_norm/bias", "norm.bias"),
    ("pre_logits/kernel", "classifier.fc1.weight"),
    ("pre_logits/bias", "classifier.fc1.bias"),
    ("head/kernel", "classifier.fc2.weight"),
    ("head/bias", "classifier.fc2.bias"),
];

/// The number of heads, which only this layout has in its shapes.
pub(super) fn heads(dict: &StateDict) -> Option<i64> {
    let (_, kernel) =
        dict.0.iter().find(|(name, _)| name.ends_with("encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"))?;
    <[i64; 3]>::try_from(kernel.size()).ok().map(|[_, heads, _]| heads)
}

/// The tensors in the shapes of PyTorch's layers, with the output axis first.
fn torch_shapes(dict: StateDict) -> StateDict {
    let tensors = dict.0.into_iter().map(|(name, tensor)| {
        let name = name.strip_prefix("opt/target/").unwrap_or(&name).to_string();
        let tensor = match tensor.dim() {
            2 if name.ends_with("/bias") => tensor.flatten(0, 1), // [H, D] -> [E]
            2 if name.ends_with("/kernel") => tensor.tr(),
            3 if name.ends_with("out/kernel") => tensor.flatten(0, 1).tr(), // [H, D, E] -> [E, H · D]
            3 if name.ends_with("/kernel") => tensor.flatten(1, 2).tr(),    // [E, H, D] -> [H · D, E]
            4 if name.ends_with("/kernel") => tensor.permute([3, 2, 0, 1]), // [P, P, C, E] -> [E, C, P, P]
            _ => tensor,
        };
        (name, tensor)
    });
    StateDict(tensors.collect())
}
