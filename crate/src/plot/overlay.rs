//! Maps over pictures: as colours, as brightness, or as level lines.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::text::number;
use super::{Bar, Color, Map, Scale};
use crate::data::Placement;

/// Opacity of a heatmap's highest value. The lowest value is transparent.
const OPACITY: f32 = 0.8;
/// Darkness of a dimmed picture where the map is lowest.
const DARKNESS: f32 = 0.8;
/// Parts of a picture that the map doesn't reach are covered with this colour.
const VEIL: Color = Color(0x9a, 0xa0, 0xa6);
const VEIL_OPACITY: f32 = 0.8;
/// The level lines, as shares of the scale.
const LEVELS: [f32; 3] = [0.25, 0.5, 0.75];
/// Half the width of a level line, and of the line with its outline, in pixels as drawn.
const LINE: i32 = 3;
const OUTLINED: i32 = 6;

/// The way in which a map is drawn over a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlayStyle {
    /// Colours whose opacity grows with the value.
    #[default]
    Heat,
    /// The picture in its own colours, darkened where the map is low.
    Dim,
    /// The picture in its own colours under lines at 25, 50 and 75 % of the scale. Each line has a light and a dark tone,
    /// so that it is seen on both white and black.
    Contours,
}

impl OverlayStyle {
    /// The colour bar of a figure with maps in this style. `label` says how the maps were scaled.
    ///
    /// ```
    /// use vitlab::plot::{Map, OverlayStyle, Scale};
    /// let scale = Scale { map: Map::Inferno, low: 0.0, high: 2.0 };
    /// assert_eq!(OverlayStyle::Contours.bar(scale, "raw").label, "lines at 0.50, 1 and 1.50; raw");
    /// assert_eq!(OverlayStyle::Dim.bar(scale, "raw").scale.map, Map::Grey);
    /// ```
    pub fn bar(self, scale: Scale, label: &str) -> Bar {
        match self {
            OverlayStyle::Heat => Bar { scale, label: label.to_string() },
            OverlayStyle::Dim => {
                Bar { scale: Scale { map: Map::Grey, ..scale }, label: format!("brightness of the picture; {label}") }
            }
            OverlayStyle::Contours => {
                let [low, middle, high] = LEVELS.map(|level| number(scale.low + (scale.high - scale.low) * level));
                Bar { scale, label: format!("lines at {low}, {middle} and {high}; {label}") }
            }
        }
    }
}

/// A map over a picture.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Values [rows, columns], any size.
    pub values: Array2<f32>,
    pub scale: Scale,
    pub style: OverlayStyle,
    /// The map's place in the picture. The rest of the picture is veiled in grey.
    pub place: Placement,
    /// Whether values between the centres of the map's pixels are interpolated.
    pub smooth: bool,
}

impl Overlay {
    /// The translucent colours of `values` over all of a picture, without interpolation.
    pub fn new(values: Array2<f32>, scale: Scale) -> Self {
        Overlay { values, scale, style: OverlayStyle::Heat, place: Placement::WHOLE, smooth: false }
    }

    /// Draws the map over a picture of any size.
    pub(super) fn paint(&self, picture: &mut Array2<Color>) {
        let (rows, columns) = picture.dim();
        let share = |index: usize, count: usize| (index as f64 + 0.5) / count as f64;
        let values = Array2::from_shape_fn((rows, columns), |(y, x)| self.at(share(x, columns), share(y, rows)));
        picture.zip_mut_with(&values, |color, value| {
            *color = match value {
                Some(value) => self.over(*color, *value),
                None => color.under(VEIL, VEIL_OPACITY),
            }
        });
        if self.style == OverlayStyle::Contours {
            self.draw_lines(picture, &values);
        }
    }

    /// The map's value at a point of the picture, given as shares of its width and height; `None` outside of the map.
    fn at(&self, x: f64, y: f64) -> Option<f32> {
        let (rows, columns) = self.values.dim();
        let (x, y) = self.place.within(x, y)?;
        let (x, y) = (x * columns as f64, y * rows as f64);
        if !self.smooth {
            return Some(self.values[[y as usize, x as usize]]);
        }
        let neighbours = |at: f64, count: usize| {
            let at = (at - 0.5).clamp(0.0, (count - 1) as f64);
            (at as usize, (at as usize + 1).min(count - 1), at.fract() as f32)
        };
        let ((left, right, across), (top, bottom, down)) = (neighbours(x, columns), neighbours(y, rows));
        let row = |y: usize| {
            let (left, right) = (self.values[[y, left]], self.values[[y, right]]);
            left + (right - left) * across
        };
        Some(row(top) + (row(bottom) - row(top)) * down)
    }

    /// A pixel of the picture under a value of the map.
    fn over(&self, below: Color, value: f32) -> Color {
        match self.style {
            _ if value.is_nan() => below.under(Color::NAN, OPACITY),
            OverlayStyle::Heat => below.under(self.scale.color(value), OPACITY * self.scale.position(value)),
            OverlayStyle::Dim => below.under(Color::BLACK, DARKNESS * (1.0 - self.scale.position(value))),
            OverlayStyle::Contours => below,
        }
    }

    /// Draws a line between the pixels below and above each level, in the level's colour with a contrasting outline.
    fn draw_lines(&self, picture: &mut Array2<Color>, values: &Array2<Option<f32>>) {
        let lines = LEVELS.map(|level| {
            let value = self.scale.low + (self.scale.high - self.scale.low) * level;
            (edges(values, value), self.scale.color(value))
        });
        for (line, color) in &lines {
            stamp(picture, line, OUTLINED, color.text_on());
        }
        for (line, color) in &lines {
            stamp(picture, line, LINE, *color);
        }
    }
}

/// The pixels of which the right or the lower neighbour lies on the other side of `level`. The edge of the map is no line.
fn edges(values: &Array2<Option<f32>>, level: f32) -> Vec<(usize, usize)> {
    let differs = |value: f32, at: (usize, usize)| {
        values.get(at).copied().flatten().is_some_and(|other| (value >= level) != (other >= level))
    };
    let is_edge = |((y, x), value): ((usize, usize), &Option<f32>)| {
        value.is_some_and(|value| differs(value, (y + 1, x)) || differs(value, (y, x + 1)))
    };
    values.indexed_iter().filter(|&item| is_edge(item)).map(|(at, _)| at).collect()
}

/// Draws a disc around each of the points.
fn stamp(picture: &mut Array2<Color>, points: &[(usize, usize)], radius: i32, color: Color) {
    let square = || -radius..=radius;
    let disc: Vec<(isize, isize)> = square()
        .flat_map(|y| square().map(move |x| (y, x)))
        .filter(|(y, x)| y * y + x * x <= radius * radius)
        .map(|(y, x)| (y as isize, x as isize))
        .collect();
    for &(y, x) in points {
        for &(down, across) in &disc {
            if let (Some(y), Some(x)) = (y.checked_add_signed(down), x.checked_add_signed(across))
                && let Some(pixel) = picture.get_mut((y, x))
            {
                *pixel = color;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Scale = Scale { map: Map::Grey, low: 0.0, high: 1.0 };

    fn painted(overlay: &Overlay, color: Color, (rows, columns): (usize, usize)) -> Array2<Color> {
        let mut picture = Array2::from_elem((rows, columns), color);
        overlay.paint(&mut picture);
        picture
    }

    /// A map over the right half of a picture: the left half is veiled, the right half has the map's two columns.
    #[test]
    fn a_map_lies_at_its_place() {
        let place = Placement { left: 0.5, width: 0.5, ..Placement::WHOLE };
        let values = ndarray::arr2(&[[0.0, 1.0]]);
        let overlay = Overlay { style: OverlayStyle::Dim, place, ..Overlay::new(values, UNIT) };
        let picture = painted(&overlay, Color(200, 100, 0), (1, 8));
        let veiled = Color(200, 100, 0).under(VEIL, VEIL_OPACITY);
        let dark = Color(40, 20, 0); // a fifth of the picture's brightness
        let expected = [[veiled; 4], [dark, dark, Color(200, 100, 0), Color(200, 100, 0)]].concat();
        assert_eq!(picture.into_raw_vec_and_offset().0, expected);
    }

    /// A map that was padded reaches beyond the picture: its outer columns are not seen.
    #[test]
    fn a_padded_map_is_cut_at_the_picture() {
        let place = Placement { left: -0.5, width: 2.0, ..Placement::WHOLE };
        let values = ndarray::arr2(&[[1.0, 0.0, 1.0, 0.0]]);
        let overlay = Overlay { style: OverlayStyle::Dim, place, ..Overlay::new(values, UNIT) };
        let picture = painted(&overlay, Color::WHITE, (1, 2));
        assert_eq!((picture[[0, 0]], picture[[0, 1]]), (Color(51, 51, 51), Color::WHITE));
    }

    #[test]
    fn values_are_interpolated_between_centres() {
        let overlay = Overlay { smooth: true, ..Overlay::new(ndarray::arr2(&[[0.0, 1.0], [2.0, 3.0]]), UNIT) };
        assert_eq!(overlay.at(0.5, 0.5), Some(1.5));
        assert_eq!(overlay.at(0.375, 0.25), Some(0.25));
        assert_eq!(overlay.at(0.1, 0.9), Some(2.0)); // beyond the outer centres
        assert_eq!(overlay.at(1.0, 0.5), None);
        assert_eq!(Overlay { smooth: false, ..overlay }.at(0.49, 0.51), Some(2.0));
    }

    /// A ramp from 0 to 1 has its lines at a quarter, a half and three quarters, with a light and a dark tone each.
    #[test]
    fn lines_lie_at_their_levels() {
        let values = Array2::from_shape_fn((1, 1000), |(_, x)| (x as f32 + 0.5) / 1000.0);
        let scale = Scale { map: Map::Inferno, ..UNIT };
        let overlay = Overlay { style: OverlayStyle::Contours, ..Overlay::new(values, scale) };
        for background in [Color::WHITE, Color::BLACK, Color(120, 140, 90)] {
            let picture = painted(&overlay, background, (40, 1000));
            let changed: Vec<usize> = (0..1000).filter(|&x| picture[[20, x]] != background).collect();
            assert!(
                changed.iter().all(|x| [250, 500, 750].iter().any(|line| x.abs_diff(*line) <= OUTLINED as usize + 1))
            );
            for (line, level) in [(249, 0.25), (499, 0.5), (749, 0.75)] {
                let core = scale.color(level);
                assert_eq!(picture[[20, line]], core);
                assert_eq!(picture[[20, line + 5]], core.text_on());
            }
        }
    }

    #[test]
    fn values_that_are_no_numbers_have_a_colour_of_their_own() {
        for style in [OverlayStyle::Heat, OverlayStyle::Dim, OverlayStyle::Contours] {
            let overlay = Overlay { style, ..Overlay::new(ndarray::arr2(&[[f32::NAN]]), UNIT) };
            assert_eq!(painted(&overlay, Color::WHITE, (1, 1))[[0, 0]], Color::WHITE.under(Color::NAN, OPACITY));
        }
    }
}
