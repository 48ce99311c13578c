//! The names of Hugging Face's transformers: `embeddings.cls_token`, `encoder.layer.0.attention.attention.query.weight`,
//! `classifier.weight`, with or without `vit.`, `deit.` or `dinov2.` before them. Version 5 of transformers renamed the
//! modules of the blocks, but writes files with the older names.
//!
//! Its config.json has heads, norm epsilon, activation and the names of the classes. A DeiT with teacher has two heads,
//! one without has two tokens and the class token's head. DINOv2's classifier gets the class token and the mean patch.

use super::Layout;
use super::input::UsualInput;
use super::names::Names;
use super::positions::Interpolation;
use crate::data::Filter;

pub(super) const VIT: Layout = Layout {
    name: "transformers' ViT",
    signs: &["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"],
    names: NAMES,
    // Tensors of masked image modelling, and a layer that no classifier uses.
    unused: &["embeddings.mask_token", "decoder", "pooler"],
    own: false,
    head_width: 64,
    norm_epsilon: 1e-12,
    interpolation: Interpolation::Bicubic,
    input: UsualInput { imagenet: false, crop: None, filter: Filter::Bilinear },
    any_image_size: false,
    prepare: |dict| dict,
};

pub(super) const DEIT: Layout =
    Layout { name: "transformers' DeiT", signs: &["embeddings.distillation_token"], input: IMAGENET, ..VIT };

pub(super) const DINOV2: Layout = Layout {
    name: "transformers' Dinov2",
    signs: &["encoder.layer.0.layer_scale1.lambda1"],
    norm_epsilon: 1e-6,
    input: IMAGENET,
    any_image_size: true,
    ..VIT
};

pub(super) const DINOV2_WITH_REGISTERS: Layout = Layout {
    name: "transformers' Dinov2WithRegisters",
    signs: &["embeddings.register_tokens"],
    interpolation: Interpolation::BicubicAntialias,
    ..DINOV2
};

const IMAGENET: UsualInput = UsualInput { imagenet: true, crop: Some(0.875), filter: Filter::Bicubic };

/// Prefix of the names of a model with a head.
pub(super) const PREFIXES: [&str; 4] = ["vit.", "deit.", "dinov2.", "dinov2_with_registers."];

const NAMES: &Names = &[
    ("embeddings.cls_token", "embedding.cls_token"),
    ("embeddings.distillation_token", "embedding.dist_token"),
    ("embeddings.register_tokens", "embedding.registers"),
    ("embeddings.position_embeddings", "embedding.pos_embedding"),
    ("embeddings.patch_embeddings.projection", "embedding.conv1"),
    // ViT, DeiT
    ("encoder.layer.#.layernorm_before", "encoder.#.norm1"),
    ("encoder.layer.#.layernorm_after", "encoder.#.norm2"),
    ("encoder.layer.#.intermediate.dense", "encoder.#.fc1"),
    ("encoder.layer.#.output.dense", "encoder.#.fc2"),
    // Dinov2
    ("encoder.layer.#.norm1", "encoder.#.norm1"),
    ("encoder.layer.#.norm2", "encoder.#.norm2"),
    ("encoder.layer.#.mlp.fc1", "encoder.#.fc1"),
    ("encoder.layer.#.mlp.fc2", "encoder.#.fc2"),
    ("encoder.layer.#.layer_scale1.lambda1", "encoder.#.scale1"),
    ("encoder.layer.#.layer_scale2.lambda1", "encoder.#.scale2"),
    // all
    ("encoder.layer.#.attention.attention.query", "encoder.#.attention.queries"),
    ("encoder.layer.#.attention.attention.key", "encoder.#.attention.keys"),
    ("encoder.layer.#.attention.attention.value", "encoder.#.attention.values"),
    ("encoder.layer.#.attention.output.dense", "encoder.#.attention.out_projection"),
    // The names that version 5 has in memory; its files keep the older ones.
    ("encoder.layer.#.attention.q_proj", "encoder.#.attention.queries"),
    ("encoder.layer.#.attention.k_proj", "encoder.#.attention.keys"),
    ("encoder.layer.#.attention.v_proj", "encoder.#.attention.values"),
    ("encoder.layer.#.attention.o_proj", "encoder.#.attention.out_projection"),
    ("layers.#.layernorm_before", "encoder.#.norm1"),
    ("layers.#.layernorm_after", "encoder.#.norm2"),
    ("layers.#.attention.q_proj", "encoder.#.attention.queries"),
    ("layers.#.attention.k_proj", "encoder.#.attention.keys"),
    ("layers.#.attention.v_proj", "encoder.#.attention.values"),
    ("layers.#.attention.o_proj", "encoder.#.attention.out_projection"),
    ("layers.#.mlp.fc1", "encoder.#.fc1"),
    ("layers.#.mlp.fc2", "encoder.#.fc2"),
    ("layernorm", "norm"),
    ("classifier", "classifier.fc2"),
    ("cls_classifier", "classifier.fc2"),
    ("distillation_classifier", "classifier.fc_dist"),
];
