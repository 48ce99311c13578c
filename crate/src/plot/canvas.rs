//! The page of a figure: elements of plotters in page units on a bitmap in memory.

use ndarray::{Array3, Zip};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{BitMapElement, Circle, DashedPathElement, PathElement, Rectangle};
use plotters::style::{Color as _, RGBColor, ShapeStyle, TextStyle};
use plotters_bitmap::BitMapBackend;

use super::text::{self, Anchor, LEADING, SMALL, Style, TITLE, number, style};
use super::{Color, Scale};

/// Pixels per page unit, so that a page shown [`WIDTH`] CSS pixels wide is sharp on a screen of double density.
pub const DENSITY: f32 = 2.0;
/// Drawn pixels per pixel in each direction. plotters places lines, circles and letters at whole drawn pixels only.
const OVERSAMPLING: i32 = 2;
pub const WIDTH: f32 = 820.0;
pub const MARGIN: f32 = 12.0;

/// Why drawing can't fail: the bitmap is in memory and the font is compiled in.
pub const IN_MEMORY: &str = "drawing in memory can't fail";

/// Lengths of a dash and of the gap after it.
pub const DASH: [f32; 2] = [6.0, 4.0];
/// Radius of a point's mark.
pub const MARK: f32 = 3.0;

const LEGEND_LINE_HEIGHT: f32 = 20.0;
const LEGEND_SAMPLE_GAP: f32 = 6.0;
const LEGEND_ENTRY_GAP: f32 = 18.0;

/// (x, y, width, height)
pub type Rect = (f32, f32, f32, f32);
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

pub struct Canvas {
    rgb: Vec<u8>,
    size: (u32, u32),
    /// Whether the page holds photographs, whose colours are not to be merged.
    pub has_photographs: bool,
}

/// A length or coordinate in drawn pixels.
pub fn pixels(units: f32) -> i32 {
    (units * DENSITY).round() as i32 * OVERSAMPLING
}

/// The style of a line that is `width` page units wide.
pub fn stroke(width: f32, color: Color) -> ShapeStyle {
    RGBColor::from(color).stroke_width(pixels(width) as u32)
}

impl Canvas {
    /// A white page with `title` and a body of height `body` below it. Also returns the y at which the body starts.
    pub fn page(title: &str, body: f32) -> (Canvas, f32) {
        let lines = text::wrap(title, TITLE, true, WIDTH - 2.0 * MARGIN, 4);
        let top = MARGIN + lines.len() as f32 * TITLE * LEADING + if lines.is_empty() { 0.0 } else { 10.0 };
        let size = (pixels(WIDTH) as u32, pixels(top + body + MARGIN) as u32);
        let mut canvas = Canvas { rgb: vec![255; size.0 as usize * size.1 as usize * 3], size, has_photographs: false };
        canvas.lines(MARGIN, MARGIN, &lines, Style { bold: true, ..style(TITLE, Color::TEXT, Anchor::Left) });
        (canvas, top)
    }

    /// The finished page [rows, columns, channels]: each pixel is the mean of its drawn pixels.
    pub fn into_rgb(self) -> Array3<u8> {
        let (columns, rows) = (self.size.0 as usize, self.size.1 as usize);
        let drawn = Array3::from_shape_vec((rows, columns, 3), self.rgb).expect("the buffer has the page's size");
        let fine = OVERSAMPLING as usize;
        let mut page = Array3::zeros((rows / fine, columns / fine, 3));
        Zip::from(&mut page).and(drawn.exact_chunks((fine, fine, 1))).for_each(|mean, block| {
            let sum: usize = block.iter().map(|&value| usize::from(value)).sum();
            *mean = ((sum + block.len() / 2) / block.len()) as u8;
        });
        page
    }

    pub fn area(&mut self) -> Area<'_> {
        BitMapBackend::with_buffer(&mut self.rgb, self.size).into_drawing_area()
    }

    pub fn rect(&mut self, x: f32, y: f32, width: f32, height: f32, color: Color) {
        let corners = [(pixels(x), pixels(y)), (pixels(x + width), pixels(y + height))];
        let filled = Rectangle::new(corners, RGBColor::from(color).filled());
        self.area().draw(&filled).expect(IN_MEMORY);
    }

    /// A frame of thickness `t` around `area`.
    pub fn frame(&mut self, (x, y, width, height): Rect, t: f32, color: Color) {
        self.rect(x - t, y - t, width + 2.0 * t, t, color);
        self.rect(x - t, y + height, width + 2.0 * t, t, color);
        self.rect(x - t, y, t, height, color);
        self.rect(x + width, y, t, height, color);
    }

    pub fn line(&mut self, x: f32, y: f32, length: f32, dashed: bool, color: Color) {
        let ends = [(pixels(x), pixels(y)), (pixels(x + length), pixels(y))];
        let (line, [dash, gap]) = (stroke(2.0, color), DASH.map(pixels));
        let drawn = if dashed {
            self.area().draw(&DashedPathElement::new(ends, dash, gap, line))
        } else {
            self.area().draw(&PathElement::new(ends, line))
        };
        drawn.expect(IN_MEMORY);
    }

    /// The mark of a point, as in a chart.
    pub fn mark(&mut self, x: f32, y: f32, color: Color) {
        let mark = Circle::new((pixels(x), pixels(y)), pixels(MARK), RGBColor::from(color).filled());
        self.area().draw(&mark).expect(IN_MEMORY);
    }

    /// One line of text. `y` is the vertical middle of its capitals.
    pub fn text(&mut self, x: f32, y: f32, text: &str, style: Style) {
        let size = f64::from(style.size) * f64::from(pixels(1.0));
        let length = text::width(text, style.size, style.bold);
        let left = match style.anchor {
            Anchor::Left => x,
            Anchor::Middle => x - length / 2.0,
            Anchor::Right => x - length,
        };
        let top = pixels(y + text::TOP_OFFSET * style.size);
        let color = RGBColor::from(style.color);
        let font = TextStyle::from(text::font(size, style.bold)).color(&color);
        let area = self.area();
        for (letter, across) in text::letters(text, size, style.bold) {
            let at = ((left * pixels(1.0) as f32 + across).round() as i32, top);
            area.draw_text(letter.encode_utf8(&mut [0; 4]), &font, at).expect(IN_MEMORY);
        }
    }

    /// Lines of text with their top at `y`.
    pub fn lines(&mut self, x: f32, y: f32, lines: &[String], style: Style) {
        for (i, line) in lines.iter().enumerate() {
            self.text(x, y + style.size * LEADING * (i as f32 + 0.5), line, style);
        }
    }

    /// `rows` × `columns` cells in `area`, without interpolation between them.
    pub fn cells(&mut self, area: Rect, rows: usize, columns: usize, color: impl Fn(usize, usize) -> Color) {
        let [left, top, width, height] = <[f32; 4]>::from(area).map(pixels);
        let (wide, high) = (width as usize, height as usize);
        let mut rgb = Vec::with_capacity(wide * high * 3);
        for y in 0..high {
            for x in 0..wide {
                let Color(red, green, blue) = color(y * rows / high, x * columns / wide);
                rgb.extend([red, green, blue]);
            }
        }
        let picture = BitMapElement::<_>::with_owned_buffer((left, top), (width as u32, height as u32), rgb)
            .expect("the buffer has the cells' size");
        self.area().draw(&picture).expect(IN_MEMORY);
    }

    /// A horizontal colour bar with the values at its ends and the name of the quantity.
    pub fn color_bar(&mut self, x: f32, y: f32, scale: Scale, label: &str) {
        const STEPS: usize = 180;
        let soft = style(SMALL, Color::AXIS_TEXT, Anchor::Left);
        let low = number(scale.low);
        let start = x + text::width(&low, SMALL, false) + 6.0;
        let (bar, middle) = ((start, y, STEPS as f32, 10.0), y + 5.0);
        self.text(x, middle, &low, soft);
        self.cells(bar, 1, STEPS, |_, step| {
            let share = (step as f32 + 0.5) / STEPS as f32;
            scale.color(scale.low + (scale.high - scale.low) * share)
        });
        self.frame(bar, 0.5, Color::AXIS);
        let text = format!("{}   {label}", number(scale.high));
        self.text(start + STEPS as f32 + 6.0, middle, text.trim_end(), soft);
    }
}

/// The entries of a legend with their places relative to its left top corner.
pub struct Legend<'a> {
    /// (name, left end, vertical middle)
    entries: Vec<(&'a str, f32, f32)>,
    sample: f32,
    pub height: f32,
}

impl<'a> Legend<'a> {
    pub fn new(names: impl IntoIterator<Item = &'a str>, sample: f32, width: f32) -> Self {
        let (mut x, mut y) = (0.0, 0.0);
        let entry = |name: &'a str| {
            let length = sample + LEGEND_SAMPLE_GAP + text::width(name, SMALL, false);
            if x > 0.0 && x + length > width {
                (x, y) = (0.0, y + LEGEND_LINE_HEIGHT);
            }
            let left = x;
            x += length + LEGEND_ENTRY_GAP;
            (name, left, y + LEGEND_LINE_HEIGHT / 2.0)
        };
        let entries = names.into_iter().map(entry).collect();
        Legend { entries, sample, height: y + LEGEND_LINE_HEIGHT }
    }

    /// Draws the names with the corner at (x, y); `draw_sample` gets each sample's index, left end and vertical middle.
    pub fn draw(&self, canvas: &mut Canvas, (x, y): (f32, f32), draw_sample: impl Fn(&mut Canvas, usize, f32, f32)) {
        for (i, (name, left, middle)) in self.entries.iter().enumerate() {
            let (left, middle) = (x + left, y + middle);
            draw_sample(canvas, i, left, middle);
            canvas.text(left + self.sample + LEGEND_SAMPLE_GAP, middle, name, style(SMALL, Color::TEXT, Anchor::Left));
        }
    }
}
