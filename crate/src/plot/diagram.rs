//! Parts of diagrams: boxes with text, arrows, and signs of addition.

use plotters::element::{Circle, PathElement, Polygon};
use plotters::style::{Color as _, RGBColor};

use super::Color;
use super::canvas::{Canvas, IN_MEMORY, Rect, pixels, stroke};
use super::text::{Anchor, LABEL, LEADING, SMALL, Style, style};

/// Length and half the width of an arrow's head.
const HEAD: [f32; 2] = [8.0, 4.0];
const THICKNESS: f32 = 1.5;
/// Radius of a sign of addition.
pub const PLUS: f32 = 9.0;

type Point = (f32, f32);

impl Canvas {
    /// A box in a light tint of `color`, with a bold first line and smaller ones below it, in its middle.
    pub fn node(&mut self, area: Rect, color: Color, lines: &[&str]) {
        let (x, y, width, height) = area;
        self.rect(x, y, width, height, color.under(Color::WHITE, 0.82));
        self.frame(area, 1.0, color);
        self.centred(x + width / 2.0, y + height / 2.0, lines);
    }

    /// Lines of text around their middle, the first one bold.
    pub fn centred(&mut self, x: f32, y: f32, lines: &[&str]) {
        let sizes = || (0..lines.len()).map(|i| if i == 0 { LABEL } else { SMALL });
        let mut top = y - sizes().map(|size| size * LEADING).sum::<f32>() / 2.0;
        for (i, (line, size)) in lines.iter().zip(sizes()).enumerate() {
            let style = Style { bold: i == 0, ..style(size, Color::TEXT, Anchor::Middle) };
            self.text(x, top + size * LEADING / 2.0, line, style);
            top += size * LEADING;
        }
    }

    /// Small lines of text below `y`, centred.
    pub fn note(&mut self, x: f32, y: f32, lines: &[&str]) {
        for (i, line) in lines.iter().enumerate() {
            let middle = y + SMALL * LEADING * (i as f32 + 0.5);
            self.text(x, middle, line, style(SMALL, Color::AXIS_TEXT, Anchor::Middle));
        }
    }

    /// A line through the points, which are joined horizontally or vertically, with an arrowhead at the last one.
    pub fn arrow(&mut self, points: &[Point], color: Color) {
        let [.., before, tip] = points else { return };
        let [along, across] = [(tip.0 - before.0).signum(), (tip.1 - before.1).signum()];
        // One of the two directions is that of the arrow; the other is zero.
        let [dx, dy] = if (tip.0 - before.0).abs() > (tip.1 - before.1).abs() { [along, 0.0] } else { [0.0, across] };
        let base = (tip.0 - HEAD[0] * dx, tip.1 - HEAD[0] * dy);
        let mut line: Vec<(i32, i32)> = points[..points.len() - 1].iter().map(at).collect();
        line.push(at(&base));
        let side = |sign: f32| at(&(base.0 + sign * HEAD[1] * dy, base.1 + sign * HEAD[1] * dx));
        let head = vec![at(tip), side(1.0), side(-1.0)];
        self.area().draw(&PathElement::new(line, stroke(THICKNESS, color))).expect(IN_MEMORY);
        self.area().draw(&Polygon::new(head, RGBColor::from(color).filled())).expect(IN_MEMORY);
    }

    /// A circle with a plus sign.
    pub fn plus(&mut self, (x, y): Point, color: Color) {
        for (radius, color) in [(PLUS, color), (PLUS - 1.5, Color::WHITE)] {
            let circle = Circle::new(at(&(x, y)), pixels(radius), RGBColor::from(color).filled());
            self.area().draw(&circle).expect(IN_MEMORY);
        }
        self.rect(x - 5.0, y - 0.75, 10.0, 1.5, color);
        self.rect(x - 0.75, y - 5.0, 1.5, 10.0, color);
    }
}

fn at(&(x, y): &Point) -> (i32, i32) {
    (pixels(x), pixels(y))
}
