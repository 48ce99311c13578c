//! Maps from values to colours.

use ndarray::Array2;

use super::Color;
use super::axis::extent;

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
        if map == Map::BlueRed {
            let bound = low.abs().max(high.abs());
            return Scale { map, low: -bound, high: bound };
        }
        Scale { map, low, high }
    }

    /// Position of `value` from 0 at the low end to 1 at the high end; 0 if the ends are equal.
    pub(super) fn position(&self, value: f32) -> f32 {
        let extent = self.high - self.low;
        if extent > 0.0 { ((value - self.low) / extent).clamp(0.0, 1.0) } else { 0.0 }
    }

    pub(super) fn color(&self, value: f32) -> Color {
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
