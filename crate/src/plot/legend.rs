//! Legends: samples of series with their names, from left to right and then in further lines.

use super::Color;
use super::canvas::Canvas;
use super::text::{self, Anchor, SMALL, style};

/// Height of a line.
const LINE: f32 = 20.0;
/// Between a sample and its name.
const AFTER_SAMPLE: f32 = 6.0;
const BETWEEN_ENTRIES: f32 = 18.0;

/// The entries of a legend with their places relative to its left top corner.
pub struct Legend<'a> {
    /// (name, left end, vertical middle)
    entries: Vec<(&'a str, f32, f32)>,
    /// Width of a sample.
    sample: f32,
    pub height: f32,
}

impl<'a> Legend<'a> {
    pub fn new(names: impl IntoIterator<Item = &'a str>, sample: f32, width: f32) -> Self {
        let (mut x, mut y) = (0.0, 0.0);
        let entry = |name: &'a str| {
            let length = sample + AFTER_SAMPLE + text::width(name, SMALL, false);
            if x > 0.0 && x + length > width {
                (x, y) = (0.0, y + LINE);
            }
            let left = x;
            x += length + BETWEEN_ENTRIES;
            (name, left, y + LINE / 2.0)
        };
        let entries = names.into_iter().map(entry).collect();
        Legend { entries, sample, height: y + LINE }
    }

    /// Draws the names with the corner at (x, y); `draw_sample` gets each sample's index, left end and vertical middle.
    pub fn draw(&self, canvas: &mut Canvas, (x, y): (f32, f32), draw_sample: impl Fn(&mut Canvas, usize, f32, f32)) {
        for (i, (name, left, middle)) in self.entries.iter().enumerate() {
            let (left, middle) = (x + left, y + middle);
            draw_sample(canvas, i, left, middle);
            canvas.text(left + self.sample + AFTER_SAMPLE, middle, name, style(SMALL, Color::INK, Anchor::Left));
        }
    }
}
