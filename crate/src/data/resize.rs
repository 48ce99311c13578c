//! Scaling of pictures, bit for bit as Pillow does it (`src/libImaging/Resample.c`), which models were trained with.
//!
//! Each pass is a product with weights of 22 binary digits. Between the two passes values are rounded to bytes and cut to
//! 0 to 255. The crate `image` doesn't, which changes sharp edges by up to 5 levels.

use std::f64::consts::PI;

use image::{ImageBuffer, Pixel};

use super::Filter;

/// Binary digits of the weights after the point.
const DIGITS: u32 = 22;

/// The weights of the pixels, from `start` on, that become one pixel.
struct Weights {
    start: usize,
    weights: Vec<i64>,
}

/// Scales a picture: the rows first, then the columns.
pub(super) fn resize<P: Pixel<Subpixel = u8> + 'static>(
    image: &ImageBuffer<P, Vec<u8>>,
    (width, height): (u32, u32),
    filter: Filter,
) -> ImageBuffer<P, Vec<u8>> {
    let channels = usize::from(P::CHANNEL_COUNT);
    let [old_width, old_height, new_width, new_height] =
        [image.width(), image.height(), width, height].map(|length| length as usize);
    let mut pixels = image.as_raw().clone();
    if new_width != old_width {
        let weights = weights(old_width, new_width, filter);
        let rows = pixels.chunks_exact(old_width * channels);
        pixels =
            rows.flat_map(|row| weights.iter().flat_map(move |weights| combined(row, weights, channels))).collect();
    }
    if new_height != old_height {
        let length = new_width * channels;
        let weights = weights(old_height, new_height, filter);
        pixels = weights.iter().flat_map(|weights| combined(&pixels, weights, length)).collect();
    }
    ImageBuffer::from_raw(width, height, pixels).expect("a value per channel and pixel")
}

/// The weighted sum of parts of `length` bytes: of the pixels of a row, or of the rows of a picture.
fn combined(parts: &[u8], weights: &Weights, length: usize) -> Vec<u8> {
    let mut sums = vec![1i64 << (DIGITS - 1); length]; // one half, to round
    for (part, weight) in parts.chunks_exact(length).skip(weights.start).zip(&weights.weights) {
        sums.iter_mut().zip(part).for_each(|(sum, &value)| *sum += i64::from(value) * weight);
    }
    sums.into_iter().map(|sum| (sum >> DIGITS).clamp(0, 255) as u8).collect()
}

fn weights(old: usize, new: usize, filter: Filter) -> Vec<Weights> {
    let scale = old as f64 / new as f64;
    let stretch = scale.max(1.0);
    let support = match filter {
        Filter::Nearest => return (0..new).map(|i| nearest(i, scale)).collect(),
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    } * stretch;
    let weights = |index: usize| {
        let centre = (index as f64 + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(old);
        let weights: Vec<f64> =
            (start..end).map(|pixel| kernel(filter, (pixel as f64 - centre + 0.5) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        let digits = |weight: &f64| (weight / sum * f64::from(1 << DIGITS)).round() as i64;
        Weights { start, weights: weights.iter().map(digits).collect() }
    };
    (0..new).map(weights).collect()
}

fn nearest(index: usize, scale: f64) -> Weights {
    Weights { start: ((index as f64 + 0.5) * scale) as usize, weights: vec![1 << DIGITS] }
}

fn kernel(filter: Filter, x: f64) -> f64 {
    let (x, sinc) = (x.abs(), |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) });
    match filter {
        Filter::Nearest => 1.0,
        Filter::Bilinear => (1.0 - x).max(0.0),
        // Keys' kernel with a = −0.5
        Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        Filter::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
        Filter::Bicubic | Filter::Lanczos => 0.0,
    }
}
