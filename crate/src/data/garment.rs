//! A picture of a garment as FashionMNIST would have it (arXiv 1708.07747, section 2): bright on black, trimmed to the
//! garment, its longer side scaled to the picture's by taking single pixels, centred.

use std::ops::Range;

use image::{GrayImage, imageops};

use super::grid::{Grid, Sums};
use super::{Fit, Invert, Picture, Placement, Preprocessing};

/// Share of the border above middle grey from which a background is bright. In the 70,000 images of FashionMNIST, at
/// most 0.58 of the border are.
const BRIGHT_BORDER: f64 = 0.6;
/// Largest difference of a background's levels. The data set's makers allowed as much when they trimmed: 5 %.
const EVEN: u8 = 12;
/// Share of the border that must be as even. The rest may be a garment that touches the edge.
const EVEN_BORDER: f64 = 0.6;
/// Levels above an even background from which a pixel belongs to the garment. Noise in the background raises them.
const VISIBLE: u8 = 3;
/// Share of a row or a column that must be visible, so that single noisy pixels are no garment.
const VISIBLE_SHARE: f64 = 0.006;
/// Share of its neighbour's brightness up to which a pixel at an edge is blur.
const BLUR: f64 = 0.06;

/// A garment in a square.
pub(super) struct Garment {
    /// I × I bytes
    pub pixels: Vec<u8>,
    pub inverted: bool,
    /// The square's place in the picture.
    pub place: Placement,
    pub notes: Vec<String>,
}

/// Finds the garment in a picture and places it in a square of the model's size. A picture of that size already is only
/// inverted, where it has to be.
pub(super) fn garment(picture: &Picture, preprocessing: &Preprocessing, invert: Invert) -> Garment {
    let side = preprocessing.side as u32;
    let mut notes = Vec::new();
    if picture.is_transparent() {
        notes.push("transparent parts are taken as black".to_string());
    }
    let mut grey = picture.grey(0);
    let inverted = invert == Invert::Yes || invert == Invert::Auto && is_bright(&grey);
    if inverted {
        grey = picture.grey(255); // the inversion turns what is transparent black
        imageops::invert(&mut grey);
    }
    if grey.dimensions() == (side, side) {
        return Garment { pixels: grey.into_raw(), inverted, place: Placement::WHOLE, notes };
    }
    let frame = background(&grey).map(|Background { level, noise }| {
        lift(&mut grey, level);
        Frame::find(&grey, side, VISIBLE + noise)
    });
    let (pixels, place) = match frame {
        Some(Some(frame)) => (frame.sampled(&grey, side), frame.place(grey.dimensions(), side)),
        missing => {
            notes.push(match missing {
                Some(_) => "shows no garment: all of it looks like its border".to_string(),
                None => "has no even background that the garment stands out from; all of it is taken".to_string(),
            });
            let padded = Preprocessing { fit: Fit::Pad, ..preprocessing.clone() };
            (padded.fitted(&grey), padded.place(grey.dimensions()))
        }
    };
    Garment { pixels, inverted, place, notes }
}

/// The values of a picture's border, which is a pixel wide, in large pictures more.
fn border(grey: &GrayImage) -> Vec<u8> {
    let (width, height) = grey.dimensions();
    let thickness = (width.min(height) / 100).max(1);
    let inside = |at: u32, length: u32| at >= thickness && at < length - thickness;
    let pixels = grey.enumerate_pixels().filter(|&(x, y, _)| !(inside(x, width) && inside(y, height)));
    pixels.map(|(_, _, pixel)| pixel.0[0]).collect()
}

fn share(values: &[u8], holds: impl Fn(u8) -> bool) -> f64 {
    values.iter().filter(|&&value| holds(value)).count() as f64 / values.len() as f64
}

fn is_bright(grey: &GrayImage) -> bool {
    share(&border(grey), |value| value >= 128) > BRIGHT_BORDER
}

/// An even background.
struct Background {
    level: u8,
    /// The difference from `level` that 1 in 100 pixels exceeds.
    noise: u8,
}

/// The background that a picture's border shows.
fn background(grey: &GrayImage) -> Option<Background> {
    let mut values = border(grey);
    values.sort_unstable();
    let level = values[values.len() / 2];
    let mut even: Vec<u8> = values.iter().map(|value| value.abs_diff(level)).filter(|&apart| apart <= EVEN).collect();
    even.sort_unstable();
    let is_even = even.len() as f64 >= EVEN_BORDER * values.len() as f64;
    is_even.then(|| Background { level, noise: even[even.len() * 99 / 100] })
}

/// Makes the background black. White stays white.
fn lift(grey: &mut GrayImage, level: u8) {
    let room = u32::from(255 - level).max(1);
    for pixel in grey.pixels_mut() {
        pixel.0[0] = ((u32::from(pixel.0[0].saturating_sub(level)) * 255 + room / 2) / room) as u8;
    }
}

/// A part of a picture, and the number of pixels that it becomes.
struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    columns: u32,
    rows: u32,
}

impl Frame {
    /// The garment's frame. `None` if there is nothing but background.
    ///
    /// An image of the data set that was enlarged is taken with its own pixels. Otherwise the longer side of the garment's
    /// outline becomes `side` pixels.
    fn find(grey: &GrayImage, side: u32, visible: u8) -> Option<Frame> {
        let (width, height) = grey.dimensions();
        let (mut across, mut down) = (vec![(0, 0.0); width as usize], vec![(0, 0.0); height as usize]);
        for (x, y, pixel) in grey.enumerate_pixels().filter(|(.., pixel)| pixel.0[0] >= visible) {
            for (count, sum) in [&mut across[x as usize], &mut down[y as usize]] {
                *count += 1;
                *sum += f64::from(pixel.0[0]);
            }
        }
        let without_noise = |sums: Vec<(u32, f64)>, length: u32| {
            let least = VISIBLE_SHARE * f64::from(length);
            sums.into_iter().map(|(count, sum)| if f64::from(count) >= least { sum } else { 0.0 }).collect()
        };
        let (across, down) = (without_noise(across, height), without_noise(down, width));
        let (across, down) = (Sums::new(across)?, Sums::new(down)?);
        if width == height && fills(&across, side) | fills(&down, side) {
            return Some(Frame::of(0..width as usize, 0..height as usize, side));
        }
        match Grid::find(&across, &down, f64::from(side)) {
            Some(grid) => Some(Frame::on_grid(&grid, &across, &down).trimmed(grey, side, visible)),
            None => {
                let half = across.len().max(down.len()) / (2 * side as usize);
                Some(Frame::of(outline(&across, half)?, outline(&down, half)?, side))
            }
        }
    }

    /// A part of a picture whose longer side becomes `side` pixels.
    fn of(columns: Range<usize>, rows: Range<usize>, side: u32) -> Frame {
        let longer = columns.len().max(rows.len());
        let pixels = |length: usize| ((length as f64 * f64::from(side) / longer as f64).round() as u32).clamp(1, side);
        Frame {
            left: columns.start as f64,
            top: rows.start as f64,
            width: columns.len() as f64,
            height: rows.len() as f64,
            columns: pixels(columns.len()),
            rows: pixels(rows.len()),
        }
    }

    /// The pixels of a grid that a garment may touch.
    fn on_grid(grid: &Grid, across: &Sums, down: &Sums) -> Frame {
        let covered = |edge: f64, sums: &Sums| {
            let [start, end] = [sums.start, sums.end].map(|place| (place as f64 - edge) / grid.unit);
            (edge + (start.floor() - 1.0) * grid.unit, (end.ceil() - start.floor()) as u32 + 2)
        };
        let ((left, columns), (top, rows)) = (covered(grid.left, across), covered(grid.top, down));
        let [width, height] = [columns, rows].map(|pixels| f64::from(pixels) * grid.unit);
        Frame { left, top, width, height, columns, rows }
    }

    /// Without the rows and columns at its edges that are empty, and at most `side` long and wide.
    fn trimmed(self, grey: &GrayImage, side: u32, visible: u8) -> Frame {
        let (values, width) = (self.values(grey), self.columns as usize);
        let brightest = |values: &mut dyn Iterator<Item = &u8>| values.copied().max().unwrap_or(0);
        let rows: Vec<u8> = values.chunks(width).map(|row| brightest(&mut row.iter())).collect();
        let columns: Vec<u8> =
            (0..width).map(|column| brightest(&mut values.iter().skip(column).step_by(width))).collect();
        let (rows, columns) = (occupied(&rows, side as usize, visible), occupied(&columns, side as usize, visible));
        let [unit_x, unit_y] = [self.width / f64::from(self.columns), self.height / f64::from(self.rows)];
        Frame {
            left: self.left + columns.start as f64 * unit_x,
            top: self.top + rows.start as f64 * unit_y,
            width: columns.len() as f64 * unit_x,
            height: rows.len() as f64 * unit_y,
            columns: columns.len() as u32,
            rows: rows.len() as u32,
        }
    }

    /// The values at the centres of the new pixels, row by row; black outside the picture.
    fn values(&self, grey: &GrayImage) -> Vec<u8> {
        let at = |start: f64, length: f64, index: u32, count: u32| {
            start + (f64::from(index) + 0.5) * length / f64::from(count)
        };
        let places = (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (row, column)));
        let value = |(row, column)| {
            let x = at(self.left, self.width, column, self.columns);
            interpolated(grey, x, at(self.top, self.height, row, self.rows))
        };
        places.map(value).collect()
    }

    /// The values in the middle of a black square. If the shorter side leaves an odd number of pixels, one more is before
    /// it than after it, as in the data set.
    fn sampled(&self, grey: &GrayImage, side: u32) -> Vec<u8> {
        let mut square = GrayImage::new(side, side);
        let values = GrayImage::from_raw(self.columns, self.rows, self.values(grey)).expect("one value per pixel");
        let [left, top] = [self.columns, self.rows].map(|pixels| i64::from(before(pixels, side)));
        imageops::replace(&mut square, &values, left, top);
        square.into_raw()
    }

    /// The place of the square of [`Frame::sampled`] in a picture of this width and height.
    fn place(&self, (width, height): (u32, u32), side: u32) -> Placement {
        let along = |start: f64, length: f64, pixels: u32, whole: u32| {
            let unit = length / f64::from(pixels);
            let start = start - f64::from(before(pixels, side)) * unit;
            (start / f64::from(whole), f64::from(side) * unit / f64::from(whole))
        };
        let (left, width) = along(self.left, self.width, self.columns, width);
        let (top, height) = along(self.top, self.height, self.rows, height);
        Placement { left, top, width, height }
    }
}

/// Empty pixels of the square before a garment's, in one direction.
fn before(pixels: u32, side: u32) -> u32 {
    (side - pixels).div_ceil(2)
}

/// Whether a garment leaves at most one pixel free of a square picture's `side`, which is framed as in the data set then.
fn fills(sums: &Sums, side: u32) -> bool {
    2 * sums.len() * side as usize >= (2 * side as usize - 3) * sums.values.len()
}

/// The pixels between the first and the last that are visible, at most `side`. A pixel at an edge that has little of its
/// neighbour's brightness is the neighbour's blur.
fn occupied(brightest: &[u8], side: usize, visible: u8) -> Range<usize> {
    let (mut start, mut end) = (0, brightest.len());
    let is_blur = |edge: usize, inner: usize| {
        brightest[edge] < visible || f64::from(brightest[edge]) < BLUR * f64::from(brightest[inner])
    };
    while end - start > 1 && is_blur(start, start + 1) {
        start += 1;
    }
    while end - start > 1 && is_blur(end - 1, end - 2) {
        end -= 1;
    }
    while end - start > side {
        if brightest[start] < brightest[end - 1] { start += 1 } else { end -= 1 }
    }
    start..end
}

/// Start and end of a garment along one side of a picture.
///
/// A soft edge is taken where the sums reach half of their value `half` a new pixel further in.
fn outline(sums: &Sums, half: usize) -> Option<Range<usize>> {
    let (values, range) = (&sums.values, sums.start..sums.end);
    let is_edge = |at: usize, further: usize| values[at] > 0.0 && 2.0 * values[at] >= values[further];
    let start = range.clone().find(|&at| is_edge(at, (at + half).min(sums.end - 1)))?;
    let end = range.rev().find(|&at| is_edge(at, at.saturating_sub(half).max(sums.start)))?;
    (start <= end).then_some(start..end + 1)
}

/// The value at a point, linear between the four nearest pixels' centres, 0 outside.
fn interpolated(grey: &GrayImage, x: f64, y: f64) -> u8 {
    if !(0.0..=f64::from(grey.width())).contains(&x) || !(0.0..=f64::from(grey.height())).contains(&y) {
        return 0;
    }
    let neighbours = |at: f64, length: u32| {
        let at = (at - 0.5).clamp(0.0, f64::from(length - 1));
        (at as u32, (at as u32 + 1).min(length - 1), at.fract())
    };
    let (left, right, across) = neighbours(x, grey.width());
    let (top, bottom, down) = neighbours(y, grey.height());
    let value = |x, y| f64::from(grey.get_pixel(x, y).0[0]);
    let row = |y| value(left, y) + (value(right, y) - value(left, y)) * across;
    (row(top) + (row(bottom) - row(top)) * down).round() as u8
}
