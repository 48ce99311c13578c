//! The model and the photographs of notebook 4, or stand-ins for them.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use tch::{Device, Tensor};

use crate::config::asked;
use crate::data::{Filter, Fit, Invert, Photograph, Picture, Prepared, Preprocessing, pretrained};
use crate::error::{Error, Result, ensure};
use crate::learner::ReadOptions;
use crate::model::{Head, Structure, ViTConfig, VisionTransformer};
use crate::{Config, Learner};

/// A Vision Transformer for photographs, and some photographs.
pub struct Pretrained {
    /// `dinov2-small`, or the name of the stand-in; figures show it.
    pub name: &'static str,
    pub learner: Learner,
    /// The photographs as figures show them, and the place of the model's input in each.
    pub photographs: Vec<Photograph>,
    /// Bytes [N, 3, I, I].
    pub images: Tensor,
}

/// The names of the photographs.
pub const PHOTOGRAPHS: [&str; 4] = ["astronaut", "chelsea", "coffee", "rocket"];

impl Pretrained {
    /// DINOv2-small (arXiv 2304.07193) for images of `side` × `side` pixels, and four photographs. Where they are missing
    /// or `VITLAB_QUICK` asks for a short run, a small ViT with random weights and drawn pictures, which is said on
    /// standard output. The position embedding is interpolated to the images' size without a note.
    ///
    /// # Errors
    /// Fails if `side` is no multiple of the patch size, 14, or if a file is damaged.
    pub fn open(side: i64) -> Result<Self> {
        let files = PHOTOGRAPHS.map(pretrained::photograph);
        let (model, missing) = (pretrained::model(), files.iter().find_map(|file| file.as_ref().err()));
        let reason = match (&model, missing) {
            _ if asked("VITLAB_QUICK") => "a short run was asked for".to_string(),
            (Err(missing), _) | (_, Some(missing)) => missing.to_string(),
            (Ok(folder), None) => {
                let options = ReadOptions { image_size: Some(side), silent: true, ..ReadOptions::default() };
                let learner = Learner::open(folder, &options, Device::Cpu)?;
                let pictures = files.iter().flatten().map(Picture::open).collect::<Result<Vec<_>>>()?;
                return Pretrained::new("dinov2-small", learner, &pictures);
            }
        };
        println!("STAND-IN: a ViT with random weights and drawn pictures ({reason})");
        Pretrained::new("random stand-in", stand_in(side)?, &(0..4).map(drawn).collect::<Result<Vec<_>>>()?)
    }

    fn new(name: &'static str, learner: Learner, pictures: &[Picture]) -> Result<Self> {
        let (mut photographs, mut images) = (Vec::new(), Vec::new());
        for picture in pictures {
            let prepared: Prepared = learner.preprocessing().prepare(picture, Invert::No)?;
            photographs.push(Photograph::new(picture, &prepared));
            images.push(prepared.tensor());
        }
        Ok(Pretrained { name, learner, photographs, images: Tensor::stack(&images, 0) }) // N × [3, I, I] -> [N, 3, I, I]
    }

    /// The model's input, float32 [N, 3, I, I].
    ///
    /// # Errors
    /// None for the images of this struct.
    pub fn input(&self) -> Result<Tensor> {
        self.learner.preprocessing().input(&self.images)
    }
}

/// A narrow ViT of twelve blocks, without a class head, as DINOv2.
fn stand_in(side: i64) -> Result<Learner> {
    let patch_size = 14;
    ensure!(side > 0 && side % patch_size == 0, "side {side}: give a multiple of the patch size, {patch_size}");
    let structure = Structure { head: Head::None, ..Structure::default() };
    let config = ViTConfig {
        image_size: side,
        patch_size,
        n_channels: 3,
        n_layers: 12,
        embed_dim: 48,
        n_attention_heads: 6,
        position_rows: (side / patch_size).pow(2) + 1,
        structure,
        ..ViTConfig::from(&Config::default())
    };
    let model = VisionTransformer::with_sizes(config, Device::Cpu);
    Ok(Learner::new(model).with_preprocessing(Preprocessing {
        side,
        channels: 3,
        fit: Fit::Crop { shorter: side },
        filter: Filter::Bicubic,
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
    }))
}

/// A picture of a disc in front of a gradient.
fn drawn(index: i64) -> Result<Picture> {
    let centre = (90 + 40 * index, 200 - 30 * index);
    let picture = RgbImage::from_fn(300, 280, |x, y| {
        let inside = (i64::from(x) - centre.0).pow(2) + (i64::from(y) - centre.1).pow(2) < 3600;
        if inside { Rgb([230, 120, 30]) } else { Rgb([(x / 2) as u8, (y / 2) as u8, 90]) }
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).map_err(|error| Error::argument(error.to_string()))?;
    Picture::decode(png.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_has_the_shapes_of_the_real_model() -> Result<()> {
        let pictures = [drawn(0)?, drawn(3)?];
        let model = Pretrained::new("random stand-in", stand_in(56)?, &pictures)?;
        assert_eq!((model.images.size(), model.photographs.len()), (vec![2, 3, 56, 56], 2));
        let (features, attention) = model.learner.vit()?.forward(&model.input()?, false, true)?;
        assert_eq!((features.size(), attention.map(|a| a.size())), (vec![2, 48], Some(vec![2, 12, 6, 17, 17])));
        Ok(())
    }
}
