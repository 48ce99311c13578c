//! A page that shows where each token of one image looks, by layer and head or rolled out.

use std::fmt;
use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::grid_side;
use crate::error::{Error, Result, ensure};
use crate::file;
use crate::notebook::{Show, show};
use crate::plot::{Figure, Map, Scale};

/// The page without its data.
const PAGE: &str = include_str!("explorer.html");
const DATA: &str = "/*DATA*/null";
const FIGURE: &str = "<!--FIGURE-->";

/// Steps between zero and a row's greatest value, the finest first.
const LEVELS: [u8; 5] = [255, 63, 31, 15, 11];

/// Bytes of a page. The steps of the attention are chosen so that it stays below, if the coarsest steps allow it.
const BUDGET: usize = 1_950_000;

/// Side in pixels of the smallest colour picture that a page holds as JPEG.
const PHOTOGRAPH: u32 = 128;

/// Values of which the size of the packed attention is estimated.
const SAMPLE: i64 = 1 << 20;

/// An interactive page about one image: a self-contained HTML document that needs no network.
///
/// Pointing at a patch shows where it looks. Buttons select the class, distillation and register tokens, and layers and
/// heads. All of it works with the keyboard as well. A figure takes the page's place where scripts don't run.
#[derive(Clone)]
pub struct Explorer {
    page: String,
    /// The part of the page that shows the figure in a browser whose scripts are off.
    fallback: String,
    figure: Figure,
}

/// One image and the attention that a model pays to its patches.
pub struct Exploration<'a> {
    pub title: &'a str,
    /// Bytes, grey [I, I] or colour [3, I, I].
    pub image: &'a Tensor,
    /// Attention of all layers and heads [L, H, S, S]; row i says how much token i attends to each token.
    pub attention: &'a Tensor,
    /// The rollout [S, S].
    pub rollout: &'a Tensor,
    /// The names of the tokens before the patches, such as "class".
    pub prefix: &'a [String],
    /// Shown where scripts don't run.
    pub figure: Figure,
}

impl Explorer {
    /// Makes the page.
    ///
    /// # Errors
    /// Fails if the shapes don't fit each other, or if the image isn't one of bytes.
    pub fn new(exploration: Exploration) -> Result<Self> {
        let Exploration { title, image, attention, rollout, prefix, figure } = exploration;
        let size = attention.size();
        let &[layers, heads, tokens, columns] = &size[..] else {
            return Err(Error::argument(format!("the attention is {size:?}; give [L, H, S, S] of one image")));
        };
        let found = rollout.size();
        ensure!(
            tokens == columns && found == [tokens, tokens],
            "the attention is {size:?} and the rollout {found:?}; give [L, H, S, S] and [S, S]"
        );
        let side = grid_side(tokens, prefix.len() as i64)?;
        let rows = attention.reshape([-1, tokens]); // [L, H, S, S] -> [L · H · S, S]
        let fallback =
            format!("<noscript>{}<p>The page needs scripts, which are off here.</p></noscript>", picture(&figure));
        let image = data_url(image)?;
        let rolled = pack(rollout, LEVELS[0])?;
        let others = PAGE.len() + fallback.len() + image.len() + len(&rolled);
        let (packed, levels) = pack_within(&rows, BUDGET.saturating_sub(others))?;
        let colors: Vec<[u8; 3]> = (0..=16)
            .map(|step| Scale { map: Map::Inferno, low: 0.0, high: 16.0 }.color(step as f32))
            .map(|color| [color.0, color.1, color.2])
            .collect();
        let data = json!({
            "title": title,
            "image": image,
            "grid": [side, side],
            "tokens": tokens,
            "layers": layers,
            "heads": heads,
            "prefix": prefix.iter().map(|name| format!("{name} token")).collect::<Vec<_>>(),
            "query": 0,
            "attention": packed,
            "rollout": rolled,
            "colors": colors,
            "precision": format!(
                "Values are exact to {:.1} % of the greatest value in their row.", 100.0 / f64::from(levels)
            ),
        });
        let page = PAGE.replacen(FIGURE, &fallback, 1).replacen(DATA, &script_literal(&data), 1);
        Ok(Explorer { page, fallback, figure })
    }

    /// The HTML document.
    pub fn page(&self) -> &str {
        &self.page
    }

    /// The figure that takes the page's place where scripts don't run.
    pub fn figure(&self) -> &Figure {
        &self.figure
    }

    /// Writes the HTML document.
    ///
    /// # Errors
    /// A file that can't be written. An existing file is kept in this case.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        Ok(file::replace(path, |out| out.write_all(self.page.as_bytes()))?)
    }

    /// Called by the kernel for an explorer that ends a cell.
    pub fn evcxr_display(&self) {
        show(self);
    }

    /// The page in a frame of its own, so that its style and its keys don't meet the notebook's. The figure stands there
    /// until a script replaces it. The frame is as high as the page.
    fn embedded(&self) -> String {
        let page = json!(self.page.replacen(&self.fallback, "", 1));
        let (picture, page) = (picture(&self.figure), script_literal(&page));
        format!(
            "<div>{picture}<script>\n\
             (image => {{\n\
             const frame = document.createElement(\"iframe\");\n\
             frame.srcdoc = {page};\n\
             frame.title = image.alt;\n\
             frame.style = \"width: 100%; height: 640px; border: 0\";\n\
             frame.addEventListener(\"load\", () => {{\n\
             const root = frame.contentDocument.documentElement;\n\
             new ResizeObserver(() => frame.style.height = `${{root.offsetHeight}}px`).observe(root);\n\
             }});\n\
             image.replaceWith(frame);\n\
             }})(document.currentScript.previousElementSibling);\n\
             </script></div>"
        )
    }
}

impl Show for Explorer {
    fn contents(&self) -> Vec<(&'static str, String)> {
        let mut contents = self.figure.contents();
        contents.push(("text/html", self.embedded()));
        contents
    }
}

impl fmt::Debug for Explorer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Explorer, {} kB, in place of {:?}", self.page.len() / 1000, self.figure)
    }
}

/// Packs rows with the finest steps that fit into `budget` bytes, or else the coarsest. Returns the number of steps, too.
/// The first steps that are tried are those that a sample of the rows fits with.
fn pack_within(rows: &Tensor, budget: usize) -> Result<(Value, u8)> {
    let coarsest = LEVELS[LEVELS.len() - 1];
    let size = rows.size();
    let every = (size[0] * size[1] / SAMPLE).max(1);
    let sample = rows.slice(0, 0, size[0], every); // [R, S] -> [R / every, S]
    let mut is_tried = every == 1;
    for levels in LEVELS {
        // A sample packs a little worse than the whole, since fewer bytes have come before.
        is_tried = is_tried || levels == coarsest || len(&pack(&sample, levels)?) * every as usize <= budget;
        if !is_tried {
            continue;
        }
        let packed = pack(rows, levels)?;
        if len(&packed) <= budget || levels == coarsest {
            return Ok((packed, levels));
        }
    }
    unreachable!("the coarsest steps are always taken")
}

/// Bytes of packed rows.
fn len(packed: &Value) -> usize {
    ["bytes", "greatest"].iter().filter_map(|part| packed[part].as_str()).map(str::len).sum()
}

/// Rows [R, S] of values that aren't negative, as bytes in base64 of gzip: the square root of each value's share in its
/// row's greatest value, times `levels`. The root spends more of the steps on small values.
fn pack(rows: &Tensor, levels: u8) -> Result<Value> {
    let rows = rows.detach().to_kind(Kind::Float).to_device(tch::Device::Cpu);
    let greatest = rows.amax([-1i64].as_slice(), true); // [R, S] -> [R, 1]
    let least = rows.min().double_value(&[]);
    ensure!(
        least >= 0.0 && greatest.max().double_value(&[]).is_finite(),
        "the attention has entries that are negative or not finite; give the weights after the softmax"
    );
    let steps = ((&rows / greatest.clamp_min(f64::from(f32::MIN_POSITIVE))).sqrt() * f64::from(levels)).round();
    let bytes: Vec<u8> = Vec::try_from(steps.to_kind(Kind::Uint8).flatten(0, -1))?;
    let greatest: Vec<f32> = Vec::try_from(greatest.flatten(0, -1))?;
    let greatest: Vec<u8> = greatest.into_iter().flat_map(f32::to_le_bytes).collect();
    Ok(json!({ "levels": levels, "bytes": compressed(&bytes), "greatest": compressed(&greatest) }))
}

/// base64 of gzip.
fn compressed(bytes: &[u8]) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes all bytes");
    STANDARD.encode(encoder.finish().expect("memory takes all bytes"))
}

/// The picture of bytes, grey [I, I] or [1, I, I], or colour [3, I, I], as a URL of its data.
fn data_url(image: &Tensor) -> Result<String> {
    let size = image.size();
    let (color, planes) = match size[..] {
        [_, _] => (ExtendedColorType::L8, image.unsqueeze(0)), // [I, I] -> [1, I, I]
        [1, ..] if size.len() == 3 => (ExtendedColorType::L8, image.shallow_clone()),
        [3, ..] if size.len() == 3 => (ExtendedColorType::Rgb8, image.shallow_clone()),
        _ => return Err(Error::argument(format!("the image is {size:?}; give bytes, [I, I] or [3, I, I]"))),
    };
    let kind = image.kind();
    ensure!(kind == Kind::Uint8, "the image is of {kind:?}; give bytes");
    let pixels: Vec<u8> = Vec::try_from(planes.permute([1, 2, 0]).contiguous().flatten(0, -1))?; // [C, I, I] -> [I, I, C]
    let (height, width) = (planes.size()[1] as u32, planes.size()[2] as u32);
    let mut bytes = Vec::new();
    // A photograph takes a fifth of PNG's bytes as JPEG. The pixels of a small image stay as they are.
    let (kind, written) = if color == ExtendedColorType::Rgb8 && width >= PHOTOGRAPH {
        ("jpeg", JpegEncoder::new_with_quality(&mut bytes, 90).write_image(&pixels, width, height, color))
    } else {
        ("png", PngEncoder::new(&mut bytes).write_image(&pixels, width, height, color))
    };
    written.map_err(|error| Error::argument(format!("the image can't be encoded ({error})")))?;
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

/// A value as a script's literal. "</script>" in a title would end the script.
fn script_literal(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

/// The figure as an element of HTML.
fn picture(figure: &Figure) -> String {
    let (alt, png) = (escaped(figure.alt()), STANDARD.encode(figure.png()));
    format!("<img alt=\"{alt}\" src=\"data:image/png;base64,{png}\">")
}

/// Text as an attribute's value.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use tch::Device;

    use super::*;

    fn unpacked(text: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packed = STANDARD.decode(text.as_str().unwrap()).unwrap();
        GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn rows_come_back_within_a_step() {
        let rows = Tensor::rand([40, 30], (Kind::Float, Device::Cpu)).softmax(-1, Kind::Float);
        for levels in LEVELS {
            let packed = pack(&rows, levels).unwrap();
            let (bytes, greatest) = (unpacked(&packed["bytes"]), unpacked(&packed["greatest"]));
            for (row, &bytes) in bytes.as_chunks::<30>().0.iter().enumerate() {
                let greatest = f32::from_le_bytes(greatest[4 * row..4 * row + 4].try_into().unwrap());
                for (column, byte) in bytes.into_iter().enumerate() {
                    let value = greatest * (f32::from(byte) / f32::from(levels)).powi(2);
                    let expected = rows.double_value(&[row as i64, column as i64]) as f32;
                    assert!((value - expected).abs() <= greatest / f32::from(levels) + 1e-7);
                }
            }
        }
    }

    #[test]
    fn more_values_get_coarser_steps() {
        let rows = Tensor::rand([2000, 50], (Kind::Float, Device::Cpu));
        assert_eq!(pack_within(&rows, 1 << 20).unwrap().1, 255);
        assert_eq!(pack_within(&rows, 1000).unwrap().1, 11);
        assert!(pack(&(rows - 0.5), 255).is_err());
    }
}
