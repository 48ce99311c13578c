//! Quantisation of a page to at most 256 colours, which makes its PNG less than half as large.

use std::collections::HashMap;

type Rgb = [u8; 3];

/// The maximum number of colours in a PNG's palette.
const MAX_COLORS: usize = 256;
/// Colours closer than this in each channel may be merged. The difference, 3 % of the range, is invisible.
const CUBE_SIDE: u8 = 8;
/// The largest mean error of a page's pixels, on the scale from 0 to 255.
const MEAN_ERROR: usize = 1;

/// The palette of a page and each pixel's index in it. Up to 256 colours are kept exactly. Of more colours, similar ones
/// are merged into the most frequent of them, and the rarest, at the edges of lines and letters, become the nearest colour
/// of the palette. `None` if this would change the page visibly, as for a photograph in colour.
pub fn palette(rgb: &[Rgb]) -> Option<(Vec<Rgb>, Vec<u8>)> {
    let mut counts: HashMap<Rgb, usize> = HashMap::new();
    for color in rgb {
        *counts.entry(*color).or_default() += 1;
    }
    let mut colors: Vec<(Rgb, usize)> = counts.into_iter().collect();
    colors.sort_by_key(|&(color, count)| (std::cmp::Reverse(count), color));
    let palette = if colors.len() <= MAX_COLORS {
        colors.iter().map(|(color, _)| *color).collect()
    } else {
        representatives(&colors)
    };
    let mut error = 0;
    let index_of: HashMap<Rgb, u8> = colors
        .iter()
        .map(|&(color, count)| {
            let index = nearest(&palette, color);
            error += distance(palette[index], color) * count;
            (color, index as u8)
        })
        .collect();
    if error > MEAN_ERROR * rgb.len() {
        return None;
    }
    let indices = rgb.iter().map(|color| index_of[color]).collect();
    Some((palette, indices))
}

/// The most frequent colour of each cube of side [`CUBE_SIDE`], for the cubes with the most pixels. `colors` starts with the
/// most frequent colour.
fn representatives(colors: &[(Rgb, usize)]) -> Vec<Rgb> {
    let mut cubes: HashMap<Rgb, (Rgb, usize)> = HashMap::new();
    for &(color, count) in colors {
        let cube = cubes.entry(color.map(|channel| channel / CUBE_SIDE));
        cube.or_insert((color, 0)).1 += count;
    }
    let mut cubes: Vec<(Rgb, usize)> = cubes.into_values().collect();
    cubes.sort_by_key(|&(color, count)| (std::cmp::Reverse(count), color));
    cubes.into_iter().take(MAX_COLORS).map(|(color, _)| color).collect()
}

fn nearest(palette: &[Rgb], color: Rgb) -> usize {
    (0..palette.len()).min_by_key(|&index| distance(palette[index], color)).unwrap_or(0)
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
        let page: Vec<Rgb> = (0..1000u32).map(|i| [(i / 4) as u8, (i % 4) as u8, 0]).collect();
        // Adds a white background, which every page has.
        let page: Vec<Rgb> = page.into_iter().chain([[255; 3]; 9000]).collect();
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
