//! Text of figures: the compiled-in font, widths and line breaks, and the format of numbers.

use ab_glyph::{Font, FontRef, ScaleFont};
use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

use super::Color;

/// Text sizes in page units.
pub const TITLE: f32 = 15.0;
pub const LABEL: f32 = 12.0;
pub const SMALL: f32 = 11.0;
/// Height of a line of text relative to its size.
pub const LEADING: f32 = 1.35;

const FAMILY: &str = "DejaVu Sans";
/// Height of the font's lines and of its capitals, relative to the text size.
const LINE: f64 = 1.164;
const CAPITALS: f64 = 0.729;
/// Offset from the vertical middle of the capitals to the y that plotters takes for the top of the text, relative to the
/// text size. plotters assumes a baseline half a line below the top and a text height of 1 / 1.24 of a line.
pub const TOP_OFFSET: f32 = ((CAPITALS - LINE) / 2.0) as f32;
/// [`TOP_OFFSET`] for text that plotters centres vertically.
pub const CENTRED_OFFSET: f32 = TOP_OFFSET + (LINE / 1.24 / 2.0) as f32;
/// Magnification of text for measuring, because plotters measures in whole pixels.
const MEASURING_SCALE: f64 = 16.0;

#[derive(Clone, Copy, PartialEq)]
pub enum Anchor {
    Left,
    Middle,
    Right,
}

#[derive(Clone, Copy)]
pub struct Style {
    pub size: f32,
    pub bold: bool,
    pub color: Color,
    pub anchor: Anchor,
}

pub const fn style(size: f32, color: Color, anchor: Anchor) -> Style {
    Style { size, bold: false, color, anchor }
}

fn bytes(bold: bool) -> &'static [u8] {
    if bold { dejavu::sans::bold() } else { dejavu::sans::regular() }
}

/// The font for text of `size` pixels. The size of a font in plotters is the height of its line. Each call registers the
/// font with plotters, which takes microseconds.
pub fn font(size: f64, bold: bool) -> FontDesc<'static> {
    let weight = if bold { FontStyle::Bold } else { FontStyle::Normal };
    assert!(register_font(FAMILY, weight, bytes(bold)).is_ok(), "the compiled-in font is valid");
    FontDesc::new(FontFamily::Name(FAMILY), size * LINE, weight)
}

/// The letters of text of `size` pixels, each with the x at which its ink begins. plotters 0.3 ignores the left side
/// bearing of letters, which makes their distances uneven.
pub fn letters(text: &str, size: f64, bold: bool) -> Vec<(char, f32)> {
    let font = FontRef::try_from_slice(bytes(bold)).expect("the compiled-in font is valid");
    let font = font.as_scaled((size * LINE) as f32);
    let mut pen = 0.0;
    let position = |letter| {
        let glyph = font.glyph_id(letter);
        let ink = pen + font.h_side_bearing(glyph);
        pen += font.h_advance(glyph);
        (letter, ink)
    };
    text.chars().map(position).collect()
}

/// Width of `text` in the unit of `size`.
pub fn width(text: &str, size: f32, bold: bool) -> f32 {
    let measured = font(f64::from(size) * MEASURING_SCALE, bold).box_size(text);
    measured.expect("the font is registered").0 as f32 / MEASURING_SCALE as f32
}

/// Breaks `text` at spaces and slashes into at most `max_lines` lines of `max_width`. A longer text ends with an ellipsis.
pub fn wrap(text: &str, size: f32, bold: bool, max_width: f32, max_lines: usize) -> Vec<String> {
    let fits = |line: &str| width(line.trim_end(), size, bold) <= max_width;
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_inclusive([' ', '/']) {
            if !line.is_empty() && !fits(&format!("{line}{word}")) {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    let cut = lines.len() > max_lines;
    lines.truncate(max_lines);
    let count = lines.len();
    for (line, number) in lines.iter_mut().zip(1..) {
        line.truncate(line.trim_end().len());
        if cut && number == count || !fits(line) {
            while !line.is_empty() && !fits(&format!("{line}…")) {
                line.pop();
            }
            *line = format!("{}…", line.trim_end());
        }
    }
    lines
}

/// A value with at most three significant digits. Its minus sign is U+2212.
pub fn number(value: f32) -> String {
    let text = match value.abs() {
        0.0 => "0".to_string(),
        size if size < 0.001 => format!("{value:.1e}"),
        size => format!("{value:.*}", [100.0, 10.0, 0.01].into_iter().filter(|&limit| size < limit).count()),
    };
    let text = match text.split_once('.') {
        Some((whole, digits)) if digits.bytes().all(|digit| digit == b'0') => whole.to_string(),
        _ => text,
    };
    text.replace('-', "−")
}
