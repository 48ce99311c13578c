//! The images below maps in figures.

use ndarray::Array2;
use tch::Tensor;

use crate::data::{Photograph, Placement};
use crate::error::{Result, ensure};
use crate::explain::{MapScale, Upsample};
use crate::plot::{Bar, Map, Overlay, OverlayStyle, Scale, Tile};

/// How figures show the images and the maps over them.
#[derive(Debug, Default)]
pub struct Drawing {
    /// The pictures that the images were made from, one for each, to draw the maps over the pictures themselves. May be
    /// empty.
    pub photographs: Vec<Photograph>,
    pub overlay: OverlayStyle,
    /// How the maps were upsampled.
    pub upsample: Upsample,
}

/// The colours of all maps in a figure. Where a map is negative, it has none.
pub(super) fn colors(maps: &[Array2<f32>]) -> Scale {
    let fitted = Scale::fit(Map::Inferno, maps);
    Scale { low: fitted.low.max(0.0), ..fitted }
}

impl Drawing {
    /// The photograph of image `i`, or the image itself: one of the bytes [N, I, I] or [N, C, I, I].
    pub(super) fn picture(&self, images: &Tensor, i: usize, caption: String) -> Result<Tile> {
        let (count, photographs) = (images.size()[0] as usize, self.photographs.len());
        let fits = photographs == 0 || photographs == count;
        ensure!(fits, "{photographs} photographs for {count} maps; give one for each");
        match self.photographs.get(i) {
            Some(photograph) => Tile::picture(&photograph.image, caption),
            None => Tile::picture(&images.get(i as i64), caption),
        }
    }

    /// The picture of image `i` with a map over it.
    pub(super) fn under(&self, tile: Tile, i: usize, map: Array2<f32>, colors: Scale) -> Tile {
        let photograph = self.photographs.get(i);
        // An image of the model's size has one colour for each of its pixels.
        let enlarged = photograph.is_some() || self.overlay == OverlayStyle::Contours;
        let overlay = Overlay {
            style: self.overlay,
            place: photograph.map_or(Placement::WHOLE, |photograph| photograph.place),
            smooth: enlarged && self.upsample == Upsample::Bilinear,
            ..Overlay::new(map, colors)
        };
        Tile { overlay: Some(overlay), ..tile }
    }

    /// The legend, which also names the parts of photographs that the model doesn't see.
    pub(super) fn bar(&self, colors: Scale, scale: MapScale) -> Bar {
        let veiled = self.photographs.iter().any(|photograph| !photograph.place.covers());
        let note = if veiled { "; grey: not seen by the model" } else { "" };
        self.overlay.bar(colors, &format!("scale: {scale}{note}"))
    }
}
