//! Pictures of the architectures: a ViT with one of its blocks, and the training of a DeiT with its teacher.

mod deit;
mod tokens;
mod vit;

pub use deit::deit_architecture;
pub use vit::vit_architecture;

use crate::Config;

/// Colours of the parts in both pictures.
mod colors {
    use crate::plot::Color;

    pub const PATCH: Color = Color::SKY;
    pub const CLASS: Color = Color::VERMILLION;
    pub const DISTILLATION: Color = Color::GREEN;
    pub const POSITION: Color = Color::ORANGE;
    pub const TEACHER: Color = Color::BLUE;
    pub const RESIDUAL: Color = Color::PURPLE;
    pub const LAYER: Color = Color::AXIS;
    pub const ARROW: Color = Color::AXIS_TEXT;
}

/// A whole number with commas between thousands.
fn thousands(number: i64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

/// Numbers of parameters of a ViT, by part.
struct Parameters {
    attention: i64,
    mlp: i64,
    /// Both norms of a block.
    norms: i64,
    /// All parts.
    vit: i64,
    /// All parts of a DeiT, which has one more token and one more head.
    deit: i64,
}

impl Parameters {
    fn of(config: &Config) -> Self {
        let Config { embed_dim, patch_size, n_channels, n_layers, forward_mul, n_classes, .. } = *config;
        let linear = |inputs: i64, outputs: i64| inputs * outputs + outputs;
        let hidden = embed_dim * forward_mul;
        let attention = 4 * linear(embed_dim, embed_dim);
        let mlp = linear(embed_dim, hidden) + linear(hidden, embed_dim);
        let norms = 2 * 2 * embed_dim;
        let embedding = linear(n_channels * patch_size * patch_size, embed_dim) + (config.n_patches() + 2) * embed_dim;
        let head = linear(embed_dim, embed_dim) + linear(embed_dim, n_classes);
        let vit = embedding + n_layers * (attention + mlp + norms) + 2 * embed_dim + head;
        Parameters { attention, mlp, norms, vit, deit: vit + 2 * embed_dim + linear(embed_dim, n_classes) }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use tch::Device;

    use super::*;
    use crate::config::Distillation;
    use crate::model::{Model, MyDeiT, VisionTransformer};

    #[test]
    fn parameters_are_those_of_the_models() {
        let other = Config { patch_size: 7, embed_dim: 24, n_layers: 3, forward_mul: 4, ..Config::default() };
        for config in [Config::default(), Config { n_attention_heads: 2, ..other }] {
            let parameters = Parameters::of(&config);
            assert_eq!(parameters.vit, VisionTransformer::new(&config, Device::Cpu).unwrap().parameters());
            assert_eq!(parameters.deit, MyDeiT::new(&config, Device::Cpu).unwrap().parameters());
        }
        let homework = Parameters::of(&Config::default());
        assert_eq!((homework.attention, homework.mlp, homework.norms), (16_640, 16_576, 256));
    }

    #[test]
    fn wrong_arguments_are_sentences() {
        let (config, image) = (Config::default(), Array2::zeros([28, 28]));
        let message = vit_architecture(&config, &Array2::zeros([14, 28])).unwrap_err().to_string();
        assert_eq!(message, "the image is 14 × 28, the configuration's are 28 × 28");
        let message = vit_architecture(&Config { patch_size: 5, ..config.clone() }, &image).unwrap_err().to_string();
        assert_eq!(message, "IMAGE_SIZE 28 is not a multiple of PATCH_SIZE 5");
        let message = |distillation| {
            let config = Config { distillation, ..config.clone() };
            deit_architecture(&config, &image).map(|figure| figure.alt().to_string()).map_err(|error| error.to_string())
        };
        assert!(message(Distillation::Labels).unwrap_err().contains("set DISTILLATION to hard or soft"));
        // λ τ² = 0.1 · 9.
        assert!(message(Distillation::Soft).unwrap().contains("KL divergence (λ τ² = 0.9) of the distillation head"));
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!([7, 256, 1_000, 210_122].map(thousands), ["7", "256", "1,000", "210,122"]);
    }
}
