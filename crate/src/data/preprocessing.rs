//! The steps that turn a picture into a model's input, as the model's own configuration describes them.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use image::{ImageBuffer, Pixel, imageops};
use tch::{Kind, Tensor};

use super::garment::garment;
use super::resize::resize;
use super::{Picture, Placement, normalise};
use crate::error::{Error, Result, ensure};

/// The largest side that a picture is scaled to.
const MOST_SIDE: i64 = 4096;

/// How a picture of any shape becomes a square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Scales the shorter side to this length, then crops the centre, as models trained on ImageNet have it.
    Crop { shorter: i64 },
    /// Scales both sides to the input's side, which changes the shape.
    Stretch,
    /// Scales the longer side to the input's side and pads the shorter one with the background.
    Pad,
    /// As FashionMNIST was made: the garment, bright on black, is cut out at its outline, its longer side fills the
    /// input, and the shorter one is padded. The filter isn't used: the data set samples single pixels.
    Garment,
}

/// The filter that scales a picture. All but the first average over the pixels that become one, as Pillow does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

/// Whether a picture's brightness is inverted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Invert {
    /// Inverts a garment on a bright background. Other pictures stay as they are.
    #[default]
    Auto,
    Yes,
    No,
}

/// The input of a model: its size and colours, and how a picture is brought to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Side of the input in pixels.
    pub side: i64,
    /// 1 for grey, 3 for red, green, blue.
    pub channels: i64,
    pub fit: Fit,
    pub filter: Filter,
    /// Mean of each channel, subtracted from values in [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, by which the difference is divided.
    pub std: Vec<f64>,
}

/// A picture of a model's size, before its values are normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// C planes of I × I bytes.
    pub pixels: Vec<u8>,
    pub channels: i64,
    pub side: i64,
    /// Whether the brightness was inverted.
    pub inverted: bool,
    /// The square's place in the picture.
    pub place: Placement,
    /// Phrases for the user about what was assumed, for instance "transparent parts are taken as black".
    pub notes: Vec<String>,
}

impl Prepared {
    /// [C, I, I] uint8
    pub fn tensor(&self) -> Tensor {
        Tensor::from_slice(&self.pixels).view([self.channels, self.side, self.side]) // [C * I * I] -> [C, I, I]
    }
}

impl Preprocessing {
    /// The homework's: grey, 28 × 28, framed as FashionMNIST, values in [-1, 1].
    pub fn fashion_mnist() -> Self {
        let (mean, std) = (vec![0.5], vec![0.5]);
        Preprocessing { side: 28, channels: 1, fit: Fit::Garment, filter: Filter::Bilinear, mean, std }
    }

    /// Brings a picture to the model's size and colours.
    ///
    /// Scales, crops and pads bit for bit as Pillow and torchvision do (`Resize`, `CenterCrop`). Transparent parts become
    /// black for a model of grey pictures and white for one of colours.
    ///
    /// # Errors
    /// A size or a number of channels that no picture can be brought to.
    pub fn prepare(&self, picture: &Picture, invert: Invert) -> Result<Prepared> {
        let Preprocessing { side, channels, fit, .. } = *self;
        ensure!(matches!(channels, 1 | 3), "the model takes pictures of {channels} channels; a picture has 1 or 3");
        let longest = if let Fit::Crop { shorter } = fit { side.max(shorter) } else { side };
        ensure!(
            side >= 1 && longest <= MOST_SIDE,
            "the model takes pictures of {longest} pixels a side; at most {MOST_SIDE} are made"
        );
        let mut notes = picture.notes().to_vec();
        let mut inverted = invert == Invert::Yes;
        let mut place = self.place(picture.size());
        let (background, color) = if channels == 1 { (0, "black") } else { (255, "white") };
        let mut pixels = if fit == Fit::Garment {
            let prepared = garment(picture, self, invert);
            (inverted, place) = (prepared.inverted, prepared.place);
            notes.extend(prepared.notes);
            prepared.pixels.repeat(channels as usize)
        } else {
            if picture.is_transparent() {
                notes.push(format!("transparent parts are taken as {color}"));
            }
            match channels {
                1 => self.fitted(&picture.grey(background)),
                _ => self.fitted(&picture.rgb(background)),
            }
        };
        if inverted && fit != Fit::Garment {
            pixels.iter_mut().for_each(|value| *value = 255 - *value);
        }
        Ok(Prepared { pixels, channels, side, inverted, place, notes })
    }

    /// [`Preprocessing::prepare`] for files, on all processors. `done` is called after each.
    ///
    /// # Errors
    /// Fails as [`Picture::open`] and [`Preprocessing::prepare`] do, for the first file that does.
    pub fn prepare_files(&self, files: &[PathBuf], invert: Invert, done: impl Fn() + Sync) -> Result<Vec<Prepared>> {
        on_all_processors(files.len(), |index| {
            let prepared = Picture::open(&files[index]).and_then(|picture| self.prepare(&picture, invert));
            done();
            prepared
        })
    }

    /// A picture as planes of the model's size.
    pub(super) fn fitted<P: Pixel<Subpixel = u8> + 'static>(&self, image: &ImageBuffer<P, Vec<u8>>) -> Vec<u8> {
        let scaled = resize(image, self.scaled_size(image.dimensions()), self.filter);
        let side = self.side as u32;
        let square = centred(&scaled, side);
        let planes = (0..usize::from(P::CHANNEL_COUNT)).flat_map(|c| square.pixels().map(move |p| p.channels()[c]));
        planes.collect()
    }

    /// The place of the model's square in a picture of this width and height. [`Fit::Garment`] finds the garment first; for
    /// it, this is the place where no garment is found.
    pub fn place(&self, size: (u32, u32)) -> Placement {
        let (width, height) = self.scaled_size(size);
        let side = self.side as u32;
        let along = |length: u32| {
            let length_of = f64::from(length);
            (-offset(length, side) as f64 / length_of, f64::from(side) / length_of)
        };
        let ((left, width), (top, height)) = (along(width), along(height));
        Placement { left, top, width, height }
    }

    /// Width and height to which a picture is scaled before it is cropped or padded.
    fn scaled_size(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let (shorter, longer) = (u64::from(width.min(height)), u64::from(width.max(height)));
        let side = self.side as u64;
        let (shorter, longer) = match self.fit {
            Fit::Stretch => return (side as u32, side as u32),
            // torchvision cuts the longer side's fraction off.
            Fit::Crop { shorter: length } => (length as u64, length as u64 * longer / shorter),
            Fit::Pad | Fit::Garment => (((2 * side * shorter + longer) / (2 * longer)).max(1), side),
        };
        if width <= height { (shorter as u32, longer as u32) } else { (longer as u32, shorter as u32) }
    }

    /// Images as the model's input, [B, C, I, I] float32. Bytes, [B, C, I, I] or in grey [B, I, I], become
    /// (value / 255 − mean) / std; float32 images pass unchanged, as the model's input already.
    ///
    /// ```
    /// use vitlab::{data::Preprocessing, tch::Tensor};
    /// let black_and_white = Tensor::from_slice(&[0u8, 255]).repeat([392]).view([1, 28, 28]);
    /// let input = Preprocessing::fashion_mnist().input(&black_and_white)?;
    /// assert_eq!(input.size(), [1, 1, 28, 28]);
    /// assert_eq!((input.double_value(&[0, 0, 0, 0]), input.double_value(&[0, 0, 0, 1])), (-1.0, 1.0));
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// Images of another shape or type.
    pub fn input(&self, images: &Tensor) -> Result<Tensor> {
        let (size, kind) = (images.size(), images.kind());
        let Preprocessing { side, channels, .. } = *self;
        let planes = size.len() == 4 && size[1..] == [channels, side, side];
        let grey = channels == 1 && size.len() == 3 && size[1..] == [side, side];
        match kind {
            Kind::Float if planes => Ok(images.shallow_clone()),
            Kind::Uint8 if grey => Ok(self.normalised(&images.unsqueeze(1))), // [B, I, I] -> [B, 1, I, I]
            Kind::Uint8 if planes => Ok(self.normalised(images)),
            _ => Err(Error::argument(format!(
                "the images are {size:?} of {kind:?}; the model needs [N, {channels}, {side}, {side}] of Float, \
                 normalised, or of Uint8"
            ))),
        }
    }

    /// Bytes [B, C, I, I] as float32.
    fn normalised(&self, bytes: &Tensor) -> Tensor {
        if (&self.mean[..], &self.std[..]) == (&[0.5], &[0.5]) {
            return normalise(&bytes.squeeze_dim(1)); // [B, 1, I, I] -> [B, I, I] -> [B, 1, I, I]
        }
        (bytes.to_kind(Kind::Float) / 255.0 - channels(&self.mean, bytes)) / channels(&self.std, bytes)
    }

    /// The bytes [B, C, I, I] that a model's input shows. Values that no picture has become black or white.
    pub fn bytes(&self, input: &Tensor) -> Tensor {
        let values = (input * channels(&self.std, input) + channels(&self.mean, input)) * 255.0;
        values.round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
    }
}

/// A value of each channel, to compute with images on their device: [C, 1, 1].
fn channels(values: &[f64], images: &Tensor) -> Tensor {
    Tensor::from_slice(values).to_kind(Kind::Float).view([-1, 1, 1]).to_device(images.device())
}

/// The centre of a picture as a square of side `side`, black where the picture doesn't reach.
fn centred<P: Pixel<Subpixel = u8> + 'static>(image: &ImageBuffer<P, Vec<u8>>, side: u32) -> ImageBuffer<P, Vec<u8>> {
    let mut square = ImageBuffer::new(side, side);
    let [left, top] = [image.width(), image.height()].map(|length| offset(length, side));
    imageops::replace(&mut square, image, left, top);
    square
}

/// Offset of a length in the square's side, negative where a part is cut off. As torchvision: half of what is too much is
/// cut off, rounded to an even number, and half of what is missing is padded.
fn offset(length: u32, side: u32) -> i64 {
    match length.checked_sub(side) {
        Some(more) => -i64::from(more / 2 + more % 2 * (more / 2 % 2)),
        None => i64::from((side - length) / 2),
    }
}

/// Calls `make` for each index below `count`, on all processors. The results are in order; the first error is returned.
pub(super) fn on_all_processors<T: Send>(count: usize, make: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let make_some = || {
        let mut some = Vec::new();
        while let Some(index) = Some(next.fetch_add(1, Relaxed)).filter(|&index| index < count) {
            let made = make(index);
            if made.is_err() {
                next.store(count, Relaxed); // the items before this one have been taken
            }
            some.push((index, made));
        }
        some
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get()).min(count);
    let mut made = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(make_some)).collect();
        let join = |worker: thread::ScopedJoinHandle<Vec<_>>| worker.join().unwrap_or_else(|e| resume_unwind(e));
        workers.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    made.sort_by_key(|(index, _)| *index);
    made.into_iter().map(|(_, made)| made).collect()
}
