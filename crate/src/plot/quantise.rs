//! Quantisation of a page to at most 256 colours, which makes its PNG less than half as large.

use std::cmp::Reverse;
use std::collections::HashMap;

type Rgb = [u8; 3];

/// The maximum number of colours in a PNG's palette.
const MAX_COLORS: usize = 256;
/// Colours closer than this power of two in each channel may be merged. The difference, 3 % of the range, is invisible.
const CUBE_SIDE: u8 = 8;
/// The largest mean error of a page's pixels, on the scale from 0 to 255.
const MEAN_ERROR: usize = 1;

/// The palette of a page and each pixel's index in it. Up to 256 colours are kept exactly. Of more colours, similar ones
/// are merged into the most frequent of them, and the rarest, at the edges of lines and letters, become the nearest colour
/// of the palette. `None` if this would change the page visibly, as for a photograph in colour.
pub fn palette(rgb: &[Rgb]) -> Option<(Vec<Rgb>, Vec<u8>)> {
    let colors = cubes(rgb.iter().map(|&color| (color, 1)), 1);
    let side = if colors.len() <= MAX_COLORS { 1 } else { CUBE_SIDE };
    let frequent = cubes(colors.iter().copied(), side).into_iter().take(MAX_COLORS);
    let palette: Vec<Rgb> = frequent.map(|(color, _)| color).collect();
    let (mut error, mut index_of) = (0, HashMap::new());
    for (color, count) in colors {
        let distances = palette.iter().map(|&other| distance(other, color)).zip(0u8..=255);
        let (distance, index) = distances.min()?;
        error += distance * count;
        index_of.insert(color, index);
    }
    let indices = rgb.iter().map(|color| index_of[color]).collect();
    (error <= MEAN_ERROR * rgb.len()).then_some((palette, indices))
}

/// The first colour of each cube of this side and the number of pixels of all its colours, the most frequent cube first.
fn cubes(colors: impl Iterator<Item = (Rgb, usize)>, side: u8) -> Vec<(Rgb, usize)> {
    let mut cubes: HashMap<Rgb, (Rgb, usize)> = HashMap::new();
    for (color, count) in colors {
        cubes.entry(color.map(|channel| channel >> side.ilog2())).or_insert((color, 0)).1 += count;
    }
    let mut cubes: Vec<(Rgb, usize)> = cubes.into_values().collect();
    cubes.sort_by_key(|&(color, count)| (Reverse(count), color));
    cubes
}

/// The largest difference of the three channels.
fn distance(a: Rgb, b: Rgb) -> usize {
    a.iter().zip(b).map(|(a, b)| usize::from(a.abs_diff(b))).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_colours_stay_exactly() {
        let page: Vec<Rgb> = (0..=255).flat_map(|i| [[i, 0, 255 - i]; 3]).collect();
        let (palette, indices) = palette(&page).unwrap();
        assert_eq!(palette.len(), 256);
        for (color, index) in page.iter().zip(indices) {
            assert_eq!(palette[usize::from(index)], *color);
        }
    }

    #[test]
    fn a_gradient_becomes_one_of_close_colours() {
        let gradient = (0..1000u32).map(|i| [(i / 4) as u8, (i % 4) as u8, 0]);
        let page: Vec<Rgb> = gradient.chain([[255; 3]; 9000]).collect(); // on a white background, as on every page
        let (palette, indices) = palette(&page).unwrap();
        assert!(palette.len() <= 256);
        for (color, index) in page.iter().zip(indices) {
            assert!(distance(palette[usize::from(index)], *color) < usize::from(CUBE_SIDE));
        }
    }

    #[test]
    fn a_page_that_it_would_change_visibly_keeps_all_colours() {
        let mut rng = fastrand::Rng::with_seed(1);
        let page: Vec<Rgb> = (0..5000).map(|_| [rng.u8(..), rng.u8(..), rng.u8(..)]).collect();
        assert!(palette(&page).is_none());
    }
}
