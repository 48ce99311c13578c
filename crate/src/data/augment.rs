//! The homework's augmentation, for a whole batch on its device.

use tch::{Device, Kind, Tensor};

use super::normalise;
use crate::config::Augmentation;

/// Zero padding of `RandomCrop(28, padding=2)`, in pixels.
const PADDING: i64 = 2;

/// One random view of each image, normalised: [B, 28, 28] uint8 -> [B, 1, 28, 28] float32.
///
/// A view is a random 28 × 28 crop after zero padding by 2 pixels (5 × 5 offsets, equally likely), mirrored with
/// probability ½: the distribution of the homework's torchvision transforms.
pub fn augment(images: &Tensor) -> Tensor {
    Augmentation::CropFlip.apply(images)
}

impl Augmentation {
    /// One view of each image, normalised: [B, 28, 28] uint8 -> [B, 1, 28, 28] float32. The random numbers come from
    /// libtorch's generator for the images' device.
    ///
    /// ```
    /// use vitlab::config::Augmentation;
    /// let images = vitlab::tch::Tensor::from_slice(&[0u8, 255]).view([1, 1, 2]);
    /// let x = Augmentation::None.apply(&images);
    /// assert_eq!(Vec::<f32>::try_from(x.flatten(0, -1)).unwrap(), [-1., 1.]);
    /// ```
    pub fn apply(self, images: &Tensor) -> Tensor {
        let (batch, device) = (images.size()[0], images.device());
        let drawn = |n| Tensor::randint(n, [batch], (Kind::Int64, device));
        match self {
            Augmentation::None => normalise(images),
            Augmentation::Flip => {
                let centre = Tensor::full([batch], PADDING, (Kind::Int64, device));
                view(images, &centre, &centre, &drawn(2))
            }
            Augmentation::CropFlip => {
                // Drawn before the offsets: only in this order do the committed trainings repeat bit for bit.
                let mirrored = drawn(2);
                view(images, &drawn(2 * PADDING + 1), &drawn(2 * PADDING + 1), &mirrored)
            }
        }
    }
}

/// The view of each image that starts at row `dy` and column `dx` (0 to 4) of the padded image and is mirrored where
/// `mirrored` is 1: `[B, 28, 28]` uint8 and three times `[B]` int64 -> `[B, 1, 28, 28]` float32.
///
/// ```
/// use tch::{Kind, Tensor};
/// let image = Tensor::from_slice(&[255u8; 9]).view([1, 3, 3]); // a white image of 3 × 3 pixels
/// let [zero, four] = [0, 4].map(|i| Tensor::from_slice(&[i as i64]));
/// // Offset 0 includes two rows and two columns of padding: only the last pixel is white.
/// let x = vitlab::data::view(&image, &zero, &zero, &zero);
/// assert_eq!(Vec::<f32>::try_from(x.flatten(0, -1)).unwrap(), [-1., -1., -1., -1., -1., -1., -1., -1., 1.]);
/// // In the mirrored view it is at the left.
/// let x = vitlab::data::view(&image, &zero, &zero, &Tensor::from_slice(&[1i64]));
/// assert_eq!(Vec::<f32>::try_from(x.flatten(0, -1)).unwrap(), [-1., -1., -1., -1., -1., -1., 1., -1., -1.]);
/// assert_eq!(vitlab::data::view(&image, &four, &four, &zero).double_value(&[0, 0, 0, 0]), 1.);
/// ```
pub fn view(images: &Tensor, dy: &Tensor, dx: &Tensor, mirrored: &Tensor) -> Tensor {
    let (side, device) = (images.size()[2], images.device());
    let padded = images.constant_pad_nd([PADDING; 4]); // [B, I, I] -> [B, I + 4, I + 4]
    let steps = Tensor::arange(side, (Kind::Int64, device)); // [I]
    let rows = dy.unsqueeze(1) + &steps; // [B, 1] + [I] -> [B, I]
    let columns = mirrored.unsqueeze(1) * (side - 1 - &steps * 2) + &steps + dx.unsqueeze(1); // [B, I]
    let batch = Tensor::arange(images.size()[0], (Kind::Int64, device)).view([-1, 1, 1]);
    let crops = padded.index(&[Some(batch), Some(rows.unsqueeze(2)), Some(columns.unsqueeze(1))]); // -> [B, I, I]
    normalise(&crops)
}

/// Seeds libtorch's generators. The same seed, device and threads repeat a training, on the CPU bit for bit.
pub fn seed_everything(seed: i64) {
    tch::manual_seed(seed);
}

/// A random permutation of 0 to n − 1: `[n]` int64.
pub fn shuffled(n: i64, device: Device) -> Tensor {
    Tensor::randperm(n, (Kind::Int64, device))
}
