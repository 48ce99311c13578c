//! A finished figure: the PNG and the text that stands for it.

use std::fmt;
use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oxipng::{BitDepth, ColorType, Options, PngError, RawImage};

use super::canvas::Canvas;
use crate::notebook::display;
use crate::{Error, Result};

/// The most that a figure in a committed notebook may weigh.
const MOST_BYTES: usize = 1_500_000;

/// A picture that shows itself in a notebook.
#[derive(Clone, PartialEq, Eq)]
pub struct Figure {
    png: Vec<u8>,
    alt: String,
    width: u32,
    height: u32,
}

impl Figure {
    pub(super) fn new(canvas: Canvas, alt: String) -> Result<Self> {
        let page = canvas.into_rgb();
        let (rows, columns, _) = page.dim();
        let (width, height) = (columns as u32, rows as u32);
        let rgb = page.into_raw_vec_and_offset().0;
        let png = encode(rgb, width, height).map_err(|error| {
            Error::argument(format!("the figure can't be encoded as PNG ({error})"))
        })?;
        if png.len() > MOST_BYTES {
            return Err(Error::argument(format!(
                "the figure takes {} kB, the most is {} kB; show fewer images in it",
                png.len() / 1000,
                MOST_BYTES / 1000
            )));
        }
        Ok(Figure {
            png,
            alt,
            width,
            height,
        })
    }

    pub fn png(&self) -> &[u8] {
        &self.png
    }

    /// What the figure shows, in words.
    pub fn alt(&self) -> &str {
        &self.alt
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Writes the PNG file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::file::replace(path, |out| out.write_all(&self.png))
    }

    /// Called by the kernel for a figure that ends a cell.
    pub fn evcxr_display(&self) {
        display(&[
            ("image/png", &STANDARD.encode(&self.png)),
            ("text/plain", &self.alt),
        ]);
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Figure {} × {}: {}", self.width, self.height, self.alt)
    }
}

/// Without loss; with a palette where there are no more than 256 colours.
fn encode(rgb: Vec<u8>, width: u32, height: u32) -> Result<Vec<u8>, PngError> {
    let color = ColorType::RGB {
        transparent_color: None,
    };
    let image = RawImage::new(width, height, color, BitDepth::Eight, rgb)?;
    image.create_optimized_png(&Options::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Color, text::Anchor, text::style};

    #[test]
    fn what_is_drawn_is_exactly_in_the_png_with_few_and_many_colours() {
        for colors in [3, 600] {
            let (mut canvas, top) = Canvas::page("", 100.0);
            let color = |i: usize| [(i % 256) as u8, (i / 256) as u8, 7];
            canvas.cells((0.0, top, 300.0, 10.0), 1, colors, |_, i| {
                let [red, green, blue] = color(i);
                Color(red, green, blue)
            });
            let figure = Figure::new(canvas, "three words here".into()).unwrap();
            let page = image::load_from_memory(figure.png()).unwrap().into_rgb8();
            assert_eq!(page.dimensions(), (figure.width(), figure.height()));
            let row = (top * 2.0) as u32;
            assert_eq!(page.get_pixel(0, row).0, color(0));
            assert_eq!(page.get_pixel(599, row).0, color(colors - 1));
            assert_eq!(page.get_pixel(0, 0).0, [255; 3]);
        }
    }

    /// A glyph that the font lacks would be drawn as the same box as any other.
    #[test]
    fn the_font_has_the_signs_that_figures_use() {
        let drawn = |text: &str| {
            let (mut canvas, top) = Canvas::page("", 40.0);
            canvas.text(
                20.0,
                top + 20.0,
                text,
                style(24.0, Color::BLACK, Anchor::Left),
            );
            Figure::new(canvas, String::new()).unwrap()
        };
        let missing = drawn("\u{10ffff}");
        for sign in "aZ09×–→−±·…τλ²½≤%".chars() {
            assert_ne!(drawn(&sign.to_string()), missing, "{sign}");
        }
    }

    #[test]
    fn too_large_a_figure_says_what_to_do() {
        let (mut canvas, top) = Canvas::page("", 900.0);
        let rng = std::cell::RefCell::new(fastrand::Rng::with_seed(1));
        let noise = |_, _| {
            let mut rng = rng.borrow_mut();
            Color(rng.u8(..), rng.u8(..), rng.u8(..))
        };
        canvas.cells((0.0, top, 820.0, 900.0), 1800, 1640, noise);
        let message = Figure::new(canvas, String::new()).unwrap_err().to_string();
        assert!(message.contains("fewer images"), "{message}");
    }

    #[test]
    fn saved_as_a_png_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figure.png");
        let (canvas, _) = Canvas::page("A title", 10.0);
        let figure = Figure::new(canvas, String::new()).unwrap();
        figure.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), figure.png());
        assert!(figure.save(path.join("below a file.png")).is_err());
    }
}
