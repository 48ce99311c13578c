//! Picture files, read by their content: PNG, JPEG, WebP, GIF, BMP and TIFF.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use image::{GrayImage, Limits, RgbImage};

use crate::error::{Error, Result, ensure};

/// The most pixels of a picture, above the largest camera's.
const MOST_PIXELS: u64 = 128_000_000;
/// The most bytes that a decoder may allocate.
const MOST_MEMORY: u64 = 768 << 20;
/// The most bytes of a file.
const MOST_BYTES: u64 = 1 << 30;
/// The least side of a picture in pixels. Less shows nothing that a model could tell.
const LEAST_SIDE: u32 = 8;
/// The most times that a picture may be as long as it is wide.
const MOST_ASPECT: u32 = 200;

const FORMATS: &str = "PNG, JPEG, WebP, GIF, BMP or TIFF";

/// A decoded picture: upright, with 8 bits per channel.
#[derive(Clone, Debug)]
pub struct Picture {
    image: DynamicImage,
    notes: Vec<String>,
}

impl Picture {
    /// Reads a picture file. Its content decides on the format, its name doesn't matter. The orientation that a camera
    /// wrote is applied, 16 bits become 8, and the first frame of an animation is taken.
    ///
    /// # Errors
    /// A file that is missing, damaged or incomplete, no picture, smaller than 8 × 8 or larger than 128 megapixels.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (bytes, format) = content(path)?;
        decoded(&bytes, format).map_err(|problem| Error::file(path, problem.to_string()))
    }

    /// [`Picture::open`] for the bytes of a file.
    ///
    /// # Errors
    /// Fails as [`Picture::open`] does.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decoded(
            bytes,
            format(bytes).ok_or_else(|| Error::argument(format!("the bytes are no picture; give {FORMATS}")))?,
        )
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.image.width(), self.image.height())
    }

    /// Remarks for the user, for instance that the file holds more frames.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether a pixel is transparent, if only partly.
    pub(super) fn is_transparent(&self) -> bool {
        match &self.image {
            DynamicImage::ImageLumaA8(image) => image.pixels().any(|pixel| pixel.0[1] < 255),
            DynamicImage::ImageRgba8(image) => image.pixels().any(|pixel| pixel.0[3] < 255),
            _ => false,
        }
    }

    /// The picture in grey (Rec. 601, as Pillow's `convert("L")`), over a background where it is transparent.
    pub(super) fn grey(&self, background: u8) -> GrayImage {
        let (width, height) = self.size();
        let over = |value, alpha| over(value, alpha, background);
        let pixels = match &self.image {
            DynamicImage::ImageLuma8(image) => return image.clone(),
            DynamicImage::ImageLumaA8(image) => image.pixels().map(|pixel| over(pixel.0[0], pixel.0[1])).collect(),
            DynamicImage::ImageRgba8(image) => {
                image.pixels().map(|&image::Rgba([r, g, b, a])| over(luma([r, g, b]), a)).collect()
            }
            image => image.to_rgb8().pixels().map(|pixel| luma(pixel.0)).collect(),
        };
        GrayImage::from_raw(width, height, pixels).expect("one value per pixel")
    }

    /// The picture in red, green and blue, over a background where it is transparent.
    pub(super) fn rgb(&self, background: u8) -> RgbImage {
        let (width, height) = self.size();
        let pixels = match &self.image {
            DynamicImage::ImageRgb8(image) => return image.clone(),
            DynamicImage::ImageRgba8(image) => image
                .pixels()
                .flat_map(|&image::Rgba([r, g, b, a])| [r, g, b].map(|value| over(value, a, background)))
                .collect(),
            _ => self.grey(background).pixels().flat_map(|pixel| [pixel.0[0]; 3]).collect(),
        };
        RgbImage::from_raw(width, height, pixels).expect("three values per pixel")
    }
}

/// Rec. 601 in Pillow's fixed-point numbers.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// A value over a background; `alpha` is from 0, transparent, to 255.
fn over(value: u8, alpha: u8, background: u8) -> u8 {
    let [value, alpha, background] = [value, alpha, background].map(u32::from);
    ((value * alpha + background * (255 - alpha) + 127) / 255) as u8
}

/// The picture files that `paths` name, and the paths that were skipped. A folder stands for the pictures in it, sorted by
/// name; its other files and its subfolders are skipped.
///
/// # Errors
/// A folder that can't be read or has no pictures.
pub fn picture_files(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut pictures, mut skipped) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            pictures.push(path.clone());
            continue;
        }
        let listed = std::fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        let mut files: Vec<PathBuf> = listed.map_err(|error| unreadable(path, &error))?;
        files.sort();
        let before = pictures.len();
        for file in files {
            if looks_like_a_picture(&file) { &mut pictures } else { &mut skipped }.push(file);
        }
        ensure!(pictures.len() > before, "{}: the folder has no pictures; give {FORMATS} files", path.display());
    }
    Ok((pictures, skipped))
}

/// Whether the first bytes of an ordinary file are those of a picture.
fn looks_like_a_picture(path: &Path) -> bool {
    let mut start = [0; 32];
    let read = |mut file: File| file.read(&mut start);
    path.is_file() && File::open(path).and_then(read).is_ok_and(|length| format(&start[..length]).is_some())
}

/// The format that a file starts with, if it can be read.
fn format(start: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    // A text may begin with BM; in a bitmap, three zeros follow the length of its header.
    let is_plausible = |format: &ImageFormat| *format != Bmp || start.get(15..18).is_some_and(|bytes| bytes == [0; 3]);
    let known = |format: &ImageFormat| [Png, Jpeg, WebP, Gif, Bmp, Tiff].contains(format);
    image::guess_format(start).ok().filter(known).filter(is_plausible)
}

/// The bytes of a picture file, and its format.
fn content(path: &Path) -> Result<(Vec<u8>, ImageFormat)> {
    // Checked before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err(Error::file(path, "is a folder; name a picture file"));
    } else if !metadata.is_file() {
        return Err(Error::file(path, "is not an ordinary file; name a picture file"));
    } else if metadata.len() > MOST_BYTES {
        return Err(Error::file(path, format!("has {} MB, too much for a picture", metadata.len() / 1_000_000)));
    }
    let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    let mut read = |most| file.by_ref().take(most).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error));
    read(512)?;
    let format = format(&bytes).ok_or_else(|| Error::file(path, other_content(&bytes)))?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok((bytes, format))
}

/// Names the other kind of file that starts with these bytes, and the remedy.
fn other_content(start: &[u8]) -> String {
    let text = String::from_utf8_lossy(start).trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']).to_lowercase();
    let found = match start {
        [] => "is empty; save or download it again",
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] if is_heif(brand) => {
            "is a HEIC or AVIF picture, which can't be read; save it as JPEG or PNG"
        }
        [b'%', b'P', b'D', b'F', ..] => "is a PDF; save the picture in it as PNG or JPEG",
        _ if text.starts_with("<svg") || text.starts_with("<?xml") && text.contains("<svg") => {
            "is an SVG drawing; save it as PNG"
        }
        _ if text.starts_with('<') && text.contains("html") => {
            "is an HTML page, not a picture; download the picture itself"
        }
        _ if text.starts_with("version https://git-lfs") => {
            "is a pointer of Git LFS; fetch the file with `git lfs pull`"
        }
        _ => return format!("is not a picture; give a {FORMATS} file"),
    };
    found.to_string()
}

fn is_heif(brand: &[u8]) -> bool {
    [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"].iter().any(|known| brand.starts_with(*known))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::file(path, "is not found; check the name"),
        _ => Error::file(path, format!("can't be read: {error}")),
    }
}

/// Decodes a picture. An error is a phrase that follows the file's name.
fn decoded(bytes: &[u8], format: ImageFormat) -> Result<Picture> {
    let limits = || {
        let mut limits = Limits::default();
        limits.max_alloc = Some(MOST_MEMORY);
        limits
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(problem)?;
    let (width, height) = decoder.dimensions();
    let (least, most) = (width.min(height), width.max(height));
    ensure!(
        least >= LEAST_SIDE,
        "has only {width} × {height} pixels; give a picture of at least {LEAST_SIDE} × {LEAST_SIDE}"
    );
    ensure!(
        u64::from(width) * u64::from(height) <= MOST_PIXELS && decoder.total_bytes() <= MOST_MEMORY,
        "has {width} × {height} pixels, too many to read; scale it down to at most {} megapixels",
        MOST_PIXELS / 1_000_000
    );
    ensure!(most / least <= MOST_ASPECT, "has {width} × {height} pixels, which is a line; crop it to its object");
    ensure!(
        format != ImageFormat::Jpeg || reaches_its_end(bytes),
        "is incomplete: its last part is missing; copy or download it again"
    );
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = eight_bits(DynamicImage::from_decoder(decoder).map_err(problem)?)?;
    image.apply_orientation(orientation);
    let mut notes = Vec::new();
    if has_more(bytes, format, limits()) {
        notes.push("holds several pictures; the first one is taken".to_string());
    }
    Ok(Picture { image, notes })
}

/// A phrase about a decoder's error.
fn problem(error: ImageError) -> Error {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    Error::argument(match error {
        ImageError::Unsupported(_) => format!("is of a kind that can't be read ({first}); save it as PNG"),
        ImageError::Limits(_) => "needs too much memory; scale it down".to_string(),
        _ => format!("is damaged or incomplete ({first}); copy or download it again"),
    })
}

/// The same picture with 8 bits per channel.
fn eight_bits(image: DynamicImage) -> Result<DynamicImage> {
    Ok(match image {
        DynamicImage::ImageLuma16(_) => image.to_luma8().into(),
        DynamicImage::ImageLumaA16(_) => image.to_luma_alpha8().into(),
        DynamicImage::ImageRgb16(_) => image.to_rgb8().into(),
        DynamicImage::ImageRgba16(_) => image.to_rgba8().into(),
        DynamicImage::ImageRgb32F(_) | DynamicImage::ImageRgba32F(_) => {
            return Err(Error::argument(
                "has floating-point numbers, whose white isn't known; save it with 8 or 16 bits",
            ));
        }
        image => image,
    })
}

/// Whether a JPEG has its end marker. The decoder would fill a missing part with grey.
fn reaches_its_end(jpeg: &[u8]) -> bool {
    let mut at = 2;
    // In coded data 0xff is followed by 0, or by a restart marker; 0xff may also precede a marker as padding.
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7 | 0xff);
    while let Some(position) = jpeg.get(at..).and_then(|rest| rest.windows(2).position(is_marker)) {
        at += position + 2;
        match (jpeg[at - 1], jpeg.get(at..at + 2)) {
            (0xd9, _) => return true,
            (1 | 0xd8, _) => {}
            (_, Some(&[high, low])) => at += usize::from(u16::from_be_bytes([high, low])),
            _ => return false,
        }
    }
    false
}

/// Whether more pictures follow the first one: frames of an animation, pages of a TIFF.
fn has_more(bytes: &[u8], format: ImageFormat, limits: Limits) -> bool {
    let content = Cursor::new(bytes);
    match format {
        ImageFormat::Gif => GifDecoder::new(content).is_ok_and(|mut decoder| {
            decoder.set_limits(limits).is_ok() && decoder.into_frames().nth(1).is_some_and(|frame| frame.is_ok())
        }),
        ImageFormat::WebP => WebPDecoder::new(content).is_ok_and(|decoder| decoder.has_animation()),
        ImageFormat::Png => PngDecoder::with_limits(content, limits).and_then(|png| png.is_apng()).unwrap_or(false),
        ImageFormat::Tiff => second_page(bytes).is_some_and(|offset| offset != 0),
        _ => false,
    }
}

/// The offset of a TIFF's second directory, 0 if there is none. It follows the entries of the first one.
fn second_page(tiff: &[u8]) -> Option<usize> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = tiff.get(at..at.checked_add(length)?)?;
        let digits = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Some(if tiff[0] == b'M' { bytes.iter().fold(0, digits) } else { bytes.iter().rev().fold(0, digits) })
    };
    let first = number(4, 4)?;
    number(first + 2 + 12 * number(first, 2)?, 4)
}
