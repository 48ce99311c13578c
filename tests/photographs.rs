//! Maps over the pictures themselves: the place of a model's input in a picture, and figures of photographs.

use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use tch::{Device, Tensor};
use vitlab::data::{Filter, Fit, Invert, Photograph, Picture, Placement, Prepared, Preprocessing};
use vitlab::explain::{Heatmap, MapScale, Rollout};
use vitlab::learner::{Explanation, Method};
use vitlab::model::{ViTConfig, VisionTransformer};
use vitlab::plot::OverlayStyle;
use vitlab::{Learner, Result};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/pictures");

fn preprocessing(side: i64, channels: i64, fit: Fit) -> Preprocessing {
    let (mean, std) = (vec![0.5; channels as usize], vec![0.25; channels as usize]);
    Preprocessing { side, channels, fit, filter: Filter::Bilinear, mean, std }
}

fn picture(image: impl Into<DynamicImage>) -> Result<Picture> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, ImageFormat::Png).expect("memory takes all bytes");
    Picture::decode(&bytes.into_inner())
}

/// A picture whose red says how far right a pixel is, and whose green how far down, both from 0 to 240. Blue is white.
fn ramps(width: u32, height: u32) -> RgbImage {
    let level = |at: u32, length: u32| ((f64::from(at) + 0.5) / f64::from(length) * 240.0).round() as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([level(x, width), level(y, height), 255]))
}

/// Each pixel of the model's input has the levels of the point in the picture where it lies.
#[test]
fn the_input_lies_at_its_place() -> Result<()> {
    let fits = [
        Fit::Crop { shorter: 72 },
        Fit::Crop { shorter: 64 },
        Fit::Crop { shorter: 64 * 8 / 7 },
        Fit::Stretch,
        Fit::Pad,
    ];
    for fit in fits {
        for (width, height) in [(400, 300), (301, 512), (97, 600), (640, 63), (256, 256)] {
            let prepared = preprocessing(64, 3, fit).prepare(&picture(ramps(width, height))?, Invert::No)?;
            let Placement { left, top, width: across, height: down } = prepared.place;
            let mut seen = 0;
            for (row, column) in (0..64).flat_map(|row| (0..64).map(move |column| (row, column))) {
                let level = |plane: usize| f64::from(prepared.pixels[plane * 64 * 64 + row * 64 + column]);
                let x = left + (column as f64 + 0.5) / 64.0 * across;
                let y = top + (row as f64 + 0.5) / 64.0 * down;
                let inside = |at: f64, length: f64| (0.0..1.0).contains(&at) && length > 0.0;
                // Padding is black; blue is white in the picture. At an edge a pixel may hold some of both.
                assert_eq!(
                    level(2) > 127.0,
                    inside(x, across) && inside(y, down),
                    "{fit:?} {width} × {height} {x} {y}"
                );
                // Away from the edges, where the filter has all of its neighbours.
                let margin_x = 2.0 * across / 64.0 + 2.0 / f64::from(width);
                let margin_y = 2.0 * down / 64.0 + 2.0 / f64::from(height);
                if (margin_x..1.0 - margin_x).contains(&x) && (margin_y..1.0 - margin_y).contains(&y) {
                    let apart = (level(0) - x * 240.0).abs().max((level(1) - y * 240.0).abs());
                    assert!(apart < 1.5, "{fit:?} {width} × {height}: {apart} at {row}, {column}");
                    seen += 1;
                }
            }
            assert!(seen > 100, "{fit:?} {width} × {height}: {seen}");
        }
    }
    Ok(())
}

/// A garment with ramps as levels in a large black picture is found, and its square lies around it.
#[test]
fn a_garments_square_lies_around_it() -> Result<()> {
    let (width, height, left, top, right, bottom) = (500, 400, 120, 50, 300, 350);
    let inside = |x: u32, y: u32| (left..right).contains(&x) && (top..bottom).contains(&y);
    for (inverted, direction) in [(false, 0), (false, 1), (true, 0)] {
        let level = |x: u32, y: u32| {
            let share = if direction == 0 { f64::from(x) / 500.0 } else { f64::from(y) / 400.0 };
            if inside(x, y) { (80.0 + 160.0 * share) as u8 } else { 0 }
        };
        let image =
            GrayImage::from_fn(width, height, |x, y| Luma([if inverted { 255 - level(x, y) } else { level(x, y) }]));
        let prepared = Preprocessing::fashion_mnist().prepare(&picture(image)?, Invert::Auto)?;
        assert_eq!(prepared.inverted, inverted);
        let Placement { left, top, width: across, height: down } = prepared.place;
        assert!((across * 500.0 - down * 400.0).abs() < 12.0, "a square in pixels: {:?}", prepared.place);
        assert!(left < 0.24 && left + across > 0.6 && top <= 0.125 + 0.01 && top + down >= 0.875 - 0.01);
        let mut seen = 0;
        for (row, column) in (1..27).flat_map(|row| (0..28).map(move |column| (row, column))) {
            let x = (left + (column as f64 + 0.5) / 28.0 * across) * 500.0;
            let y = (top + (row as f64 + 0.5) / 28.0 * down) * 400.0;
            if (126.0..294.0).contains(&x) && (56.0..344.0).contains(&y) {
                let apart = f64::from(prepared.pixels[row * 28 + column]) - f64::from(level(x as u32, y as u32));
                assert!(apart.abs() < 4.0, "{apart} at {row}, {column}");
                seen += 1;
            }
        }
        assert!(seen > 300, "{seen}");
    }
    Ok(())
}

#[test]
fn photographs_are_upright_and_of_a_sensible_size() -> Result<()> {
    let input = preprocessing(16, 3, Fit::Stretch);
    let shown = |picture: &Picture| Ok(Photograph::new(picture, &input.prepare(picture, Invert::No)?));
    for orientation in 1..=8 {
        let path = PathBuf::from(GOLDEN).join(format!("orientation_{orientation}.jpg"));
        let photograph: Result<Photograph> = shown(&Picture::open(path)?);
        let size = if orientation < 5 { [3, 16, 24] } else { [3, 24, 16] };
        assert_eq!(photograph?.image.size(), size);
    }
    for (size, expected) in [((1600, 1000), [3, 500, 800]), ((20, 4000), [3, 800, 4]), ((800, 10), [3, 10, 800])] {
        let image = ramps(size.0, size.1);
        let photograph: Result<Photograph> = shown(&picture(image)?);
        let photograph = photograph?;
        assert_eq!(photograph.image.size(), expected);
        // Averaged: the ramps stay.
        let middle = photograph.image.double_value(&[1, expected[1] / 2, 0]);
        assert!((middle - 120.0).abs() <= 240.0 / expected[1] as f64 + 1.0, "{middle}");
    }
    Ok(())
}

fn learner(side: i64) -> Learner {
    let sizes = ViTConfig {
        image_size: side,
        patch_size: 8,
        n_channels: 3,
        embed_dim: 32,
        n_layers: 2,
        n_attention_heads: 2,
        forward_mul: 2,
        n_classes: 20,
        dropout: 0.0,
        position_rows: (side / 8).pow(2) + 1,
        structure: Default::default(),
    };
    Learner::new(VisionTransformer::with_sizes(sizes, Device::Cpu)).with_preprocessing(preprocessing(
        side,
        3,
        Fit::Crop { shorter: side },
    ))
}

fn explained(learner: &Learner, files: &[PathBuf]) -> Result<(Explanation, Tensor)> {
    let prepared = learner.preprocessing().prepare_files(files, Invert::Auto, || {})?;
    let images = Tensor::stack(&prepared.iter().map(Prepared::tensor).collect::<Vec<_>>(), 0);
    let mut explanation =
        learner.explain(&images, &Method::Rollout(Rollout::default()), &Heatmap::default(), |_| {})?;
    explanation.drawing.photographs = Photograph::read(files, &prepared)?;
    Ok((explanation, images))
}

fn page(png: &[u8]) -> RgbImage {
    image::load_from_memory(png).expect("a PNG").to_rgb8()
}

/// The rectangle of the page in which `image` lies with each of its pixels, if it does.
fn found(page: &RgbImage, image: &RgbImage) -> Option<(u32, u32)> {
    let (width, height) = image.dimensions();
    let equal = |x: u32, y: u32| {
        (0..height).step_by(7).all(|row| {
            (0..width).step_by(5).all(|column| page.get_pixel(x + column, y + row) == image.get_pixel(column, row))
        })
    };
    (0..=page.height().checked_sub(height)?)
        .flat_map(|y| (0..=page.width() - width).map(move |x| (x, y)))
        .find(|&(x, y)| equal(x, y))
}

/// Thousands of colours beside a colour bar: all are in the figure as they are, also in a notebook's.
#[test]
fn a_photographs_colours_are_true_beside_a_colour_bar() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ramps.png");
    let image = ramps(420, 280);
    image.save(&path).expect("a file");
    let (explanation, images) = explained(&learner(64), &[path])?;
    let grid = explanation.grid("Rollout", &images, None, MapScale::Max)?;
    let figure = grid.figure()?;
    let page = page(figure.png());
    assert!(found(&page, &image).is_some(), "the photograph isn't in the figure with each pixel");
    // Along the colour bar the colours are those of its map.
    let bar = grid.bar.as_ref().expect("a bar").scale;
    let near = |color: [u8; 3]| page.pixels().any(|pixel| pixel.0.iter().zip(color).all(|(a, b)| a.abs_diff(b) <= 2));
    for color in [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9]] {
        assert!(near(color), "inferno's {color:?} isn't in the bar from {} to {}", bar.low, bar.high);
    }
    assert!(figure.alt().contains("grey: not seen by the model"), "{}", figure.alt());
    Ok(())
}

/// The part that was cropped is veiled, the rest is the picture itself where a style leaves it alone.
#[test]
fn styles_keep_the_picture() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ramps.png");
    ramps(400, 200).save(&path).expect("a file");
    let (mut explanation, images) = explained(&learner(64), &[path])?;
    let captions = [OverlayStyle::Heat, OverlayStyle::Dim, OverlayStyle::Contours].map(|style| {
        explanation.drawing.overlay = style;
        let grid = explanation.grid("", &images, None, MapScale::Max).expect("a grid");
        let overlay = grid.tiles[1].overlay.as_ref().expect("a map");
        assert_eq!((overlay.style, overlay.place.left, overlay.place.width), (style, 0.25, 0.5));
        grid.figure().expect("a figure").alt().to_string()
    });
    assert!(captions[1].contains("brightness") && captions[2].contains("lines at"), "{captions:?}");
    explanation.drawing.photographs.clear();
    let whole = explanation.grid("", &images, None, MapScale::Max)?;
    assert_eq!(whole.tiles[1].overlay.as_ref().expect("a map").place, Placement::WHOLE);
    assert_eq!(whole.tiles[0].image.dim(), (64, 64));
    Ok(())
}

/// Two large photographs that don't compress would make a figure too large for a notebook: they become smaller.
#[test]
fn large_photographs_fit_into_a_notebook() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = fastrand::Rng::with_seed(7);
    let files: Vec<PathBuf> = (0..2).map(|i| folder.path().join(format!("{i}.png"))).collect();
    for path in &files {
        let noise = |_, _| Rgb([random.u8(90..130), random.u8(60..100), random.u8(..)]);
        RgbImage::from_fn(900, 500, noise).save(path as &Path).expect("a file");
    }
    let (explanation, images) = explained(&learner(64), &files)?;
    assert!(explanation.figure("Rollout", &images, None, MapScale::Max)?.png().len() <= 1_500_000);
    let mut missing = explanation;
    missing.drawing.photographs.truncate(1);
    let problem = missing.grid("", &images, None, MapScale::Max).expect_err("one photograph is missing").to_string();
    assert!(problem.contains("1 photographs for 2 maps"), "{problem}");
    Ok(())
}
