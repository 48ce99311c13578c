//! A drawn stand-in for FashionMNIST, for tests and for trials without the data set.
//!
//! Each image is its class's template under a random affine map, with a random shade, stripes and noise. A model can
//! learn the classes; its accuracy on them says nothing about the real images.

use std::io::Write;
use std::path::Path;

use fastrand::Rng;

use crate::files::{CLASSES, FILES, Images, SIDE, SYNTHETIC_MARK, Split};
use crate::idx::{self, Idx};
use crate::{Error, Result, file, known};

/// Number of training and of test images that [`split`] draws.
pub const TRAIN: usize = 4000;
pub const TEST: usize = 1000;

/// Draws one split; every call returns the same images.
pub fn split(split: Split) -> Images {
    let (images, labels) = match split {
        Split::Train => generate(TRAIN, 1),
        Split::Test => generate(TEST, 2),
    };
    Images { images, labels, dataset: known::SYNTHETIC.to_string() }
}

/// Draws `n` images `[n, 28, 28]` with their labels `[n]`. The classes have equal shares (±1) in random order.
///
/// ```
/// let (images, labels) = vitlab_dataset::synthetic::generate(20, 7);
/// assert_eq!((images.len(), labels.len()), (20 * 28 * 28, 20));
/// assert_eq!(labels.iter().filter(|&&label| label == 3).count(), 2);
/// assert_eq!(vitlab_dataset::synthetic::generate(20, 7).0, images);
/// ```
pub fn generate(n: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut rng = Rng::with_seed(seed);
    let mut labels: Vec<u8> = (0..n).map(|i| (i % CLASSES.len()) as u8).collect();
    rng.shuffle(&mut labels);
    let images = labels.iter().flat_map(|&label| draw(TEMPLATES[usize::from(label)], &mut rng)).collect();
    (images, labels)
}

/// Writes the four files in the IDX format, and a mark that distinguishes them from the real data set.
///
/// # Errors
/// Refuses a `folder` with data files but without the mark, so that real data are never overwritten.
pub fn write_folder(folder: &Path, n_train: usize, n_test: usize, seed: u64) -> Result<()> {
    let mark = folder.join(SYNTHETIC_MARK);
    let exists = |name: &str| folder.join(name).exists() || folder.join(format!("{name}.gz")).exists();
    if !mark.exists() && FILES.iter().any(|file| exists(file.name)) {
        return Err(Error::file(folder, "holds data that were not generated; name another folder for the stand-in"));
    }
    file::replace(&mark, |out| out.write_all(b"Drawn by vitlab as a stand-in for FashionMNIST.\n"))?;
    for (files, n, seed) in [(&FILES[..2], n_train, seed), (&FILES[2..], n_test, seed.wrapping_add(1))] {
        let (images, labels) = generate(n, seed);
        idx::write(folder.join(files[0].name), &Idx { dims: vec![n, SIDE, SIDE], bytes: images })?;
        idx::write(folder.join(files[1].name), &Idx { dims: vec![n], bytes: labels })?;
    }
    Ok(())
}

/// A polygon in pixel coordinates, filled with `shade` times the brightness of the cloth.
struct Polygon {
    shade: f32,
    /// True if `points` are only the right half, from top to bottom, mirrored about x = 14.
    symmetric: bool,
    points: &'static [(f32, f32)],
}

const fn half(shade: f32, points: &'static [(f32, f32)]) -> Polygon {
    Polygon { shade, symmetric: true, points }
}

const fn whole(shade: f32, points: &'static [(f32, f32)]) -> Polygon {
    Polygon { shade, symmetric: false, points }
}

/// The polygons of each class, in the order of [`CLASSES`]; later ones cover earlier ones.
const TEMPLATES: [&[Polygon]; 10] = [
    &[
        half(1.0, &[(16.0, 4.0), (20.0, 4.5), (25.5, 9.0), (23.0, 12.0), (19.5, 10.0), (19.8, 25.0)]),
        half(0.0, &[(17.0, 3.0), (14.5, 6.5)]),
    ],
    &[half(1.0, &[(18.5, 2.0), (19.0, 9.0), (19.5, 26.0), (15.3, 26.0), (14.3, 10.0)])],
    &[
        half(1.0, &[(16.0, 4.0), (20.0, 4.5), (25.0, 21.0), (22.0, 22.5), (19.4, 12.0), (19.8, 24.0)]),
        half(0.0, &[(16.5, 3.5), (14.5, 5.0)]),
        half(0.6, &[(19.8, 22.5), (19.8, 24.0)]),
    ],
    &[half(1.0, &[(15.4, 3.0), (17.6, 1.8), (18.0, 6.0), (16.8, 11.0), (20.8, 26.5)])],
    &[
        half(1.0, &[(16.0, 3.0), (20.0, 4.0), (24.5, 22.0), (21.5, 23.0), (19.8, 12.0), (20.8, 26.8)]),
        half(0.3, &[(14.5, 4.0), (14.5, 26.8)]),
        half(0.3, &[(17.0, 3.0), (17.8, 4.0), (14.5, 10.0)]),
    ],
    &[
        whole(1.0, &[(3.0, 21.0), (24.5, 19.0), (24.5, 21.0), (3.0, 23.0)]),
        whole(0.85, &[(5.5, 21.2), (11.0, 15.5), (12.5, 16.0), (8.0, 21.2)]),
        whole(0.85, &[(14.0, 20.5), (23.8, 12.5), (25.0, 13.0), (24.5, 19.5), (23.0, 15.0), (16.5, 20.3)]),
    ],
    &[
        half(1.0, &[(16.0, 3.5), (19.8, 4.5), (24.5, 20.5), (22.0, 22.0), (19.0, 12.0), (19.2, 25.5)]),
        half(1.3, &[(17.0, 2.8), (15.8, 7.0), (14.3, 4.6)]),
        half(1.3, &[(14.6, 8.0), (14.6, 25.0)]),
    ],
    &[
        whole(1.0, &[(2.6, 20.0), (4.0, 17.6), (9.5, 16.4), (14.5, 12.5), (20.0, 13.5), (24.4, 12.0), (25.4, 20.5)]),
        whole(0.45, &[(2.8, 20.5), (25.4, 20.5), (25.0, 22.6), (3.2, 22.6)]),
    ],
    &[
        half(0.8, &[(17.5, 5.5), (18.8, 7.0), (19.0, 12.0)]),
        half(0.0, &[(16.8, 7.5), (17.2, 12.0)]),
        half(1.0, &[(23.0, 11.5), (24.0, 24.0)]),
    ],
    &[
        whole(1.0, &[(3.0, 22.0), (4.0, 18.5), (10.0, 16.0), (13.5, 13.5), (14.0, 5.0), (23.0, 5.0), (24.6, 22.0)]),
        whole(0.45, &[(3.0, 21.8), (24.8, 21.8), (24.8, 23.6), (3.0, 23.6)]),
    ],
];

impl Polygon {
    /// Even-odd rule: counts the edges to the right of the point.
    fn contains(&self, x: f32, y: f32) -> bool {
        let x = if self.symmetric { 14.0 + (x - 14.0).abs() } else { x };
        // The axis closes a symmetric polygon, the first point any other.
        let (first, last) = (self.points[0], self.points[self.points.len() - 1]);
        let closing =
            if self.symmetric { [((14.0, first.1), first), (last, (14.0, last.1))] } else { [(last, first); 2] };
        let closing = closing.into_iter().take(if self.symmetric { 2 } else { 1 });
        let edges = self.points.windows(2).map(|pair| (pair[0], pair[1])).chain(closing);
        edges.filter(|&(a, b)| (a.1 > y) != (b.1 > y) && x < a.0 + (y - a.1) / (b.1 - a.1) * (b.0 - a.0)).count() % 2
            == 1
    }
}

fn draw(template: &[Polygon], rng: &mut Rng) -> [u8; SIDE * SIDE] {
    let mut between = |low: f32, high: f32| low + (high - low) * rng.f32();
    // Inverse of the affine map: from a pixel to the template.
    let (stretch_x, stretch_y, angle) = (between(0.95, 1.25), between(0.95, 1.25), between(-0.12, 0.12));
    let (shift_x, shift_y) = (between(-1.6, 1.6), between(-1.6, 1.6));
    let (cloth, noise) = (between(90.0, 240.0), between(0.02, 0.09));
    let stripes = (between(-0.6, 0.4).max(0.0), between(0.0, 2.4), between(0.0, 2.4));
    let mut pixels = [0; SIDE * SIDE];
    for (i, pixel) in pixels.iter_mut().enumerate() {
        let (x, y) = ((i % SIDE) as f32 - 13.5 - shift_x, (i / SIDE) as f32 - 13.5 - shift_y);
        let (sin, cos) = angle.sin_cos();
        let (x, y) = (14.0 + stretch_x * (cos * x + sin * y), 14.0 + stretch_y * (cos * y - sin * x));
        let grain = between(-noise, noise);
        if let Some(polygon) = template.iter().rev().find(|polygon| polygon.contains(x, y)) {
            let wave = stripes.0 * (stripes.1 * x + stripes.2 * y).sin();
            *pixel = (cloth * polygon.shade * (1.0 + wave + grain)) as u8;
        }
    }
    pixels
}
