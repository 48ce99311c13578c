//! Compares two pictures pixel by pixel.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The largest difference of a colour channel, of 255, that counts as rounding.
const ROUNDING: u8 = 2;

struct Pixels {
    width: u32,
    height: u32,
    /// [height, width, 4] as red, green, blue, opacity.
    bytes: Vec<u8>,
}

/// Returns what differs between two pictures of this media type. The contents of PNG and JPEG are base64. Formats other than
/// PNG are compared as files.
pub fn compare(kind: &str, old: &str, new: &str) -> Option<String> {
    if kind != "image/png" {
        return (old.trim() != new.trim()).then(|| "the files differ".to_string());
    }
    let (old, new) = match (decode(old), decode(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(problem), _) | (_, Err(problem)) => return Some(format!("it can't be read ({problem})")),
    };
    if (old.width, old.height) != (new.width, new.height) {
        return Some(format!("{} × {} pixels became {} × {}", old.width, old.height, new.width, new.height));
    }
    let largest = |(old, new): (&[u8], &[u8])| old.iter().zip(new).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let pixels = || old.bytes.chunks_exact(4).zip(new.bytes.chunks_exact(4)).map(largest);
    let differing = pixels().filter(|difference| *difference > ROUNDING).count();
    let most = pixels().max().unwrap_or(0);
    let all = old.width * old.height;
    (differing > 0).then(|| format!("{differing} of {all} pixels differ, by up to {most} of 255"))
}

fn decode(base64: &str) -> Result<Pixels, String> {
    let text: String = base64.split_whitespace().collect();
    let file = BASE64_STANDARD.decode(text).map_err(|error| error.to_string())?;
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let info = reader.next_frame(&mut bytes).map_err(|error| error.to_string())?;
    bytes.truncate(info.buffer_size());
    if info.color_type == png::ColorType::GrayscaleAlpha {
        bytes = bytes.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect();
    }
    Ok(Pixels { width: info.width, height: info.height, bytes })
}
