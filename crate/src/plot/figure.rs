//! A finished figure: a PNG and its alternative text.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::canvas::Canvas;
use crate::error::ensure;
use crate::notebook::{Show, show};
use crate::{Error, Result, file};

/// The largest PNG that is allowed in a committed notebook.
const MAX_BYTES: usize = 1_500_000;
/// The maximum number of colours in a PNG's palette.
const MAX_COLORS: usize = 256;
/// Colours closer than this power of two in each channel may be merged. The difference, 3 % of the range, is invisible.
const CUBE_SIDE: u8 = 8;
/// The largest mean error of a page's pixels, on the scale from 0 to 255.
const MEAN_ERROR: usize = 1;

type Rgb = [u8; 3];

/// A picture that shows itself in a notebook.
#[derive(Clone, PartialEq, Eq)]
pub struct Figure {
    png: Vec<u8>,
    alt: String,
    /// In pixels.
    width: u32,
    height: u32,
}

impl Figure {
    /// A figure that is small enough for a notebook.
    pub(super) fn new(canvas: Canvas, alt: String) -> Result<Self> {
        let all_colors = canvas.has_photographs;
        let figure = Figure::encoded(canvas, alt, all_colors)?;
        let (kilobytes, most) = (figure.png.len() / 1000, MAX_BYTES / 1000);
        ensure!(
            figure.png.len() <= MAX_BYTES,
            "the figure has {kilobytes} kB, but at most {most} kB are allowed; show fewer images in it"
        );
        Ok(figure)
    }

    /// A figure for a file, with all of its colours.
    pub(super) fn of_any_size(canvas: Canvas, alt: String) -> Result<Self> {
        Figure::encoded(canvas, alt, true)
    }

    fn encoded(canvas: Canvas, alt: String, all_colors: bool) -> Result<Self> {
        let page = canvas.into_rgb();
        let (rows, columns, _) = page.dim();
        let (width, height) = (columns as u32, rows as u32);
        let rgb = page.as_slice().expect("a page is contiguous").as_chunks().0;
        let png = encode(rgb, width, height, all_colors)
            .map_err(|error| Error::argument(format!("the figure can't be encoded as PNG ({error})")))?;
        Ok(Figure { png, alt, width, height })
    }

    /// The bytes of the PNG file.
    pub fn png(&self) -> &[u8] {
        &self.png
    }

    /// The alternative text, which says the same as the figure.
    pub fn alt(&self) -> &str {
        &self.alt
    }

    /// Writes the PNG file.
    ///
    /// # Errors
    /// A file that can't be written. An existing file is kept in this case.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(file::replace(path, |out| out.write_all(&self.png))?)
    }

    /// Called by the kernel for a figure that ends a cell.
    pub fn evcxr_display(&self) {
        show(self);
    }
}

impl Show for Figure {
    fn contents(&self) -> Vec<(&'static str, String)> {
        vec![("image/png", STANDARD.encode(&self.png)), ("text/plain", self.alt.clone())]
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Figure {} × {}: {}", self.width, self.height, self.alt)
    }
}

/// Encodes with a palette if 256 colours are enough, as for most figures, which makes a PNG less than half as large.
/// `all_colors` prevents that similar colours are merged.
fn encode(rgb: &[Rgb], width: u32, height: u32, all_colors: bool) -> Result<Vec<u8>, png::EncodingError> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, width, height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let merging = !all_colors || rgb.iter().collect::<HashSet<_>>().len() <= MAX_COLORS;
    if let Some((palette, indices)) = merging.then(|| palette(rgb)).flatten() {
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(palette.concat());
        encoder.set_filter(png::Filter::NoFilter);
        encoder.write_header()?.write_image_data(&indices)?;
    } else {
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_filter(png::Filter::Adaptive);
        encoder.write_header()?.write_image_data(rgb.as_flattened())?;
    }
    Ok(png)
}

/// The palette of a page and each pixel's index in it. Up to 256 colours are kept exactly. Of more colours, similar ones
/// are merged into the most frequent of them, and the rarest, at the edges of lines and letters, become the nearest colour
/// of the palette. `None` if this would change the page visibly, as for a photograph in colour.
pub fn palette(rgb: &[Rgb]) -> Option<(Vec<Rgb>, Vec<u8>)> {
    let colors = cubes(rgb.iter().map(|&color| (color, 1)), 1);
    let side = if colors.len() <= MAX_COLORS { 1 } else { CUBE_SIDE };
    let frequent = cubes(colors.iter().copied(), side).into_iter().take(MAX_COLORS);
    let palette: Vec<Rgb> = frequent.map(|(color, _)| color).collect();
    let (mut error, mut index_of) = (0, HashMap::new());
    for (color, count) in colors {
        let distances = palette.iter().map(|&other| distance(other, color)).zip(0u8..=255);
        let (distance, index) = distances.min()?;
        error += distance * count;
        index_of.insert(color, index);
    }
    let indices = rgb.iter().map(|color| index_of[color]).collect();
    (error <= MEAN_ERROR * rgb.len()).then_some((palette, indices))
}

/// Groups colours into cubes with side `side`: the first colour and the pixel count of each, most frequent first.
fn cubes(colors: impl Iterator<Item = (Rgb, usize)>, side: u8) -> Vec<(Rgb, usize)> {
    let mut cubes: HashMap<Rgb, (Rgb, usize)> = HashMap::new();
    for (color, count) in colors {
        cubes.entry(color.map(|channel| channel >> side.ilog2())).or_insert((color, 0)).1 += count;
    }
    let mut cubes: Vec<(Rgb, usize)> = cubes.into_values().collect();
    cubes.sort_by_key(|&(color, count)| (Reverse(count), color));
    cubes
}

/// The largest difference of the three channels.
fn distance(a: Rgb, b: Rgb) -> usize {
    a.iter().zip(b).map(|(a, b)| usize::from(a.abs_diff(b))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Color, text::Anchor, text::style};

    #[test]
    fn what_is_drawn_is_in_the_png_with_and_without_a_palette() {
        for colors in [3, 600] {
            let (mut canvas, top) = Canvas::page("", 100.0);
            canvas.cells((0.0, top, 300.0, 10.0), 1, colors, |_, i| Color((i % 256) as u8, (i / 256) as u8, 7));
            let figure = Figure::new(canvas, "three words here".into()).unwrap();
            let pixels = image::load_from_memory(figure.png()).unwrap().to_rgb8();
            assert_eq!(pixels.dimensions(), (figure.width, figure.height));
            // With more than 256 colours, similar colours are merged.
            let tolerance = if colors <= 256 { 0 } else { 7 };
            let last = [((colors - 1) % 256) as u8, ((colors - 1) / 256) as u8, 7];
            for (x, color) in [(0, [0, 0, 7]), (599, last)] {
                let drawn = pixels.get_pixel(x, (top * 2.0) as u32).0;
                assert!(drawn.iter().zip(color).all(|(a, b)| a.abs_diff(b) <= tolerance));
            }
            assert_eq!(pixels.get_pixel(0, 0).0, [255; 3]);
        }
    }

    /// All signs that a font lacks are drawn as the same box.
    #[test]
    fn the_font_has_the_signs_that_figures_use() {
        let drawn = |text: &str| {
            let (mut canvas, top) = Canvas::page("", 40.0);
            canvas.text(20.0, top + 20.0, text, style(24.0, Color::BLACK, Anchor::Left));
            Figure::new(canvas, String::new()).unwrap()
        };
        let missing = drawn("\u{10ffff}");
        for sign in "aZ09×–→−±·…τλ²½≤%".chars() {
            assert_ne!(drawn(&sign.to_string()), missing, "{sign}");
        }
    }

    #[test]
    fn too_large_a_figure_says_what_to_do() {
        let (mut canvas, top) = Canvas::page("", 200.0);
        fastrand::seed(1);
        let noise = |_, _| Color(fastrand::u8(..), fastrand::u8(..), fastrand::u8(..));
        canvas.cells((0.0, top, 820.0, 200.0), 400, 1640, noise);
        let message = Figure::new(canvas, String::new()).unwrap_err().to_string();
        assert!(message.contains("fewer images"), "{message}");
    }

    #[test]
    fn saved_as_a_png_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("figure.png");
        let figure = Figure::new(Canvas::page("A title", 10.0).0, String::new()).unwrap();
        figure.save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), figure.png());
        assert!(figure.save(path.join("below a file.png")).is_err());
    }

    #[test]
    fn few_colours_stay_exactly() {
        let page: Vec<Rgb> = (0..=255).flat_map(|i| [[i, 0, 255 - i]; 3]).collect();
        let (palette, indices) = palette(&page).unwrap();
        assert_eq!(palette.len(), 256);
        for (color, index) in page.iter().zip(indices) {
            assert_eq!(palette[usize::from(index)], *color);
        }
    }

    #[test]
    fn a_gradient_becomes_one_of_close_colours() {
        let gradient = (0..1000u32).map(|i| [(i / 4) as u8, (i % 4) as u8, 0]);
        let page: Vec<Rgb> = gradient.chain([[255; 3]; 9000]).collect(); // on a white background, as on every page
        let (palette, indices) = palette(&page).unwrap();
        assert!(palette.len() <= 256);
        for (color, index) in page.iter().zip(indices) {
            assert!(distance(palette[usize::from(index)], *color) < usize::from(CUBE_SIDE));
        }
    }

    #[test]
    fn a_page_that_it_would_change_visibly_keeps_all_colours() {
        let mut rng = fastrand::Rng::with_seed(1);
        let page: Vec<Rgb> = (0..5000).map(|_| [rng.u8(..), rng.u8(..), rng.u8(..)]).collect();
        assert!(palette(&page).is_none());
    }
}
