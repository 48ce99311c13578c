//! FashionMNIST as tensors: bytes that stay on the device, normalised when they are used.

use tch::{Device, Kind, Tensor};

use super::source::{self, Source, Split};
use crate::device::on_one_thread;
use crate::{Config, Error, Result};

/// What the data of a run are. It goes with everything computed from them, so that a figure or a history of the
/// generated stand-in or of a quick run can't pass for the real thing.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// The generated stand-in instead of FashionMNIST.
    pub synthetic: bool,
    /// Only the first so many training images (`None`: all).
    pub subset: Option<i64>,
    /// Only the first so many test images (`None`: all).
    #[serde(default)]
    pub test_subset: Option<i64>,
    /// The last so many training images stand in for the test set (`None`: none do).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<i64>,
}

impl Origin {
    /// `text`, marked unless the data are the whole FashionMNIST.
    ///
    /// ```
    /// use vitlab::data::Origin;
    /// assert_eq!(Origin::default().title("Loss"), "Loss");
    /// let origin = Origin { synthetic: true, subset: Some(4000), ..Origin::default() };
    /// assert_eq!(origin.title("Loss"), "Loss [synthetic stand-in data, 4000 training images]");
    /// ```
    pub fn title(&self, text: &str) -> String {
        let marks: Vec<String> = [
            self.synthetic.then(|| "synthetic stand-in data".to_string()),
            self.subset.map(|n| format!("{n} training images")),
            self.test_subset.map(|n| format!("{n} test images")),
            self.validation.map(|n| format!("the last {n} training images held out instead of the test set")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if marks.is_empty() { text.to_string() } else { format!("{text} [{}]", marks.join(", ")) }
    }
}

/// One split: images as bytes and their labels, on one device.
#[derive(Debug)]
pub struct Dataset {
    /// [N, 28, 28] uint8, 0 is the black background
    pub images: Tensor,
    /// [N] int64, 0 to 9
    pub labels: Tensor,
    pub split: Split,
    pub origin: Origin,
}

impl Dataset {
    /// # Errors
    /// What is wrong with the files, see [`source::read`].
    pub fn read(source: &Source, split: Split, device: Device) -> Result<Self> {
        let raw = source::read(source, split)?;
        let n = raw.labels.len() as i64;
        Ok(Dataset {
            images: Tensor::from_slice(&raw.images).view([n, 28, 28]).to_device(device), // [N * 28 * 28] -> [N, 28, 28]
            labels: Tensor::from_slice(&raw.labels).to_kind(Kind::Int64).to_device(device),
            split,
            origin: Origin { synthetic: source.is_synthetic(), ..Origin::default() },
        })
    }

    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the images `indices` (from 0, on any device): [B, 28, 28] uint8.
    pub fn select(&self, indices: &Tensor) -> Tensor {
        let indices = indices.to_device(self.images.device());
        self.images.index_select(0, &indices)
    }

    /// The images `indices` as the network sees them: [B, 1, 28, 28] float32, (pixel / 255 − 0.5) / 0.5.
    pub fn normalised(&self, indices: &Tensor) -> Tensor {
        normalise(&self.select(indices))
    }

    /// The images from `start` up to `end`, without a copy: bytes [B, 28, 28] and labels [B].
    pub fn range(&self, start: i64, end: i64) -> (Tensor, Tensor) {
        (self.images.narrow(0, start, end - start), self.labels.narrow(0, start, end - start))
    }

    /// Indices of the first `n` images of `class` (fewer if there are fewer), in their order.
    pub fn examples(&self, class: i64, n: usize) -> Vec<i64> {
        let labels: Vec<i64> = Vec::try_from(&self.labels).expect("labels are [N] int64");
        let of_class = (0i64..).zip(labels).filter(|(_, label)| *label == class);
        of_class.map(|(index, _)| index).take(n).collect()
    }

    /// All but the last `n` images, and these.
    ///
    /// # Errors
    /// When nothing would be left on a side.
    pub fn hold_out(self, n: i64) -> Result<(Self, Self)> {
        let kept = self.len() - n;
        if n < 1 || kept < 1 {
            return Err(Error::argument(format!(
                "{n} images are to be held out of the {} set; it has {}",
                self.split.name(),
                self.len()
            )));
        }
        let part = |(images, labels)| Dataset { images, labels, split: self.split, origin: self.origin.clone() };
        Ok((part(self.range(0, kept)), part(self.range(kept, self.len()))))
    }

    /// The first `n` images only.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn take(self, n: i64) -> Result<Self> {
        if n < 1 || n > self.len() {
            return Err(Error::argument(format!(
                "{n} images asked for, the {} set has 1 to {}",
                self.split.name(),
                self.len()
            )));
        }
        let (images, labels) = self.range(0, n);
        Ok(Dataset { images, labels, ..self })
    }
}

/// [B, 28, 28] bytes -> [B, 1, 28, 28] float32 with mean 0.5 and standard deviation 0.5 taken out, as
/// `ToTensor` and `Normalize([0.5], [0.5])` do.
///
/// ```
/// use tch::Tensor;
/// let black_grey_white = Tensor::from_slice(&[0u8, 51, 255]).view([1, 1, 3]);
/// let x = vitlab::data::normalise(&black_grey_white);
/// assert_eq!(x.size(), [1, 1, 1, 3]);
/// assert!((x.double_value(&[0, 0, 0, 1]) + 0.6).abs() < 1e-6);
/// assert_eq!((x.double_value(&[0, 0, 0, 0]), x.double_value(&[0, 0, 0, 2])), (-1.0, 1.0));
/// ```
pub fn normalise(bytes: &Tensor) -> Tensor {
    on_one_thread(|| {
        let mut x = bytes.unsqueeze(1).to_kind(Kind::Float) / 255.0; // [B, I, I] -> [B, 1, I, I]
        // In place, to fill fewer large tensors.
        let _ = x.g_sub_scalar_(0.5).g_div_scalar_(0.5);
        x
    })
}

/// Both splits.
#[derive(Debug)]
pub struct FashionMnist {
    pub train: Dataset,
    /// With VALIDATION_IMAGES the images held out of the training set.
    pub test: Dataset,
}

impl FashionMnist {
    /// Finds the data (in DATA_PATH/DATASET if DATA_PATH isn't the homework's, else see [`source::find`]) and reads both
    /// splits, or as much as `config` asks for.
    ///
    /// # Errors
    /// Where it was looked for and what to do, or what is wrong with the files.
    pub fn load(config: &Config, device: Device) -> Result<Self> {
        let explicit =
            (config.data_path != Config::default().data_path).then(|| config.data_path.join(&config.dataset));
        let explicit = explicit.as_deref().map(|path| path.to_string_lossy());
        FashionMnist::read(&source::find(explicit.as_deref())?, config, device)
    }

    /// As [`FashionMnist::load`], from a known source.
    ///
    /// # Errors
    /// What is wrong with the files, or fewer images than `config` asks for.
    pub fn read(source: &Source, config: &Config, device: Device) -> Result<Self> {
        let mut train = Dataset::read(source, Split::Train, device)?;
        if let Some(n) = config.train_images {
            train = train.take(n)?;
        }
        let mut origin = Origin { subset: config.train_images, ..train.origin };
        let mut test;
        if let Some(n) = config.validation_images {
            (train, test) = train.hold_out(n)?;
            origin.validation = Some(n);
        } else {
            test = Dataset::read(source, Split::Test, device)?;
            if let Some(n) = config.test_images {
                test = test.take(n)?;
            }
            origin.test_subset = config.test_images;
        }
        train.origin = origin.clone();
        test.origin = origin;
        Ok(FashionMnist { train, test })
    }
}
