//! Augmentations that erase a part of an image, or mix two images and their labels.

use tch::{Kind, Tensor};

use crate::config::Mixing;

/// Shares of an image's area, and ratios of height to width, of the rectangles that are erased, as in torchvision.
const AREA: [f64; 2] = [0.02, 0.33];
const RATIO: [f64; 2] = [0.3, 3.3];

/// Makes a random rectangle grey in each of the normalised images [B, C, I, I] with probability `probability`
/// (random erasing, [arXiv 1708.04896](https://arxiv.org/abs/1708.04896), with torchvision's areas and ratios). A
/// rectangle that is longer than the image is cut to it. The random numbers come from libtorch's generator.
pub fn erase(images: &Tensor, probability: f64) -> Tensor {
    let (size, device) = (images.size(), images.device());
    let (batch, side) = (size[0], size[3]);
    let uniform = |low: f64, high: f64| Tensor::rand([batch], (Kind::Float, device)) * (high - low) + low;
    let area = uniform(AREA[0], AREA[1]) * (side * side) as f64; // [B]
    let ratio = uniform(RATIO[0].ln(), RATIO[1].ln()).exp();
    let chosen = uniform(0.0, 1.0).lt(probability).to_kind(Kind::Float);
    let length = |length: Tensor| (length.sqrt().round().clamp(1.0, side as f64) * &chosen).to_kind(Kind::Int64);
    let (height, width) = (length(&area * &ratio), length(&area / &ratio));
    let start = |length: &Tensor| (uniform(0.0, 1.0) * (side + 1 - length)).floor().to_kind(Kind::Int64);
    let (top, left) = (start(&height), start(&width));
    images.masked_fill(&rectangles(&top, &left, &height, &width, side), 0.0)
}

/// The pixels of a rectangle in each image: four times `[B]` -> [B, 1, I, I] of booleans.
///
/// ```
/// use vitlab::{data::rectangles, tch::Tensor};
/// let one = |value: i64| Tensor::from_slice(&[value]);
/// // Top 0, left 1, height 1, width 2 of an image of 3 × 3 pixels.
/// let pixels = rectangles(&one(0), &one(1), &one(1), &one(2), 3);
/// assert_eq!(Vec::<bool>::try_from(pixels.flatten(0, -1)).unwrap(), [false, true, true, false, false, false, false, false, false]);
/// ```
pub fn rectangles(top: &Tensor, left: &Tensor, height: &Tensor, width: &Tensor, side: i64) -> Tensor {
    let pixels = Tensor::arange(side, (Kind::Int64, top.device())); // [I]
    let within = |start: &Tensor, length: &Tensor| {
        let (start, end) = (start.unsqueeze(1), (start + length).unsqueeze(1)); // [B] -> [B, 1]
        pixels.ge_tensor(&start).logical_and(&pixels.lt_tensor(&end)) // [B, I]
    };
    let (rows, columns) = (within(top, height), within(left, width));
    rows.unsqueeze(2).logical_and(&columns.unsqueeze(1)).unsqueeze(1) // [B, I, 1] and [B, 1, I] -> [B, 1, I, I]
}

impl Mixing {
    /// Mixes each image of a batch [B, C, I, I] with the one at the opposite end of the batch, and their target
    /// probabilities [B, classes] likewise. One share λ, uniform between 0 and 1, is drawn for the batch from libtorch's
    /// generator.
    pub fn apply(self, images: &Tensor, targets: &Tensor) -> (Tensor, Tensor) {
        let side = images.size()[3];
        let drawn = || Tensor::rand([1], (Kind::Double, tch::Device::Cpu)).double_value(&[0]);
        match self {
            Mixing::None => (images.shallow_clone(), targets.shallow_clone()),
            Mixing::Mixup => mixup(images, targets, drawn()),
            Mixing::CutMix => {
                let length = ((1.0 - drawn()).sqrt() * side as f64).round() as i64;
                let [top, left] = [(); 2].map(|()| (drawn() * (side + 1 - length) as f64).floor() as i64);
                cutmix(images, targets, top, left, length)
            }
        }
    }
}

/// `share` of each image [B, C, I, I] and of its targets [B, classes], and the rest of its partner's.
///
/// ```
/// use vitlab::{data::mixup, tch::Tensor};
/// let images = Tensor::from_slice(&[1f32, 5.]).view([2, 1, 1, 1]);
/// let targets = Tensor::from_slice2(&[[1f32, 0.], [0., 1.]]);
/// let (mixed, targets) = mixup(&images, &targets, 0.75);
/// assert_eq!(Vec::<f32>::try_from(mixed.flatten(0, -1)).unwrap(), [2., 4.]);
/// assert_eq!(Vec::<f32>::try_from(targets.flatten(0, -1)).unwrap(), [0.75, 0.25, 0.25, 0.75]);
/// ```
pub fn mixup(images: &Tensor, targets: &Tensor, share: f64) -> (Tensor, Tensor) {
    let mixed = |x: &Tensor| x * share + x.flip([0]) * (1.0 - share);
    (mixed(images), mixed(targets))
}

/// Each image [B, C, I, I] with a square of its partner, and their targets [B, classes] by the shares of the area.
///
/// ```
/// use vitlab::{data::cutmix, tch::Tensor};
/// let images = Tensor::from_slice(&[1f32, 1., 1., 1., 5., 5., 5., 5.]).view([2, 1, 2, 2]);
/// let targets = Tensor::from_slice2(&[[1f32, 0.], [0., 1.]]);
/// // One of four pixels, at the lower left.
/// let (mixed, targets) = cutmix(&images, &targets, 1, 0, 1);
/// assert_eq!(Vec::<f32>::try_from(mixed.flatten(0, -1)).unwrap(), [1., 1., 5., 1., 5., 5., 1., 5.]);
/// assert_eq!(Vec::<f32>::try_from(targets.flatten(0, -1)).unwrap(), [0.75, 0.25, 0.25, 0.75]);
/// ```
pub fn cutmix(images: &Tensor, targets: &Tensor, top: i64, left: i64, length: i64) -> (Tensor, Tensor) {
    let side = images.size()[3];
    let mixed = images.copy();
    let square = |of: &Tensor| of.narrow(2, top, length).narrow(3, left, length);
    square(&mixed).copy_(&square(&images.flip([0])));
    let share = 1.0 - (length * length) as f64 / (side * side) as f64;
    (mixed, mixup(targets, targets, share).1)
}
