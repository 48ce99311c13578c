//! Colours, and how numbers become colours.

use ndarray::Array2;
use plotters::style::RGBColor;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// The palette of Okabe and Ito (<https://jfly.uni-koeln.de/color/>), told apart by colour-blind readers too.
impl Color {
    pub const BLACK: Color = Color(0, 0, 0);
    pub const ORANGE: Color = Color(0xe6, 0x9f, 0x00);
    pub const SKY: Color = Color(0x56, 0xb4, 0xe9);
    pub const GREEN: Color = Color(0x00, 0x9e, 0x73);
    pub const BLUE: Color = Color(0x00, 0x72, 0xb2);
    pub const VERMILLION: Color = Color(0xd5, 0x5e, 0x00);
    pub const PURPLE: Color = Color(0xcc, 0x79, 0xa7);

    pub(super) const WHITE: Color = Color(255, 255, 255);
    pub(super) const INK: Color = Color(0x26, 0x26, 0x26);
    pub(super) const SOFT: Color = Color(0x5f, 0x63, 0x68);
    pub(super) const AXIS: Color = Color(0x9a, 0xa0, 0xa6);
    pub(super) const LINE: Color = Color(0xe6, 0xe8, 0xea);

    /// The colours of series, in this order and then again.
    pub(super) const SERIES: [Color; 7] =
        [Color::BLUE, Color::VERMILLION, Color::GREEN, Color::PURPLE, Color::ORANGE, Color::SKY, Color::BLACK];

    /// This colour covered by `other` to the share `opacity`.
    pub(super) fn under(self, other: Color, opacity: f32) -> Color {
        let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * opacity).round() as u8;
        Color(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// Black or white, whichever is read more easily on this colour.
    pub(super) fn text_on(self) -> Color {
        let luminance = 0.299 * f32::from(self.0) + 0.587 * f32::from(self.1) + 0.114 * f32::from(self.2);
        if luminance > 150.0 { Color::INK } else { Color::WHITE }
    }
}

impl From<Color> for RGBColor {
    fn from(color: Color) -> Self {
        RGBColor(color.0, color.1, color.2)
    }
}

/// A colour map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// Black to white, for photographs.
    Grey,
    /// Dark purple to yellow.
    Viridis,
    /// Black over red to pale yellow.
    Inferno,
    /// Black over purple to pale pink.
    Magma,
    /// White to dark blue, for counts and shares with numbers on them.
    Blues,
    /// Blue over white to red, for values of both signs; its middle should be zero.
    BlueRed,
}

/// Which value has which colour: `low` the first of the map, `high` the last, what lies outside is cut off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub map: Map,
    pub low: f32,
    pub high: f32,
}

impl Scale {
    /// From the smallest to the largest finite value of `images`; for [`Map::BlueRed`] symmetric about zero.
    ///
    /// ```
    /// use vitlab::plot::{Map, Scale};
    /// let image = ndarray::arr2(&[[0.5, -1.0], [f32::NAN, 3.0]]);
    /// assert_eq!(Scale::fit(Map::Viridis, [&image]), Scale { map: Map::Viridis, low: -1.0, high: 3.0 });
    /// assert_eq!(Scale::fit(Map::BlueRed, [&image]), Scale { map: Map::BlueRed, low: -3.0, high: 3.0 });
    /// ```
    pub fn fit<'a>(map: Map, images: impl IntoIterator<Item = &'a Array2<f32>>) -> Self {
        let values = images.into_iter().flatten().copied().filter(|value| value.is_finite());
        let (low, high) =
            values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        if map == Map::BlueRed {
            let most = low.abs().max(high.abs());
            return Scale { map, low: -most, high: most };
        }
        Scale { map, low, high }
    }

    /// Position on the scale, 0 to 1. A scale of no extent shows its value as the lowest.
    pub(super) fn share(&self, value: f32) -> f32 {
        let extent = self.high - self.low;
        if extent > 0.0 { ((value - self.low) / extent).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// A value that is not a number is light blue-grey, which no map contains.
    pub(super) fn color(&self, value: f32) -> Color {
        if value.is_nan() {
            return Color(0xc4, 0xd0, 0xdc);
        }
        let share = f64::from(self.share(value));
        let colour = match self.map {
            Map::Grey => return Color::BLACK.under(Color::WHITE, share as f32),
            Map::Viridis => colorous::VIRIDIS.eval_continuous(share),
            Map::Inferno => colorous::INFERNO.eval_continuous(share),
            Map::Magma => colorous::MAGMA.eval_continuous(share),
            Map::Blues => colorous::BLUES.eval_continuous(share),
            Map::BlueRed => colorous::RED_BLUE.eval_continuous(1.0 - share),
        };
        Color(colour.r, colour.g, colour.b)
    }
}
