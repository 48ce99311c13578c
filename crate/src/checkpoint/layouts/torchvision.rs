//! torchvision's names: `class_token`, `encoder.layers.encoder_layer_0.self_attention.in_proj_weight`, `heads.head.weight`.
//!
//! Files from before torchvision 0.13 call the MLP's layers `mlp.linear_1` and `mlp.linear_2`, later ones `mlp.0` and
//! `mlp.3`.

use super::Layout;
use super::input::UsualInput;
use super::positions::Interpolation;
use crate::data::Filter;

pub(super) const LAYOUT: Layout = Layout {
    name: "torchvision",
    signs: &["class_token", "encoder.layers.encoder_layer_0.ln_1.weight"],
    names: &[
        ("class_token", "embedding.cls_token"),
        ("encoder.pos_embedding", "embedding.pos_embedding"),
        ("conv_proj", "embedding.conv1"),
        ("encoder.layers.encoder_layer_#.ln_1", "encoder.#.norm1"),
        ("encoder.layers.encoder_layer_#.self_attention.in_proj_weight", "encoder.#.attention.queries.weight"),
        ("encoder.layers.encoder_layer_#.self_attention.in_proj_weight", "encoder.#.attention.keys.weight"),
        ("encoder.layers.encoder_layer_#.self_attention.in_proj_weight", "encoder.#.attention.values.weight"),
        ("encoder.layers.encoder_layer_#.self_attention.in_proj_bias", "encoder.#.attention.queries.bias"),
        ("encoder.layers.encoder_layer_#.self_attention.in_proj_bias", "encoder.#.attention.keys.bias"),
        ("encoder.layers.encoder_layer_#.self_attention.in_proj_bias", "encoder.#.attention.values.bias"),
        ("encoder.layers.encoder_layer_#.self_attention.out_proj", "encoder.#.attention.out_projection"),
        ("encoder.layers.encoder_layer_#.ln_2", "encoder.#.norm2"),
        ("encoder.layers.encoder_layer_#.mlp.0", "encoder.#.fc1"),
        ("encoder.layers.encoder_layer_#.mlp.3", "encoder.#.fc2"),
        ("encoder.layers.encoder_layer_#.mlp.linear_1", "encoder.#.fc1"),
        ("encoder.layers.encoder_layer_#.mlp.linear_2", "encoder.#.fc2"),
        ("encoder.ln", "norm"),
        ("heads.pre_logits", "classifier.fc1"),
        ("heads.head", "classifier.fc2"),
    ],
    unused: &[],
    own: false,
    head_width: 64,
    norm_epsilon: 1e-6,
    interpolation: Interpolation::BicubicCorners,
    input: UsualInput { imagenet: true, crop: Some(0.875), filter: Filter::Bilinear },
    any_image_size: false,
    prepare: |dict| dict,
};
