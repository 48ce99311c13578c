//! The page that figures are drawn on: anti-aliased shapes, text and enlarged images in page units.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use tiny_skia::{
    FillRule, LineCap, LineJoin, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform,
};

use super::color::{Color, Scale};

/// Pixels per page unit: a page of [`WIDTH`] units is sharp where it is shown at about that many pixels.
pub const DENSITY: f32 = 2.0;
pub const WIDTH: f32 = 820.0;
pub const MARGIN: f32 = 12.0;
/// Text sizes in page units.
pub const TITLE: f32 = 15.0;
pub const LABEL: f32 = 12.0;
pub const SMALL: f32 = 11.0;
/// Height of a line of text relative to its size.
pub const LEADING: f32 = 1.35;

#[derive(Clone, Copy, PartialEq)]
pub enum Anchor {
    Left,
    Middle,
    Right,
}

/// Size, weight, colour and alignment of a piece of text.
#[derive(Clone, Copy)]
pub struct Style {
    pub size: f32,
    pub bold: bool,
    pub color: Color,
    pub anchor: Anchor,
}

pub const fn style(size: f32, color: Color, anchor: Anchor) -> Style {
    Style {
        size,
        bold: false,
        color,
        anchor,
    }
}

/// The two weights of the compiled-in font.
pub struct Fonts {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
}

impl Fonts {
    pub fn new() -> Self {
        let font = |bytes| FontRef::try_from_slice(bytes).expect("the compiled-in font is sound");
        Fonts {
            regular: font(dejavu::sans::regular()),
            bold: font(dejavu::sans::bold()),
        }
    }

    fn weight(&self, bold: bool) -> &FontRef<'static> {
        if bold { &self.bold } else { &self.regular }
    }

    /// Width of `text` in page units.
    pub fn width(&self, text: &str, size: f32, bold: bool) -> f32 {
        let font = self.weight(bold).as_scaled(scale(self.weight(bold), size));
        text.chars().map(|c| font.h_advance(font.glyph_id(c))).sum()
    }

    /// `text` in lines of at most `width`, broken at spaces and after slashes; at most `most` lines, the last one
    /// shortened with an ellipsis if the text is longer.
    pub fn wrap(&self, text: &str, size: f32, bold: bool, width: f32, most: usize) -> Vec<String> {
        let fits = |line: &str| self.width(line.trim_end(), size, bold) <= width;
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
        let cut = lines.len() > most;
        lines.truncate(most);
        let count = lines.len();
        for (i, line) in lines.iter_mut().enumerate() {
            *line = line.trim_end().to_string();
            let shortened = cut && i + 1 == count;
            if shortened || !fits(line) {
                while !line.is_empty() && !fits(&format!("{line}…")) {
                    line.pop();
                }
                *line = format!("{}…", line.trim_end());
            }
        }
        lines
    }
}

/// ab_glyph's scale for an em of `size`.
fn scale(font: &FontRef, size: f32) -> PxScale {
    let em = font.units_per_em().unwrap_or(2048.0);
    PxScale::from(size * font.height_unscaled() / em)
}

pub struct Canvas {
    pub fonts: Fonts,
    pixmap: Pixmap,
}

impl Canvas {
    /// A white page with `title` and room for `body` below it; also the height at which the body starts.
    pub fn page(title: &str, body: f32) -> (Canvas, f32) {
        let fonts = Fonts::new();
        let lines = fonts.wrap(title, TITLE, true, WIDTH - 2.0 * MARGIN, 4);
        let top = MARGIN
            + lines.len() as f32 * TITLE * LEADING
            + if lines.is_empty() { 0.0 } else { 10.0 };
        let pixels = |units: f32| (units * DENSITY).ceil() as u32;
        let mut pixmap =
            Pixmap::new(pixels(WIDTH), pixels(top + body + MARGIN)).expect("a page has a size");
        pixmap.fill(tiny_skia::Color::WHITE);
        let mut canvas = Canvas { fonts, pixmap };
        let heading = Style {
            bold: true,
            ..style(TITLE, Color::INK, Anchor::Left)
        };
        canvas.lines(MARGIN, MARGIN, &lines, heading);
        (canvas, top)
    }

    pub fn into_pixmap(self) -> Pixmap {
        self.pixmap
    }

    fn paint(color: Color) -> Paint<'static> {
        let mut paint = Paint::default();
        paint.set_color_rgba8(color.0, color.1, color.2, 255);
        paint
    }

    fn density() -> Transform {
        Transform::from_scale(DENSITY, DENSITY)
    }

    pub fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, color: Color) {
        if let Some(rect) = tiny_skia::Rect::from_xywh(x, y, width, height) {
            self.pixmap
                .fill_rect(rect, &Self::paint(color), Self::density(), None);
        }
    }

    /// The outline of a rectangle, drawn around it.
    pub fn frame(&mut self, x: f32, y: f32, width: f32, height: f32, thickness: f32, color: Color) {
        let t = thickness;
        self.rect(x - t, y - t, width + 2.0 * t, t, color);
        self.rect(x - t, y + height, width + 2.0 * t, t, color);
        self.rect(x - t, y, t, height, color);
        self.rect(x + width, y, t, height, color);
    }

    pub fn circle(&mut self, x: f32, y: f32, radius: f32, color: Color) {
        if let Some(path) = PathBuilder::from_circle(x, y, radius) {
            self.pixmap.fill_path(
                &path,
                &Self::paint(color),
                FillRule::Winding,
                Self::density(),
                None,
            );
        }
    }

    /// A connected line; `dashed` for the second kind of line in a panel.
    pub fn polyline(&mut self, points: &[(f32, f32)], width: f32, dashed: bool, color: Color) {
        let Some((&(x, y), rest)) = points.split_first() else {
            return;
        };
        let mut path = PathBuilder::new();
        path.move_to(x, y);
        rest.iter().for_each(|&(x, y)| path.line_to(x, y));
        let Some(path) = path.finish() else { return };
        let dash = dashed
            .then(|| StrokeDash::new(vec![6.0, 4.0], 0.0))
            .flatten();
        let (line_cap, line_join) = (
            if dashed {
                LineCap::Butt
            } else {
                LineCap::Round
            },
            LineJoin::Round,
        );
        let stroke = Stroke {
            width,
            dash,
            line_cap,
            line_join,
            ..Stroke::default()
        };
        self.pixmap
            .stroke_path(&path, &Self::paint(color), &stroke, Self::density(), None);
    }

    /// One line of text; `y` is the middle of its capitals.
    pub fn text(&mut self, x: f32, y: f32, text: &str, style: Style) {
        let width = self.fonts.width(text, style.size, style.bold);
        let left = match style.anchor {
            Anchor::Left => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::Right => x - width,
        };
        let font = self.fonts.weight(style.bold);
        let scale = scale(font, style.size * DENSITY);
        let scaled = font.as_scaled(scale);
        let capitals = 0.73; // of the em, in this font
        let baseline = ((y + style.size * capitals / 2.0) * DENSITY).round();
        let mut pen = left * DENSITY;
        let columns = self.pixmap.width() as i32;
        let rows = self.pixmap.height() as i32;
        let pixels = self.pixmap.pixels_mut();
        for c in text.chars() {
            let glyph = font
                .glyph_id(c)
                .with_scale_and_position(scale, point(pen, baseline));
            pen += scaled.h_advance(glyph.id);
            let Some(shape) = font.outline_glyph(glyph) else {
                continue;
            };
            let corner = shape.px_bounds().min;
            shape.draw(|dx, dy, coverage| {
                let (x, y) = (corner.x as i32 + dx as i32, corner.y as i32 + dy as i32);
                if (0..columns).contains(&x) && (0..rows).contains(&y) {
                    let pixel = &mut pixels[(y * columns + x) as usize];
                    let below = Color(pixel.red(), pixel.green(), pixel.blue());
                    *pixel = opaque(below.under(style.color, coverage.clamp(0.0, 1.0)));
                }
            });
        }
    }

    /// Lines of text downwards from the top `y`; the height below them.
    pub fn lines(&mut self, x: f32, y: f32, lines: &[String], style: Style) -> f32 {
        let step = style.size * LEADING;
        for (i, line) in lines.iter().enumerate() {
            self.text(x, y + step * (i as f32 + 0.5), line, style);
        }
        y + step * lines.len() as f32
    }

    /// `rows` × `columns` cells without blending between them, whatever the size on the page.
    pub fn cells(
        &mut self,
        area: (f32, f32, f32, f32),
        rows: usize,
        columns: usize,
        color: impl Fn(usize, usize) -> Color,
    ) {
        let [left, top, width, height] =
            [area.0, area.1, area.2, area.3].map(|units| (units * DENSITY).round() as usize);
        let page = self.pixmap.width() as usize;
        let pixels = self.pixmap.pixels_mut();
        for y in 0..height {
            for x in 0..width {
                let Some(pixel) = pixels.get_mut((top + y) * page + left + x) else {
                    continue;
                };
                *pixel = opaque(color(y * rows / height, x * columns / width));
            }
        }
    }

    /// A horizontal colour bar with its two ends and what it measures.
    pub fn color_bar(&mut self, x: f32, y: f32, scale: Scale, label: &str) {
        let (width, height, steps) = (180.0, 10.0, 180);
        let soft = style(SMALL, Color::SOFT, Anchor::Left);
        let low = number(scale.low);
        let start = x + self.fonts.width(&low, SMALL, false) + 6.0;
        self.text(x, y + height / 2.0, &low, soft);
        self.cells((start, y, width, height), 1, steps, |_, step| {
            let share = (step as f32 + 0.5) / steps as f32;
            scale.color(scale.low + (scale.high - scale.low) * share)
        });
        self.frame(start, y, width, height, 0.5, Color::AXIS);
        let text = format!("{}   {label}", number(scale.high));
        self.text(start + width + 6.0, y + height / 2.0, text.trim_end(), soft);
    }
}

fn opaque(color: Color) -> tiny_skia::PremultipliedColorU8 {
    tiny_skia::PremultipliedColorU8::from_rgba(color.0, color.1, color.2, 255)
        .expect("an opaque colour is valid")
}

/// A value in at most three significant digits and a real minus sign.
pub fn number(value: f32) -> String {
    let text = match value.abs() {
        0.0 => "0".to_string(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    };
    let text = match text.split_once('.') {
        Some((whole, digits)) if digits.bytes().all(|digit| digit == b'0') => whole.to_string(),
        _ => text,
    };
    text.replace('-', "−")
}
