//! The page that figures are drawn on: plotters' elements in page units on a bitmap in memory.

use ndarray::{Array3, Zip};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{BitMapElement, DashedPathElement, PathElement, Rectangle};
use plotters::style::{Color as _, RGBColor, ShapeStyle, TextStyle};
use plotters_bitmap::BitMapBackend;

use super::color::{Color, Scale};
use super::text::{self, Anchor, LEADING, SMALL, Style, TITLE, number, style};

/// Pixels per page unit: a page of [`WIDTH`] units is sharp where it is shown at about that many pixels.
pub const DENSITY: f32 = 2.0;
/// Each pixel is drawn as so many by so many: plotters puts lines, circles and letters at whole pixels only.
const OVERSAMPLING: i32 = 2;
pub const WIDTH: f32 = 820.0;
pub const MARGIN: f32 = 12.0;

/// Drawing in memory with a font that is compiled in cannot fail.
pub const SOUND: &str = "a figure is drawn in memory";

pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

pub struct Canvas {
    rgb: Vec<u8>,
    size: (u32, u32),
}

/// A length or place on the page in pixels of the drawing.
pub fn pixels(units: f32) -> i32 {
    (units * DENSITY).round() as i32 * OVERSAMPLING
}

/// The width of a line in pixels of the drawing.
pub fn stroke(width: f32, color: Color) -> ShapeStyle {
    RGBColor::from(color).stroke_width(pixels(width) as u32)
}

/// Length of the dashes of the second kind of line in a panel, and of the gaps between them.
pub fn dashes() -> (i32, i32) {
    (pixels(6.0), pixels(4.0))
}

impl Canvas {
    /// A white page with `title` and room for `body` below it; also the height at which the body starts.
    pub fn page(title: &str, body: f32) -> (Canvas, f32) {
        let lines = text::wrap(title, TITLE, true, WIDTH - 2.0 * MARGIN, 4);
        let top = MARGIN + lines.len() as f32 * TITLE * LEADING + if lines.is_empty() { 0.0 } else { 10.0 };
        let size = (pixels(WIDTH) as u32, pixels(top + body + MARGIN) as u32);
        let rgb = vec![255; size.0 as usize * size.1 as usize * 3];
        let mut canvas = Canvas { rgb, size };
        let heading = Style { bold: true, ..style(TITLE, Color::INK, Anchor::Left) };
        canvas.lines(MARGIN, MARGIN, &lines, heading);
        (canvas, top)
    }

    /// The finished page, [rows, columns, channels]: each pixel is the mean of those drawn in its place.
    pub fn into_rgb(self) -> Array3<u8> {
        let (columns, rows) = (self.size.0 as usize, self.size.1 as usize);
        let drawn = Array3::from_shape_vec((rows, columns, 3), self.rgb).expect("one page");
        let fine = OVERSAMPLING as usize;
        let mut page = Array3::zeros((rows / fine, columns / fine, 3));
        Zip::from(&mut page).and(drawn.exact_chunks((fine, fine, 1))).for_each(|mean, block| {
            let sum: usize = block.iter().map(|&value| usize::from(value)).sum();
            *mean = ((sum + block.len() / 2) / block.len()) as u8;
        });
        page
    }

    /// The whole page for plotters.
    pub fn area(&mut self) -> Area<'_> {
        BitMapBackend::with_buffer(&mut self.rgb, self.size).into_drawing_area()
    }

    pub fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, color: Color) {
        let corners = [(pixels(x), pixels(y)), (pixels(x + width), pixels(y + height))];
        let filled = Rectangle::new(corners, RGBColor::from(color).filled());
        self.area().draw(&filled).expect(SOUND);
    }

    /// The outline of a rectangle, drawn around it.
    pub fn frame(&mut self, x: f32, y: f32, width: f32, height: f32, thickness: f32, color: Color) {
        let t = thickness;
        self.rect(x - t, y - t, width + 2.0 * t, t, color);
        self.rect(x - t, y + height, width + 2.0 * t, t, color);
        self.rect(x - t, y, t, height, color);
        self.rect(x + width, y, t, height, color);
    }

    /// A level line as the sample of a series in a legend.
    pub fn sample(&mut self, x: f32, y: f32, length: f32, dashed: bool, color: Color) {
        let ends = [(pixels(x), pixels(y)), (pixels(x + length), pixels(y))];
        let line = stroke(2.0, color);
        let drawn = if dashed {
            let (dash, gap) = dashes();
            self.area().draw(&DashedPathElement::new(ends, dash, gap, line))
        } else {
            self.area().draw(&PathElement::new(ends, line))
        };
        drawn.expect(SOUND);
    }

    /// One line of text; `y` is the middle of its capitals.
    pub fn text(&mut self, x: f32, y: f32, text: &str, style: Style) {
        let size = f64::from(style.size) * f64::from(pixels(1.0));
        let length = text::width(text, style.size, style.bold);
        let left = match style.anchor {
            Anchor::Left => x,
            Anchor::Middle => x - length / 2.0,
            Anchor::Right => x - length,
        };
        let top = pixels(y + text::LOWER_TOP * style.size);
        let color = RGBColor::from(style.color);
        let font = TextStyle::from(text::font(size, style.bold)).color(&color);
        let area = self.area();
        for (letter, across) in text::letters(text, size, style.bold) {
            let at = ((left * pixels(1.0) as f32 + across).round() as i32, top);
            area.draw_text(letter.encode_utf8(&mut [0; 4]), &font, at).expect(SOUND);
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
        let [left, top, width, height] = [area.0, area.1, area.2, area.3].map(pixels);
        let (wide, high) = (width as usize, height as usize);
        let mut rgb = Vec::with_capacity(wide * high * 3);
        for y in 0..high {
            for x in 0..wide {
                let Color(red, green, blue) = color(y * rows / high, x * columns / wide);
                rgb.extend([red, green, blue]);
            }
        }
        let size = (width as u32, height as u32);
        let picture: BitMapElement<_> =
            BitMapElement::with_owned_buffer((left, top), size, rgb).expect("as many pixels as the size says");
        self.area().draw(&picture).expect(SOUND);
    }

    /// A horizontal colour bar with its two ends and what it measures.
    pub fn color_bar(&mut self, x: f32, y: f32, scale: Scale, label: &str) {
        let (width, height, steps) = (180.0, 10.0, 180);
        let soft = style(SMALL, Color::SOFT, Anchor::Left);
        let low = number(scale.low);
        let start = x + text::width(&low, SMALL, false) + 6.0;
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
