//! The homework's own names, which the variables in [`crate::model`] have: `embedding.cls_token`,
//! `encoder.0.attention.queries.weight`, `classifier.fc2.bias`; `stages.0.0.conv.weight` in the CNN.
//!
//! The material notebook's files exist in two forms, with and without a position row for the class token.

use super::Layout;
use super::input::UsualInput;
use super::positions::Interpolation;
use crate::data::Filter;

pub(super) const LAYOUT: Layout = Layout {
    name: "vitlab",
    signs: &["embedding.cls_token", "stages.0.0.conv.weight"],
    names: &[
        ("embedding", "embedding"),
        ("encoder", "encoder"),
        ("norm", "norm"),
        ("classifier", "classifier"),
        ("stages", "stages"),
        ("fc1", "fc1"),
        ("fc2", "fc2"),
    ],
    unused: &[],
    own: true,
    head_width: 16,
    norm_epsilon: 1e-5,
    interpolation: Interpolation::Bicubic,
    input: UsualInput { imagenet: false, crop: None, filter: Filter::Bilinear },
    any_image_size: false,
    prepare: |dict| dict,
};
