//! timm's names: `patch_embed.proj.weight`, `blocks.0.attn.qkv.weight`, `head.weight`.
//!
//! facebookresearch's DeiT, DeiT III (`gamma_1` for `ls1.gamma`), DINO and MAE have the same names. timm computes the
//! norm with epsilon 1e-6. Its config.json tells the architecture by name, from which the number of heads follows.

use super::Layout;
use super::input::UsualInput;
use super::names::Names;
use super::positions::Interpolation;
use crate::data::Filter;

pub(super) const LAYOUT: Layout = Layout {
    name: "timm",
    signs: &["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"],
    names: NAMES,
    // The heads that DINO and MAE are trained with.
    unused: &["head.mlp", "head.last_layer", "mask_token", "decoder"],
    own: false,
    head_width: 64,
    norm_epsilon: 1e-6,
    interpolation: Interpolation::BicubicAntialias,
    input: UsualInput { imagenet: false, crop: Some(0.9), filter: Filter::Bicubic },
    any_image_size: false,
    prepare: |dict| dict,
};

/// A DeiT with two heads.
pub(super) const DISTILLED: Layout = Layout { signs: &["dist_token"], input: IMAGENET, ..LAYOUT };

/// A masked autoencoder as trained, which has a mask token as DINOv2 has.
pub(super) const MAE: Layout = Layout { name: "MAE", signs: &["decoder_embed.weight"], input: IMAGENET, ..LAYOUT };

pub(super) const IMAGENET: UsualInput = UsualInput { imagenet: true, crop: Some(0.875), filter: Filter::Bicubic };

const NAMES: &Names = &[
    ("cls_token", "embedding.cls_token"),
    ("dist_token", "embedding.dist_token"),
    ("reg_token", "embedding.registers"),
    ("register_tokens", "embedding.registers"), // DINOv2
    ("pos_embed", "embedding.pos_embedding"),
    ("patch_embed.proj", "embedding.conv1"),
    ("blocks.#.norm1", "encoder.#.norm1"),
    ("blocks.#.attn.qkv", "encoder.#.attention.queries"),
    ("blocks.#.attn.qkv", "encoder.#.attention.keys"),
    ("blocks.#.attn.qkv", "encoder.#.attention.values"),
    ("blocks.#.attn.proj", "encoder.#.attention.out_projection"),
    ("blocks.#.ls1.gamma", "encoder.#.scale1"),
    ("blocks.#.gamma_1", "encoder.#.scale1"), // DeiT III
    ("blocks.#.norm2", "encoder.#.norm2"),
    ("blocks.#.mlp.fc1", "encoder.#.fc1"),
    ("blocks.#.mlp.fc2", "encoder.#.fc2"),
    ("blocks.#.ls2.gamma", "encoder.#.scale2"),
    ("blocks.#.gamma_2", "encoder.#.scale2"),
    ("norm", "norm"),
    ("fc_norm", "classifier.norm"),
    ("pre_logits.fc", "classifier.fc1"),
    ("head", "classifier.fc2"),
    ("head_dist", "classifier.fc_dist"),
    ("linear_head", "classifier.fc2"), // DINOv2
];

/// The number of heads of timm's architectures, by the size in the name and the embedding width, as timm 1.0.31 has them.
pub(super) fn heads(architecture: &str, embed: i64) -> Option<i64> {
    const HEADS: &[(&str, i64, i64)] = &[
        ("test", 64, 2),
        ("test", 96, 3),
        ("tiny", 192, 3),
        ("xsmall", 256, 4),
        ("wee", 256, 4),
        ("pwee", 256, 4),
        ("dwee", 256, 4),
        ("little", 320, 5),
        ("dlittle", 320, 5),
        ("small", 384, 6),
        ("medium", 512, 8),
        ("mediumd", 512, 8),
        ("betwixt", 640, 10),
        ("base", 768, 12),
        ("large", 1024, 16),
        ("so400m", 1152, 16),
        ("huge", 1280, 16),
        ("giant", 1408, 16),
        ("giant", 1536, 24),
        ("gigantic", 1664, 16),
    ];
    if architecture == "vit_base_patch16_gap_224" {
        return Some(16); // the one that doesn't follow its size
    }
    let words: Vec<&str> = architecture.split('_').collect();
    HEADS.iter().find(|(size, width, _)| *width == embed && words.contains(size)).map(|(_, _, heads)| *heads)
}
