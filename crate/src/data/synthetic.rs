//! A generated stand-in for FashionMNIST: ten classes of drawn garments, for tests and for trials without the data.
//!
//! The drawings vary in cut, size, position, tilt, shade, pattern and noise, so that a model has something to learn;
//! what it reaches on them says nothing about the real images.

use std::io::Write;
use std::path::Path;

use fastrand::Rng;
use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path as Outline, PathBuilder, Pixmap, Rect, Stroke, Transform};

use super::idx::{self, Idx};
use super::source::{CLASSES, FILES, Images, SIDE, SYNTHETIC_MARK, Split};
use crate::{Error, Result};

/// Sizes of the two splits.
pub const TRAIN: usize = 4000;
pub const TEST: usize = 1000;

/// The stand-in for one split of the data set; the same images on each call.
pub fn split(split: Split) -> Images {
    let (images, labels) = match split {
        Split::Train => generate(TRAIN, 1),
        Split::Test => generate(TEST, 2),
    };
    Images { images, labels }
}

/// `n` images [n, 28, 28] and their labels [n], the classes in equal shares (±1) and shuffled.
///
/// ```
/// let (images, labels) = vitlab::data::synthetic::generate(20, 7);
/// assert_eq!((images.len(), labels.len()), (20 * 28 * 28, 20));
/// assert_eq!(labels.iter().filter(|&&label| label == 3).count(), 2);
/// assert_eq!(vitlab::data::synthetic::generate(20, 7).0, images);
/// ```
pub fn generate(n: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng::with_seed(seed);
    let mut labels: Vec<u8> = (0..n).map(|i| (i % CLASSES.len()) as u8).collect();
    rng.shuffle(&mut labels);
    let images = labels.iter().flat_map(|&label| draw(label, &mut rng)).collect();
    (images, labels)
}

/// Writes the four files in the IDX format and the mark that tells them from the real ones.
///
/// # Errors
/// When `folder` already holds files that don't carry the mark: real data are never overwritten.
pub fn write_folder(folder: &Path, n_train: usize, n_test: usize, seed: u64) -> Result<()> {
    let mark = folder.join(SYNTHETIC_MARK);
    let real = |name: &str| folder.join(name).exists() || folder.join(format!("{name}.gz")).exists();
    if !mark.exists() && FILES.iter().any(|file| real(file.name)) {
        return Err(Error::file(folder, "holds data that were not generated; name another folder for the stand-in"));
    }
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::file(folder, format!("can't be created ({error}); choose another folder")))?;
    crate::file::replace(&mark, |out| out.write_all(b"Drawn by vitlab as a stand-in for FashionMNIST.\n"))?;
    for (files, n, seed) in [(&FILES[..2], n_train, seed), (&FILES[2..], n_test, seed.wrapping_add(1))] {
        let (images, labels) = generate(n, seed);
        idx::write(folder.join(files[0].name), &Idx { dims: vec![n, SIDE, SIDE], bytes: images })?;
        idx::write(folder.join(files[1].name), &Idx { dims: vec![n], bytes: labels })?;
    }
    Ok(())
}

fn draw(label: u8, rng: &mut Rng) -> [u8; SIDE * SIDE] {
    let mut garment = Garment::new(rng);
    match label {
        0 => t_shirt(&mut garment, rng),
        1 => trouser(&mut garment, rng),
        2 => pullover(&mut garment, rng),
        3 => dress(&mut garment, rng),
        4 => coat(&mut garment, rng),
        5 => sandal(&mut garment, rng),
        6 => shirt(&mut garment, rng),
        7 => sneaker(&mut garment, rng),
        8 => bag(&mut garment, rng),
        _ => ankle_boot(&mut garment, rng),
    }
    garment.finish(rng)
}

/// A drawing in the coordinates of the 28 × 28 pixels, placed by one random transformation.
struct Garment {
    pixmap: Pixmap,
    transform: Transform,
    /// Brightness of the cloth, 0 to 1.
    cloth: f32,
}

/// Left to right about the middle of the image.
fn mirrored(right: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let left = right.iter().rev().map(|&(x, y)| (28.0 - x, y));
    right.iter().copied().chain(left).collect()
}

fn between(rng: &mut Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.f32()
}

impl Garment {
    fn new(rng: &mut Rng) -> Self {
        let (middle, shift) = (14.0, 1.2);
        let transform = Transform::from_translate(-middle, -middle)
            .post_scale(between(rng, 0.82, 1.05), between(rng, 0.85, 1.05))
            .post_rotate(between(rng, -5.0, 5.0))
            .post_translate(middle + between(rng, -shift, shift), middle + between(rng, -shift, shift));
        Garment {
            pixmap: Pixmap::new(SIDE as u32, SIDE as u32).expect("a small pixmap can be allocated"),
            transform,
            cloth: between(rng, 0.35, 0.95),
        }
    }

    fn paint(shade: f32) -> Paint<'static> {
        let mut paint = Paint::default();
        let grey = (shade.clamp(0.0, 1.0) * 255.0) as u8;
        paint.set_color_rgba8(grey, grey, grey, 255);
        paint
    }

    fn fill(&mut self, outline: Option<Outline>, shade: f32) {
        let outline = outline.expect("a drawing has an extent");
        self.pixmap.fill_path(&outline, &Self::paint(shade), FillRule::Winding, self.transform, None);
    }

    fn polygon(&mut self, points: &[(f32, f32)], shade: f32) {
        self.fill(outline(points, true), shade);
    }

    /// With its centre, half width and half height.
    fn ellipse(&mut self, x: f32, y: f32, half_width: f32, half_height: f32, shade: f32) {
        let bounds = Rect::from_ltrb(x - half_width, y - half_height, x + half_width, y + half_height);
        self.fill(bounds.and_then(PathBuilder::from_oval), shade);
    }

    fn line(&mut self, points: &[(f32, f32)], width: f32, shade: f32) {
        let outline = outline(points, false).expect("a drawing has an extent");
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        self.pixmap.stroke_path(&outline, &Self::paint(shade), &stroke, self.transform, None);
    }

    /// Body and sleeves of what is worn above the waist.
    fn top(&mut self, shoulder: f32, hem: f32, bottom: f32, sleeve: Sleeve) {
        let Sleeve { reach, end, width } = sleeve;
        for side in [-1.0, 1.0] {
            let x = |offset: f32| 14.0 + side * offset;
            let arm = [
                (x(shoulder - 2.5), 4.0),
                (x(shoulder), 4.6),
                (x(reach), end),
                (x(reach - width), end + 0.8),
                (x(shoulder - 2.0), 11.0),
            ];
            self.polygon(&arm, self.cloth * 0.88);
        }
        let body = mirrored(&[(16.6, 3.2), (14.0 + shoulder, 4.6), (13.7 + hem, 12.0), (14.0 + hem, bottom)]);
        self.polygon(&body, self.cloth);
    }

    /// The greys of the drawing with a pattern on the cloth and noise, the background black.
    fn finish(self, rng: &mut Rng) -> [u8; SIDE * SIDE] {
        let patterned = rng.u8(0..3) == 0;
        let strength = if patterned { between(rng, 0.15, 0.4) } else { 0.0 };
        let (across, down) = if rng.bool() { (0.3, between(rng, 1.2, 2.4)) } else { (between(rng, 1.2, 2.4), 0.0) };
        let noise = between(rng, 0.02, 0.09);
        let mut pixels = [0; SIDE * SIDE];
        for (i, (pixel, source)) in pixels.iter_mut().zip(self.pixmap.pixels()).enumerate() {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            let grain = between(rng, -1.0, 1.0) * noise;
            let wave = strength * (across * x + down * y).sin();
            let shade = f32::from(source.red()) * (1.0 + wave + grain);
            *pixel = shade.clamp(0.0, 255.0) as u8;
        }
        pixels
    }
}

fn outline(points: &[(f32, f32)], closed: bool) -> Option<Outline> {
    let mut path = PathBuilder::new();
    path.move_to(points[0].0, points[0].1);
    points[1..].iter().for_each(|&(x, y)| path.line_to(x, y));
    if closed {
        path.close();
    }
    path.finish()
}

/// Where a sleeve ends: distance from the middle and height of its outer corner, width of its opening.
struct Sleeve {
    reach: f32,
    end: f32,
    width: f32,
}

fn long_sleeve(rng: &mut Rng) -> Sleeve {
    Sleeve { reach: between(rng, 9.8, 12.0), end: between(rng, 20.0, 23.0), width: between(rng, 2.6, 3.6) }
}

fn short_sleeve(rng: &mut Rng) -> Sleeve {
    Sleeve { reach: between(rng, 10.5, 12.5), end: between(rng, 8.0, 11.5), width: between(rng, 2.2, 3.6) }
}

fn t_shirt(garment: &mut Garment, rng: &mut Rng) {
    let hem = between(rng, 5.4, 6.6);
    garment.top(between(rng, 6.8, 8.0), hem, between(rng, 23.5, 26.0), short_sleeve(rng));
    if rng.bool() {
        garment.ellipse(14.0, 3.2, 2.8, between(rng, 1.4, 2.6), 0.0);
    } else {
        garment.polygon(&[(11.4, 2.6), (16.6, 2.6), (14.0, between(rng, 5.5, 8.0))], 0.0);
    }
    if rng.u8(0..3) == 0 {
        let print = if garment.cloth > 0.6 { 0.25 } else { 0.95 };
        garment.ellipse(14.0, 13.0, between(rng, 2.0, 3.6), between(rng, 1.6, 3.6), print);
    }
}

fn trouser(garment: &mut Garment, rng: &mut Rng) {
    let (waist, ankle, gap) = (between(rng, 4.0, 5.4), between(rng, 4.2, 6.4), between(rng, 0.4, 1.8));
    let legs = mirrored(&[(14.0 + waist, 2.0), (14.6 + waist, 9.0), (14.0 + ankle, 26.0), (14.0 + gap, 26.0)]);
    garment.polygon(&legs, garment.cloth);
    garment.polygon(&[(14.0 - gap, 26.2), (14.0, between(rng, 9.0, 11.5)), (14.0 + gap, 26.2)], 0.0);
    garment.line(&[(14.2 - waist, 3.4), (13.8 + waist, 3.4)], 0.7, garment.cloth * 0.55);
}

fn pullover(garment: &mut Garment, rng: &mut Rng) {
    let (hem, bottom) = (between(rng, 5.6, 7.0), between(rng, 22.5, 25.0));
    garment.top(between(rng, 6.8, 8.0), hem, bottom, long_sleeve(rng));
    garment.ellipse(14.0, 3.2, 2.6, between(rng, 0.8, 1.5), 0.0);
    let rib = garment.cloth * 0.65;
    garment.line(&[(14.6 - hem, bottom - 1.0), (13.4 + hem, bottom - 1.0)], 1.0, rib);
    garment.line(&[(11.2, 4.2), (14.0, 5.4), (16.8, 4.2)], 0.9, rib);
}

fn dress(garment: &mut Garment, rng: &mut Rng) {
    let (shoulder, waist, hem) = (between(rng, 2.8, 4.0), between(rng, 2.4, 3.4), between(rng, 4.2, 8.0));
    let waist_at = between(rng, 9.5, 12.5);
    let cut = mirrored(&[
        (15.6, 1.6),
        (14.0 + shoulder, 1.8),
        (14.2 + shoulder, 6.0),
        (14.0 + waist, waist_at),
        (14.0 + hem, 26.5),
    ]);
    garment.polygon(&cut, garment.cloth);
    garment.ellipse(14.0, 1.6, 1.7, between(rng, 1.0, 2.6), 0.0);
    if rng.bool() {
        garment.line(&[(14.2 - waist, waist_at), (13.8 + waist, waist_at)], 1.0, garment.cloth * 0.5);
    }
}

fn coat(garment: &mut Garment, rng: &mut Rng) {
    let (hem, bottom) = (between(rng, 5.8, 7.4), between(rng, 25.0, 27.0));
    garment.top(between(rng, 6.6, 7.8), hem, bottom, long_sleeve(rng));
    let seam = garment.cloth * between(rng, 0.2, 0.45);
    garment.line(&[(14.0, 4.0), (14.0, bottom - 0.4)], 0.9, seam);
    garment.line(&[(11.4, 3.4), (14.0, 9.0), (16.6, 3.4)], 0.9, seam);
    for x in [10.0, 18.0] {
        garment.line(&[(x - 1.2, 18.5), (x + 1.2, 18.5)], 0.8, seam);
    }
}

fn sandal(garment: &mut Garment, rng: &mut Rng) {
    let (heel, sole) = (between(rng, 0.0, 6.0), between(rng, 1.2, 2.2));
    let (back, shade) = (21.0 - heel, garment.cloth);
    garment.line(&[(3.0, 21.6), (11.0, 21.2), (24.5, back)], sole, shade);
    if heel > 2.5 {
        garment.line(&[(24.3, back), (24.8, 22.0)], 1.2, shade);
    }
    let strap = between(rng, 0.9, 1.6);
    for _ in 0..rng.usize(2..4) {
        let x = between(rng, 6.0, 12.0);
        garment.line(&[(x - 2.5, 21.0), (x, between(rng, 15.0, 17.5)), (x + 3.5, 20.6)], strap, shade * 0.85);
    }
    let ankle = back - between(rng, 4.5, 7.5);
    garment.line(&[(24.2, back), (24.4, ankle), (18.0, ankle + 1.0), (14.5, 20.0)], strap, shade * 0.8);
}

fn shirt(garment: &mut Garment, rng: &mut Rng) {
    let (hem, bottom) = (between(rng, 5.0, 6.4), between(rng, 24.0, 26.5));
    let sleeve = if rng.u8(0..3) == 0 { short_sleeve(rng) } else { long_sleeve(rng) };
    garment.top(between(rng, 6.2, 7.4), hem, bottom, sleeve);
    let light = if garment.cloth > 0.65 { 0.25 } else { 1.0 };
    garment.polygon(&[(11.0, 2.8), (14.0, 4.6), (12.2, 7.0)], light);
    garment.polygon(&[(17.0, 2.8), (14.0, 4.6), (15.8, 7.0)], light);
    for i in 0..5 {
        garment.ellipse(14.0, 9.0 + 3.3 * i as f32, 0.75, 0.75, light);
    }
}

fn sneaker(garment: &mut Garment, rng: &mut Rng) {
    let collar = between(rng, 11.5, 13.5);
    let upper = [
        (2.6, 20.0),
        (4.0, 17.6),
        (9.5, 16.4),
        (14.5, collar),
        (17.0, collar + 1.4),
        (20.0, collar + 0.6),
        (24.4, collar - 0.4),
        (25.4, 20.6),
    ];
    garment.polygon(&upper, garment.cloth);
    let sole = if garment.cloth > 0.6 { 0.35 } else { 0.95 };
    garment.line(&[(3.4, 21.0), (24.6, 21.0)], between(rng, 1.6, 2.6), sole);
    for i in 0..3 {
        let x = 10.4 + 1.9 * i as f32;
        garment.line(&[(x, 16.6 - 0.9 * i as f32), (x + 1.2, 18.0 - 0.9 * i as f32)], 0.7, sole);
    }
}

fn bag(garment: &mut Garment, rng: &mut Rng) {
    let (top, bottom, half) = (between(rng, 10.0, 13.0), between(rng, 22.5, 25.0), between(rng, 8.5, 11.0));
    let (grip, height) = (between(rng, 3.0, 6.0), between(rng, 3.0, 7.0));
    let handle =
        [(14.0 - grip, top + 0.5), (14.6 - grip, top - height), (13.4 + grip, top - height), (14.0 + grip, top + 0.5)];
    garment.line(&handle, between(rng, 0.9, 1.5), garment.cloth * 0.8);
    let taper = between(rng, -1.5, 1.2);
    garment.polygon(
        &mirrored(&[(14.0 + half + taper.min(0.0), top), (14.0 + half - taper.max(0.0), bottom)]),
        garment.cloth,
    );
    if rng.bool() {
        garment.line(&[(15.0 - half, top + 4.5), (13.0 + half, top + 4.5)], 0.8, garment.cloth * 0.5);
    }
    garment.ellipse(14.0, top + 4.5, 1.1, 1.1, if garment.cloth > 0.6 { 0.2 } else { 1.0 });
}

fn ankle_boot(garment: &mut Garment, rng: &mut Rng) {
    let (shaft, heel) = (between(rng, 3.0, 8.0), between(rng, 0.6, 2.6));
    let front = between(rng, 12.5, 14.5);
    let boot = [
        (front, shaft),
        (23.6, shaft),
        (24.6, 17.0),
        (24.8, 22.4),
        (3.4, 22.4),
        (3.6, 19.6),
        (8.0, 17.2),
        (front, 14.0),
    ];
    garment.polygon(&boot, garment.cloth);
    let dark = garment.cloth * 0.5;
    garment.line(&[(3.6, 22.8), (24.4, 22.8)], 1.0, dark);
    garment.polygon(&[(19.6, 22.4), (24.8, 22.4), (24.6, 23.4 + heel), (20.2, 23.4 + heel)], dark);
    if rng.bool() {
        garment.line(&[(front + 2.6, shaft + 1.4), (front + 3.6, 16.5)], 0.9, dark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of test images whose nearest training image (squared distance of the pixels) has another label.
    #[test]
    fn classes_can_be_learnt_but_not_trivially() {
        let (train, train_labels) = generate(600, 3);
        let (test, test_labels) = generate(200, 4);
        let image = |pixels: &[u8], i: usize| pixels[i * SIDE * SIDE..(i + 1) * SIDE * SIDE].to_vec();
        let distance =
            |a: &[u8], b: &[u8]| -> u64 { a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum() };
        let wrong = (0..200)
            .filter(|&i| {
                let mine = image(&test, i);
                let nearest = (0..600).min_by_key(|&j| distance(&mine, &image(&train, j))).unwrap();
                train_labels[nearest] != test_labels[i]
            })
            .count();
        assert!((10..=100).contains(&wrong), "{wrong} of 200 wrong");
    }

    #[test]
    fn seeds_differ_and_the_background_is_black() {
        let (images, labels) = generate(100, 5);
        assert_ne!(generate(100, 6).0, images);
        assert_ne!(generate(100, 6).1, labels);
        assert!(images.chunks(SIDE * SIDE).all(|image| image[0] == 0 && image.iter().any(|&pixel| pixel > 60)));
    }
}
