//! The colours of figures.

use plotters::style::RGBColor;

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
    /// Text.
    pub(super) const INK: Color = Color(0x26, 0x26, 0x26);
    /// Text at axes.
    pub(super) const SOFT: Color = Color(0x5f, 0x63, 0x68);
    pub(super) const AXIS: Color = Color(0x9a, 0xa0, 0xa6);
    /// Grid lines.
    pub(super) const LINE: Color = Color(0xe6, 0xe8, 0xea);
    /// NaN in a map. No map contains this colour.
    pub(super) const NAN: Color = Color(0xc4, 0xd0, 0xdc);

    const SERIES: [Color; 7] =
        [Color::BLUE, Color::VERMILLION, Color::GREEN, Color::PURPLE, Color::ORANGE, Color::SKY, Color::BLACK];

    /// The colour of the series at `index`, counted in order of first appearance in the figure. After seven series the
    /// colours repeat.
    ///
    /// This order is the only source of the colours of networks in curves and bars: a network has the colour of its place
    /// among the figure's series. In `[CNN, ViT]`, the CNN is blue and the ViT vermillion.
    pub(super) fn of_series(index: usize) -> Color {
        Color::SERIES[index % Color::SERIES.len()]
    }

    /// This colour covered by `other`, whose opacity is from 0 to 1.
    pub(super) fn under(self, other: Color, opacity: f32) -> Color {
        let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * opacity).round() as u8;
        Color(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// The colour of text on this background: dark or white, whichever has the higher contrast.
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
