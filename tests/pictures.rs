//! Picture files against Pillow and torchvision, and pictures of garments against FashionMNIST's own images.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgba, RgbaImage};
use tch::{Device, Tensor};
use vitlab::checkpoint::read_safetensors;
use vitlab::data::{
    Dataset, Filter, Fit, Invert, Picture, Prepared, Preprocessing, Source, Split, picture_files, source,
};
use vitlab::explain::{Heatmap, Rollout};
use vitlab::learner::Method;
use vitlab::model::{Model, ViTConfig, VisionTransformer};
use vitlab::{Learner, Result};

/// Made by tests/reference/pictures.py.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/pictures");
const VIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/ViT_model.pt");

fn golden(name: &str) -> PathBuf {
    Path::new(GOLDEN).join(name)
}

fn expected() -> HashMap<String, Vec<u8>> {
    let (tensors, _) = read_safetensors(golden("expected.safetensors")).expect("a file of this repository");
    let bytes = |tensor: Tensor| Vec::<u8>::try_from(tensor.contiguous().view([-1])).expect("bytes");
    tensors.0.into_iter().map(|(name, tensor)| (name, bytes(tensor))).collect()
}

fn preprocessing(side: i64, channels: i64, fit: Fit, filter: Filter) -> Preprocessing {
    Preprocessing {
        side,
        channels,
        fit,
        filter,
        mean: vec![0.5; channels as usize],
        std: vec![0.25; channels as usize],
    }
}

/// The mean and the largest difference of two pictures' levels.
fn difference(ours: &[u8], theirs: &[u8]) -> (f64, u8) {
    assert_eq!(ours.len(), theirs.len());
    let apart: Vec<u8> = ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: f64 = apart.iter().map(|&level| f64::from(level)).sum();
    (sum / apart.len() as f64, apart.iter().copied().max().unwrap_or(0))
}

#[test]
fn formats_are_read_as_by_pillow() -> Result<()> {
    let expected = expected();
    let names = expected.keys().filter(|name| name.contains('.') && !name.starts_with("orientation"));
    let unscaled = preprocessing(24, 3, Fit::Stretch, Filter::Nearest);
    let mut count = 0;
    for name in names {
        let picture = Picture::open(golden(name))?;
        let prepared = unscaled.prepare(&picture, Invert::Auto)?;
        let (mean, most) = difference(&prepared.pixels, &expected[name]);
        // Decoders of lossy formats round differently; colours at half resolution are enlarged differently.
        let (mean_allowed, most_allowed) = match name.as_str() {
            "subsampled.jpg" | "lossy.webp" => (4.0, 60),
            name if name.ends_with(".jpg") => (0.6, 4),
            name if name.contains("alpha") || name.contains("rgba") => (0.6, 1),
            _ => (0.0, 0),
        };
        assert!(mean <= mean_allowed && most <= most_allowed, "{name}: {mean} on average, {most} at most");
        let several = name.starts_with("animated") || name.starts_with("pages");
        assert_eq!(picture.notes().len(), usize::from(several), "{name}: {:?}", picture.notes());
        let transparent = ["rgba.png", "grey_alpha.png", "palette_transparent.png", "alpha.webp"].contains(&&name[..]);
        assert_eq!(prepared.notes.contains(&"transparent parts are taken as white".to_string()), transparent, "{name}");
        count += 1;
    }
    assert_eq!(count, 29);
    Ok(())
}

#[test]
fn pictures_are_upright() -> Result<()> {
    let expected = expected();
    for orientation in 1..=8 {
        let name = format!("orientation_{orientation}.jpg");
        let picture = Picture::open(golden(&name))?;
        assert_eq!(picture.size(), if orientation < 5 { (24, 16) } else { (16, 24) });
        // The square in the middle, unscaled.
        let pixels =
            preprocessing(16, 3, Fit::Crop { shorter: 16 }, Filter::Nearest).prepare(&picture, Invert::No)?.pixels;
        let (rows, columns) = if orientation < 5 { (16, 24) } else { (24, 16) };
        let centre = |index: usize| {
            let (plane, row, column) = (index / 256, index / 16 % 16, index % 16);
            plane * rows * columns + (row + (rows - 16) / 2) * columns + column + (columns - 16) / 2
        };
        let theirs: Vec<u8> = (0..3 * 256).map(|index| expected[&name][centre(index)]).collect();
        let (mean, most) = difference(&pixels, &theirs);
        assert!(mean <= 0.6 && most <= 4, "{name}: {mean} on average, {most} at most");
    }
    Ok(())
}

#[test]
fn scaling_agrees_with_pillow_and_torchvision() -> Result<()> {
    let expected = expected();
    let mut count = 0;
    for picture in ["large", "small"] {
        let read = Picture::open(golden(&format!("{picture}.png")))?;
        for (filter, filter_name) in [
            (Filter::Nearest, "nearest"),
            (Filter::Bilinear, "bilinear"),
            (Filter::Bicubic, "bicubic"),
            (Filter::Lanczos, "lanczos"),
        ] {
            for (fit, fit_name) in [(Fit::Crop { shorter: 37 }, "crop"), (Fit::Stretch, "stretch"), (Fit::Pad, "pad")] {
                for (channels, colors) in [(3, "rgb"), (1, "grey")] {
                    let name = format!("{picture} {filter_name} {fit_name} {colors}");
                    let prepared = preprocessing(32, channels, fit, filter).prepare(&read, Invert::Auto)?;
                    assert!(!prepared.inverted && prepared.notes.is_empty());
                    let (mean, most) = difference(&prepared.pixels, &expected[&name]);
                    assert!(most == 0, "{name}: {mean} on average, {most} at most");
                    count += 1;
                }
            }
        }
    }
    assert_eq!(count, 48);
    Ok(())
}

#[test]
fn values_are_normalised_as_the_model_says() -> Result<()> {
    let (mean, std) = (vec![0.5, 0.25, 0.0], vec![0.5, 0.25, 2.0]);
    let preprocessing = Preprocessing { mean, std, ..preprocessing(2, 3, Fit::Stretch, Filter::Nearest) };
    let bytes = Tensor::from_slice(&[0u8, 255, 51, 102, 0, 255, 51, 102, 0, 255, 51, 102]).view([1, 3, 2, 2]);
    let input = preprocessing.input(&bytes)?;
    let wanted = [-1.0, 1.0, -0.6, -0.2, -1.0, 3.0, -0.2, 0.6, 0.0, 0.5, 0.1, 0.2];
    let apart = (input.view([-1]) - Tensor::from_slice(&wanted)).abs().max().double_value(&[]);
    assert!(apart < 1e-6, "{input}");
    assert_eq!(preprocessing.bytes(&input), bytes);
    assert_eq!(preprocessing.input(&input)?, input); // normalised already
    let said = preprocessing.input(&bytes.view([3, 2, 2])).unwrap_err().to_string();
    assert!(said.contains("the images are [3, 2, 2]") && said.contains("[N, 3, 2, 2]"), "{said}");
    Ok(())
}

#[test]
fn unusable_files_are_sentences() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let whole = |name: &str| std::fs::read(golden(name)).expect("a golden file");
    let mut jpeg = whole("rgb.jpg");
    jpeg.truncate(jpeg.len() * 2 / 3);
    let mut huge = whole("rgb.png"); // the header claims 60,000 × 60,000 pixels
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let header_checksum = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&header_checksum.to_be_bytes());
    let size = |width, height| png(&GrayImage::new(width, height).into());
    for (path, problem) in [
        (folder.path().join("nowhere.png"), "is not found; check the name"),
        (folder.path().to_path_buf(), "is a folder"),
        (file("empty.png", b""), "is empty"),
        (file("page.jpg", b"\n<!DOCTYPE html><html><body>404</body></html>"), "is an HTML page, not a picture"),
        (file("pointer.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "git lfs pull"),
        (file("drawing.png", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"), "is an SVG drawing"),
        (file("phone.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "is a HEIC or AVIF picture"),
        (file("text.png", b"BMW builds cars and not bitmaps, as everybody knows"), "is not a picture; give a PNG,"),
        (file("cut.jpg", &jpeg), "is incomplete"),
        (file("huge.png", &huge), "has 60000 × 60000 pixels, too many"),
        (file("dot.png", &size(1, 1)), "has only 1 × 1 pixels"),
        (file("line.png", &size(4000, 9)), "which is a line"),
    ] {
        let said = Picture::open(&path).unwrap_err().to_string();
        assert!(said.contains(problem) && said.contains(&*path.to_string_lossy()), "{problem}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    for name in ["rgb.png", "lossless.webp", "lossy.webp", "single.gif", "rgb.bmp", "rgb.tiff", "progressive.jpg"] {
        let bytes = whole(name);
        for share in [0.3, 0.6, 0.9] {
            let cut = &bytes[..(bytes.len() as f64 * share) as usize];
            let said = Picture::decode(cut).unwrap_err().to_string();
            assert!(said.contains("incomplete"), "{name}: {said}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo starts").success());
    assert!(Picture::open(&pipe).unwrap_err().to_string().contains("is not an ordinary file"));
}

/// Reading a damaged file gives an error or a picture, never a panic.
#[test]
fn mutated_files_never_panic() {
    let mut random = fastrand::Rng::with_seed(24);
    let files = std::fs::read_dir(GOLDEN).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).expect("a file")).collect();
    for bytes in files.iter().filter(|bytes| bytes.len() < 4000) {
        for _ in 0..60 {
            let mut mutated = bytes.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..mutated.len());
                mutated[at] = random.u8(..);
            }
            if random.bool() {
                mutated.truncate(random.usize(1..=mutated.len()));
            }
            let _ = Picture::decode(&mutated);
        }
    }
}

#[test]
fn folders_stand_for_their_pictures() -> Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for name in ["b.jpg", "a.dat"] {
        std::fs::copy(golden("rgb.png"), path(name)).expect("a copy"); // the content counts, not the name
    }
    std::fs::write(path("notes.png"), "no picture").expect("a file");
    std::fs::create_dir(path("below")).expect("a folder");
    let (pictures, skipped) = picture_files(&[golden("rgb.jpg"), folder.path().to_path_buf()])?;
    assert_eq!(pictures, [golden("rgb.jpg"), path("a.dat"), path("b.jpg")]);
    assert_eq!(skipped, [path("below"), path("notes.png")]);
    let said = picture_files(&[path("below")]).unwrap_err().to_string();
    assert!(said.contains("has no pictures"), "{said}");
    Ok(())
}

/// A picture as the bytes of a PNG file.
fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).expect("in memory");
    bytes.into_inner()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// An image of the data set as a picture.
fn original(images: &Tensor, index: i64) -> GrayImage {
    let bytes = Vec::<u8>::try_from(images.get(index).contiguous().view([-1])).expect("bytes");
    GrayImage::from_raw(28, 28, bytes).expect("28 × 28")
}

/// The picture that a shop would have of an image: inverted, enlarged to 560 pixels with a white border of `border`.
fn product_photo(image: &GrayImage, border: u32, filter: FilterType) -> GrayImage {
    let mut garment = image.clone();
    imageops::invert(&mut garment);
    let side = 560 - 2 * border;
    let enlarged = imageops::resize(&garment, side, side, filter);
    let mut photo = GrayImage::from_pixel(560, 560, Luma([255]));
    imageops::replace(&mut photo, &enlarged, i64::from(border), i64::from(border));
    photo
}

fn jpeg(image: &GrayImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image).expect("in memory");
    bytes
}

fn prepared(bytes: &[u8], invert: Invert) -> Result<Prepared> {
    Preprocessing::fashion_mnist().prepare(&Picture::decode(bytes)?, invert)
}

fn test_images(count: i64) -> Result<Tensor> {
    let found = source::find(None).unwrap_or(Source::Synthetic);
    Ok(Dataset::read(&found, Split::Test, Device::Cpu)?.images.narrow(0, 0, count))
}

/// The predicted classes of images [N, 28, 28] of bytes.
fn classes(learner: &Learner, images: &Tensor) -> Result<Vec<i64>> {
    let logits = learner.predict(&learner.preprocessing().input(images)?)?;
    Ok(Vec::try_from(logits.argmax(1, false))?)
}

/// The share of images that are classified as pictures made from them, and of those that come back bit for bit.
fn agreement(images: &Tensor, picture: impl Fn(&GrayImage) -> Vec<u8> + Sync) -> Result<(f64, f64)> {
    let learner = Learner::read(VIT, Device::Cpu)?;
    let originals: Vec<GrayImage> = (0..images.size()[0]).map(|index| original(images, index)).collect();
    let part = originals.len().div_ceil(std::thread::available_parallelism().map_or(1, |count| count.get()));
    let again = |image: &GrayImage| Ok(prepared(&picture(image), Invert::Auto)?.pixels);
    let parts = std::thread::scope(|scope| {
        let workers =
            originals.chunks(part).map(|part| scope.spawn(|| part.iter().map(again).collect::<Result<Vec<_>>>()));
        workers
            .collect::<Vec<_>>()
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    let again = parts.concat();
    let exact = again.iter().zip(&originals).filter(|(again, original)| **again == *original.as_raw()).count();
    let again = Tensor::from_slice(&again.concat()).view_as(images);
    let [before, after] = [images, &again].map(|images| classes(&learner, images));
    let same = before?.iter().zip(after?).filter(|(before, after)| **before == *after).count();
    Ok((same as f64 / originals.len() as f64, exact as f64 / originals.len() as f64))
}

/// The first 200 images, or all 10,000 with VITLAB_ALL_PICTURES=1.
#[test]
fn product_photos_are_classified_as_their_originals() -> Result<()> {
    let all = std::env::var("VITLAB_ALL_PICTURES").is_ok();
    let images = test_images(if all { 10_000 } else { 100 })?;
    for (filter, border) in [
        (FilterType::CatmullRom, 56),
        (FilterType::Nearest, 56),
        (FilterType::Nearest, 41),
        (FilterType::Triangle, 70),
        (FilterType::Lanczos3, 70),
    ] {
        let photo = |image: &GrayImage| product_photo(image, border, filter);
        let (as_png, png_exact) = agreement(&images, |image| png(&photo(image).into()))?;
        let (as_jpeg, jpeg_exact) = agreement(&images, |image| jpeg(&photo(image), 90))?;
        println!("{filter:?}, border {border}: PNG {as_png} (exact {png_exact}), JPEG {as_jpeg} (exact {jpeg_exact})");
        let least = if filter == FilterType::Lanczos3 { 0.97 } else { 0.99 };
        assert!(as_png >= least && as_jpeg >= least, "{filter:?} {border}: {as_png} as PNG, {as_jpeg} as JPEG");
    }
    Ok(())
}

#[test]
fn images_of_the_data_set_are_never_changed() -> Result<()> {
    let images = test_images(10_000)?;
    for index in 0..10_000 {
        let image = original(&images, index);
        let prepared = prepared(&png(&image.clone().into()), Invert::Auto)?;
        assert!(!prepared.inverted && prepared.pixels == *image.as_raw(), "image {index}");
    }
    Ok(())
}

/// Enlarged, an image is taken as a whole, also where its garment doesn't reach the edge.
#[test]
fn enlarged_images_come_back() -> Result<()> {
    let images = test_images(300)?;
    for index in 0..300 {
        let image = original(&images, index);
        let large = imageops::resize(&image, 448, 448, FilterType::Nearest);
        let prepared = prepared(&png(&large.into()), Invert::Auto)?;
        assert!(!prepared.inverted && prepared.pixels == *image.as_raw(), "image {index}");
    }
    Ok(())
}

#[test]
fn polarity_is_as_asked() -> Result<()> {
    let image = original(&test_images(1)?, 0);
    let mut negative = image.clone();
    imageops::invert(&mut negative);
    for (picture, invert, inverted) in [
        (&image, Invert::Auto, false),
        (&negative, Invert::Auto, true),
        (&image, Invert::Yes, true),
        (&negative, Invert::Yes, true),
        (&negative, Invert::No, false),
    ] {
        let prepared = prepared(&png(&picture.clone().into()), invert)?;
        let mut wanted = picture.clone();
        if inverted {
            imageops::invert(&mut wanted);
        }
        assert!(prepared.inverted == inverted && prepared.pixels == *wanted.as_raw());
    }
    Ok(())
}

/// A garment with a transparent background: black on request inverted or not.
#[test]
fn transparent_parts_are_black() -> Result<()> {
    let image = original(&test_images(1)?, 0);
    let mut negative = image.clone();
    imageops::invert(&mut negative);
    for (picture, invert) in [(&image, Invert::Auto), (&negative, Invert::Yes)] {
        let cut_out = RgbaImage::from_fn(28, 28, |x, y| {
            let level = picture.get_pixel(x, y).0[0];
            // The colour of transparent pixels must not show.
            if image.get_pixel(x, y).0[0] == 0 { Rgba([90, 200, 10, 0]) } else { Rgba([level, level, level, 255]) }
        });
        let prepared = prepared(&png(&cut_out.into()), invert)?;
        assert_eq!(prepared.notes, ["transparent parts are taken as black"]);
        assert_eq!(prepared.pixels, *image.as_raw());
    }
    Ok(())
}

/// A garment off the centre of a grey background in an oblong picture, worked out by hand: 40 × 80 pixels of 2 levels.
#[test]
fn a_garment_is_cut_out_and_centred() -> Result<()> {
    let mut photo = GrayImage::from_pixel(200, 150, Luma([235]));
    for (x, y) in (0..40).flat_map(|x| (0..80).map(move |y| (x, y))) {
        photo.put_pixel(20 + x, 30 + y, Luma([if y < 40 { 0 } else { 94 }]));
    }
    let prepared = prepared(&png(&photo.into()), Invert::Auto)?;
    assert!(prepared.inverted && prepared.notes.is_empty());
    // 80 rows become 28, 40 columns 14; the background 255 − 235 = 20 becomes 0, so 161 becomes 141 · 255 / 235 = 153.
    for (index, &level) in prepared.pixels.iter().enumerate() {
        let (row, column) = (index / 28, index % 28);
        let wanted = if !(7..21).contains(&column) {
            0
        } else if row < 14 {
            255
        } else {
            153
        };
        assert_eq!(level, wanted, "row {row}, column {column}");
    }
    Ok(())
}

/// The noise of a camera doesn't make the garment larger.
#[test]
fn a_noisy_background_is_no_garment() -> Result<()> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut photo = GrayImage::from_fn(640, 800, |x, y| {
        let garment = (150..450).contains(&x) && (100..700).contains(&y);
        // A texture that no grid of 28 pixels repeats.
        let level = if garment { 90 + (x * 7 + y * 3) as u8 % 50 } else { 244 };
        let noise = (0..4).map(|_| random.i16(-2..=2)).sum::<i16>();
        Luma([(i16::from(level) + noise).clamp(0, 255) as u8])
    });
    photo.put_pixel(5, 790, Luma([60])); // dust
    let prepared = prepared(&png(&photo.into()), Invert::Auto)?;
    for (index, &level) in prepared.pixels.iter().enumerate() {
        let inside = (7..21).contains(&(index % 28));
        assert!(if inside { level > 100 } else { level < 12 }, "row {}, column {}: {level}", index / 28, index % 28);
    }
    Ok(())
}

#[test]
fn doubtful_garments_are_said() -> Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let noise = GrayImage::from_fn(60, 90, |_, _| Luma([random.u8(..)]));
    let notes = prepared(&png(&noise.into()), Invert::Auto)?.notes;
    assert!(notes.len() == 1 && notes[0].starts_with("has no even background"), "{notes:?}");
    let notes = prepared(&png(&GrayImage::from_pixel(60, 90, Luma([7])).into()), Invert::Auto)?.notes;
    assert!(notes.len() == 1 && notes[0].starts_with("shows no garment"), "{notes:?}");
    Ok(())
}

/// Photographs in colour, with a random model of another size than the homework's.
#[test]
fn photographs_are_explained_in_colour() -> Result<()> {
    let sizes = ViTConfig {
        image_size: 64,
        patch_size: 8,
        n_channels: 3,
        embed_dim: 32,
        n_layers: 2,
        n_attention_heads: 2,
        forward_mul: 2,
        n_classes: 20,
        dropout: 0.0,
        position_rows: 65,
        structure: Default::default(),
    };
    let preprocessing = preprocessing(64, 3, Fit::Crop { shorter: 72 }, Filter::Bicubic);
    let learner = Learner::new(VisionTransformer::with_sizes(sizes, Device::Cpu)).with_preprocessing(preprocessing);
    let files = [golden("large.png"), golden("small.png")];
    let prepared = learner.preprocessing().prepare_files(&files, Invert::Auto, || {})?;
    let images = Tensor::stack(&prepared.iter().map(Prepared::tensor).collect::<Vec<_>>(), 0);
    let heatmap = Heatmap { image_size: 64, ..Heatmap::default() };
    let method = Method::Rollout(Rollout::default());
    let mut explanation = learner.explain(&images, &method, &heatmap, |_| {})?;
    assert_eq!((explanation.maps.dim(), explanation.grids.dim()), ((2, 64, 64), (2, 8, 8)));
    let normalised = learner.explain(&learner.preprocessing().input(&images)?, &method, &heatmap, |_| {})?;
    assert_eq!(normalised.maps, explanation.maps);

    explanation.names = vec!["large.png".into(), "small.png".into()];
    let figure = explanation.figure("Rollout", &images, None, heatmap.scale)?;
    let captions = explanation.predicted.iter().map(|class| format!("class {class}")).collect::<Vec<_>>();
    let said = format!("Captions: large.png; {}; small.png; {}.", captions[0], captions[1]);
    assert!(figure.alt().contains(&said), "{}", figure.alt());
    // The photograph's own colours are in the figure.
    let page = image::load_from_memory(figure.png()).expect("a PNG").to_rgb8();
    let color = [0, 1, 2].map(|plane| prepared[0].pixels[plane * 64 * 64 + 20 * 64 + 20]);
    let near = |pixel: &image::Rgb<u8>| pixel.0.iter().zip(color).all(|(a, b)| a.abs_diff(b) <= 7);
    assert!(page.pixels().filter(|pixel| near(pixel)).count() >= 16, "{color:?}");
    if let Ok(path) = std::env::var("VITLAB_FIGURE") {
        figure.save(path)?;
    }
    Ok(())
}
