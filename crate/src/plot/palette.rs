//! The colours of figures, and maps from values to colours.

use std::collections::BTreeMap;

use ndarray::Array2;
use plotters::style::RGBColor;

use super::axis::extent;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// The palette of Okabe and Ito (<https://jfly.uni-koeln.de/color/>), which colour-blind readers can tell apart.
impl Color {
    pub const BLACK: Color = Color(0, 0, 0);
    pub const ORANGE: Color = Color(0xe6, 0x9f, 0x00);
    pub const SKY: Color = Color(0x56, 0xb4, 0xe9);
    pub const GREEN: Color = Color(0x00, 0x9e, 0x73);
    pub const BLUE: Color = Color(0x00, 0x72, 0xb2);
    pub const VERMILLION: Color = Color(0xd5, 0x5e, 0x00);
    pub const PURPLE: Color = Color(0xcc, 0x79, 0xa7);

    pub(super) const WHITE: Color = Color(255, 255, 255);
    pub(super) const TEXT: Color = Color(0x26, 0x26, 0x26);
    pub(super) const AXIS_TEXT: Color = Color(0x5f, 0x63, 0x68);
    pub(super) const AXIS: Color = Color(0x9a, 0xa0, 0xa6);
    pub(super) const GRID_LINE: Color = Color(0xe6, 0xe8, 0xea);
    /// NaN in a map. No map contains this colour.
    pub(super) const NAN: Color = Color(0xc4, 0xd0, 0xdc);

    /// The one colour of each network in all curves and bars, by the first word of a series' name in lower case.
    const NETWORKS: [(&[&str], Color); 3] =
        [(&["cnn", "teacher"], Color::BLUE), (&["vit"], Color::VERMILLION), (&["student", "deit"], Color::GREEN)];
    /// The colours of all other series.
    const SERIES: [Color; 7] =
        [Color::BLUE, Color::VERMILLION, Color::GREEN, Color::PURPLE, Color::ORANGE, Color::SKY, Color::BLACK];

    /// The colours of a figure's series by name, given the names in order of appearance. The first series of a network has
    /// the network's colour. All others take the other colours in turn, which repeat after the last.
    pub(crate) fn of_series<'a>(names: &[&'a str]) -> BTreeMap<&'a str, Color> {
        let network = |name: &str| {
            let word = name.split(|letter: char| !letter.is_alphanumeric()).next()?.to_lowercase();
            Color::NETWORKS.iter().find(|(words, _)| words.contains(&&word[..])).map(|&(_, color)| color)
        };
        let no_network = names.iter().all(|name| network(name).is_none());
        let is_free = |color: &Color| no_network || Color::NETWORKS.iter().all(|(_, network)| network != color);
        let mut others = Color::SERIES.into_iter().filter(is_free).cycle();
        let mut colors = BTreeMap::new();
        for name in names {
            let own = network(name).filter(|color| colors.values().all(|used| used != color));
            if !colors.contains_key(name) {
                colors.extend(own.or_else(|| others.next()).map(|color| (*name, color)));
            }
        }
        colors
    }

    /// This colour covered by `other`, whose opacity is from 0 to 1.
    pub(super) fn under(self, other: Color, opacity: f32) -> Color {
        let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * opacity).round() as u8;
        Color(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// The colour of text on this background: dark or white, whichever has the higher contrast.
    pub(super) fn text_on(self) -> Color {
        let luminance = 0.299 * f32::from(self.0) + 0.587 * f32::from(self.1) + 0.114 * f32::from(self.2);
        if luminance > 150.0 { Color::TEXT } else { Color::WHITE }
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
    /// Blue over white to red, for values of both signs. The middle of its scale should be zero.
    BlueRed,
}

/// A colour map with the values at its ends. Values outside get the colour of the nearer end.
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
        let finite = images.into_iter().flatten().filter(|value| value.is_finite());
        let (low, high) = match extent(finite.map(|&value| f64::from(value))) {
            (low, high) if low > high => (0.0, 1.0),
            (low, high) => (low as f32, high as f32),
        };
        let bound = low.abs().max(high.abs());
        let (low, high) = if map == Map::BlueRed { (-bound, bound) } else { (low, high) };
        Scale { map, low, high }
    }

    /// Position of `value` from 0 at the low end to 1 at the high end; 0 if the ends are equal.
    pub(super) fn position(&self, value: f32) -> f32 {
        let extent = self.high - self.low;
        if extent > 0.0 { ((value - self.low) / extent).clamp(0.0, 1.0) } else { 0.0 }
    }

    pub(crate) fn color(&self, value: f32) -> Color {
        if value.is_nan() {
            return Color::NAN;
        }
        let position = f64::from(self.position(value));
        let color = match self.map {
            Map::Grey => return Color::BLACK.under(Color::WHITE, position as f32),
            Map::Viridis => colorous::VIRIDIS.eval_continuous(position),
            Map::Inferno => colorous::INFERNO.eval_continuous(position),
            Map::Magma => colorous::MAGMA.eval_continuous(position),
            Map::Blues => colorous::BLUES.eval_continuous(position),
            Map::BlueRed => colorous::RED_BLUE.eval_continuous(1.0 - position),
        };
        Color(color.r, color.g, color.b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_keep_their_colours() {
        let [cnn, vit, student] = [Color::BLUE, Color::VERMILLION, Color::GREEN];
        let colors = |names: &[&str]| names.iter().map(|name| Color::of_series(names)[name]).collect::<Vec<_>>();
        assert_eq!(colors(&["ViT", "CNN teacher", "ViT"]), [vit, cnn, vit]);
        assert_eq!(colors(&["student", "student, soft", "vit"]), [student, Color::PURPLE, vit]);
        let all = colors(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        assert_eq!((&all[..7], all[7]), (&Color::SERIES[..], Color::BLUE));
    }
}
