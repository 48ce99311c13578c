//! FashionMNIST as tensors. The images stay on the device as bytes and are normalised in batches.

use std::fmt;

use tch::{Device, Kind, Tensor};
use vitlab_dataset::known;

use super::{Source, Split, source};
use crate::Config;
use crate::config::TrainSelection;
use crate::device::on_one_thread;
use crate::error::{Error, Result, ensure};

/// Origin of a run's data. It accompanies every result, so that a figure or a history from another data set, from the
/// generated stand-in or from a quick run can't be mistaken for one from the whole FashionMNIST.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Name of the data set, as [`vitlab_dataset::Images::dataset`] has it. Histories without it are FashionMNIST's.
    pub dataset: String,
    /// Whether the generated stand-in replaces FashionMNIST.
    pub synthetic: bool,
    /// Uses only N training images (`None`: all): the first ones, unless `balanced`.
    pub subset: Option<i64>,
    /// The training images of the subset are drawn, the same number of each class.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub balanced: bool,
    /// Uses only the first N test images (`None`: all).
    pub test_subset: Option<i64>,
    /// Holds out the last N training images in place of the test set (`None`: the test set is used).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<i64>,
}

impl Default for Origin {
    /// The whole FashionMNIST.
    fn default() -> Self {
        let dataset = known::FASHION_MNIST.to_string();
        Origin { dataset, synthetic: false, subset: None, balanced: false, test_subset: None, validation: None }
    }
}

impl Origin {
    /// `text`, followed by the origin in brackets unless the data are the whole FashionMNIST.
    ///
    /// ```
    /// use vitlab::data::Origin;
    /// assert_eq!(Origin::default().title("Loss"), "Loss");
    /// let origin = Origin { synthetic: true, subset: Some(4000), ..Origin::default() };
    /// assert_eq!(origin.title("Loss"), "Loss [synthetic stand-in data, 4000 training images]");
    /// let origin = Origin { dataset: "MNIST".to_string(), ..Origin::default() };
    /// assert_eq!(origin.title("Loss"), "Loss [MNIST]");
    /// ```
    pub fn title(&self, text: &str) -> String {
        let dataset = match self.synthetic {
            true => Some("synthetic stand-in data".to_string()),
            false => Some(self.dataset.clone()).filter(|name| name != known::FASHION_MNIST),
        };
        let marks: Vec<String> = dataset.into_iter().chain(self.parts()).collect();
        if marks.is_empty() { text.to_string() } else { format!("{text} [{}]", marks.join(", ")) }
    }

    /// The data set and the folder that it was read from.
    ///
    /// ```
    /// use vitlab::data::{Origin, Source};
    /// let folder = Source::Folder("data/mnist".into());
    /// let origin = Origin { dataset: "MNIST".to_string(), ..Origin::default() };
    /// assert_eq!(origin.located(&folder), "MNIST in data/mnist");
    /// ```
    pub fn located(&self, source: &Source) -> String {
        if self.synthetic { source.to_string() } else { format!("{} in {source}", self.dataset) }
    }

    /// The names of the classes. A label is an index into this list.
    pub fn classes(&self) -> [&'static str; 10] {
        known::classes(&self.dataset)
    }

    /// The choice of images from the data set, in words.
    fn parts(&self) -> impl Iterator<Item = String> {
        let parts = [
            self.subset.map(|n| format!("{n} training images{}", if self.balanced { ", balanced" } else { "" })),
            self.test_subset.map(|n| format!("{n} test images")),
            self.validation.map(|n| format!("the last {n} training images held out instead of the test set")),
        ];
        parts.into_iter().flatten()
    }
}

/// The data set and the choice of images from it, as `MNIST, 1000 training images`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.dataset)?;
        self.parts().try_for_each(|part| write!(f, ", {part}"))
    }
}

/// Images of one split as bytes, and their labels, on one device.
#[derive(Debug)]
pub struct Dataset {
    /// [N, 28, 28] uint8; 0 is the black background
    pub images: Tensor,
    /// `[N]` int64, 0 to 9
    pub labels: Tensor,
    pub split: Split,
    pub origin: Origin,
}

impl Dataset {
    /// Reads a split onto a device.
    ///
    /// # Errors
    /// Fails as [`source::read`] does.
    pub fn read(source: &Source, split: Split, device: Device) -> Result<Self> {
        let raw = source::read(source, split)?;
        let n = raw.labels.len() as i64;
        Ok(Dataset {
            images: Tensor::from_slice(&raw.images).view([n, 28, 28]).to_device(device), // [N * 28 * 28] -> [N, 28, 28]
            labels: Tensor::from_slice(&raw.labels).to_kind(Kind::Int64).to_device(device),
            split,
            origin: Origin { dataset: raw.dataset, synthetic: source.is_synthetic(), ..Origin::default() },
        })
    }

    pub fn len(&self) -> i64 {
        self.labels.size()[0]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The images with these indices `[B]` (from 0, on any device) as bytes: `[B, 28, 28]` uint8.
    pub fn select(&self, indices: &Tensor) -> Tensor {
        self.images.index_select(0, &indices.to_device(self.images.device()))
    }

    /// The images with these indices `[B]` as input of a network: `[B, 1, 28, 28]` float32, (pixel / 255 − 0.5) / 0.5.
    pub fn normalised(&self, indices: &Tensor) -> Tensor {
        normalise(&self.select(indices))
    }

    /// The images at these places, from 0, as input of a network: `[B, 1, 28, 28]` float32, as [`Dataset::normalised`].
    ///
    /// # Errors
    /// A place that the set doesn't have.
    pub fn at(&self, places: &[i64]) -> Result<Tensor> {
        let (name, len) = (self.split.name(), self.len());
        if let Some(place) = places.iter().find(|place| !(0..len).contains(place)) {
            return Err(Error::argument(format!("image {place} asked for, the {name} set has 0 to {}", len - 1)));
        }
        Ok(self.normalised(&Tensor::from_slice(places)))
    }

    /// The first `n` images as input of a network, `[n, 1, 28, 28]` float32, and their labels `[n]`.
    ///
    /// ```
    /// use vitlab::data::{Dataset, Source, Split};
    /// use vitlab::{tch::Device, tensor::TensorExt};
    /// let test = Dataset::read(&Source::Synthetic, Split::Test, Device::Cpu)?;
    /// let (images, labels) = test.first(3)?;
    /// assert_eq!((images.size(), labels.size()), (vec![3, 1, 28, 28], vec![3]));
    /// assert_eq!(test.at(&[0, 1, 2])?.largest_difference(&images), 0.0);
    /// let last = test.len() - 1;
    /// let message = test.at(&[last + 1]).unwrap_err().to_string();
    /// assert_eq!(message, format!("image {} asked for, the test set has 0 to {last}", last + 1));
    /// assert!(test.first(0).unwrap_err().to_string().starts_with("0 images asked for, the test set has 1 to"));
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    ///
    /// # Errors
    /// No images, or more than the set has.
    pub fn first(&self, n: i64) -> Result<(Tensor, Tensor)> {
        self.check_count(n)?;
        let (bytes, labels) = self.range(0, n);
        Ok((normalise(&bytes), labels))
    }

    fn check_count(&self, n: i64) -> Result<()> {
        let (name, len) = (self.split.name(), self.len());
        ensure!((1..=len).contains(&n), "{n} images asked for, the {name} set has 1 to {len}");
        Ok(())
    }

    /// Images `[B, 28, 28]` uint8 and labels `[B]` from `start` to `end` (excluded). They share the dataset's memory.
    pub fn range(&self, start: i64, end: i64) -> (Tensor, Tensor) {
        (self.images.narrow(0, start, end - start), self.labels.narrow(0, start, end - start))
    }

    /// Indices of the first `n` images of `class`, or of all if there are fewer, in ascending order.
    pub fn examples(&self, class: i64, n: usize) -> Vec<i64> {
        let labels: Vec<i64> = Vec::try_from(&self.labels).expect("labels are [N] int64");
        (0i64..).zip(labels).filter(|(_, label)| *label == class).map(|(index, _)| index).take(n).collect()
    }

    /// Splits off the last `n` images: (all others, the last `n`).
    fn hold_out(self, n: i64) -> Result<(Self, Self)> {
        let (start, name, len) = (self.len() - n, self.split.name(), self.len());
        ensure!(n >= 1 && start >= 1, "{n} images are to be held out of the {name} set; it has {len}");
        let (images, labels) = self.range(start, len);
        let last = Dataset { images, labels, split: self.split, origin: self.origin.clone() };
        Ok((self.take(start)?, last))
    }

    /// Keeps only the first `n` images.
    ///
    /// # Errors
    /// No images, or more than the dataset has.
    pub fn take(self, n: i64) -> Result<Self> {
        self.check_count(n)?;
        let (images, labels) = self.range(0, n);
        Ok(Dataset { images, labels, ..self })
    }

    /// Keeps `n` images, the same number of each class, in their order. `seed` alone decides which, so that two networks
    /// that are trained with it see the same images.
    ///
    /// # Errors
    /// A number that the classes can't share, or more images of a class than the dataset has.
    pub fn balanced(self, n: i64, seed: i64) -> Result<Self> {
        let classes = self.origin.classes();
        let (each, count) = (n / classes.len() as i64, classes.len());
        ensure!(n >= 1 && n % count as i64 == 0, "{n} images asked for, the same number of each of {count} classes");
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let mut chosen: Vec<i64> = Vec::new();
        for (class, name) in (0i64..).zip(classes) {
            let mut indices = self.examples(class, usize::MAX);
            let (has, set) = (indices.len(), self.split.name());
            ensure!(has as i64 >= each, "{each} images of each class asked for, the {set} set has {has} of {name}");
            random.shuffle(&mut indices);
            chosen.extend(&indices[..each as usize]);
        }
        chosen.sort_unstable();
        let indices = Tensor::from_slice(&chosen).to_device(self.images.device());
        Ok(Dataset { images: self.select(&indices), labels: self.labels.index_select(0, &indices), ..self })
    }
}

/// Maps pixels to (pixel / 255 − 0.5) / 0.5 as in the homework: [B, 28, 28] uint8 -> [B, 1, 28, 28] float32.
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
        // In place, to allocate fewer large tensors.
        let _ = x.g_sub_scalar_(0.5).g_div_scalar_(0.5);
        x
    })
}

/// The training set and the test set: FashionMNIST's, or those of another data set with the same file format.
#[derive(Debug)]
pub struct FashionMnist {
    pub train: Dataset,
    /// With VALIDATION_IMAGES, the images held out of the training set.
    pub test: Dataset,
}

impl FashionMnist {
    /// Finds the data and reads the images that `config` selects. The data are in DATA_PATH/DATASET if DATA_PATH isn't
    /// the homework's; otherwise [`source::find`] looks for them.
    ///
    /// # Errors
    /// No data in any of the folders (the message lists them), or those of [`FashionMnist::read`].
    pub fn load(config: &Config, device: Device) -> Result<Self> {
        let folder = config.data_path.join(&config.dataset);
        let explicit = (config.data_path != Config::default().data_path).then(|| folder.to_string_lossy());
        FashionMnist::read(&source::find(explicit.as_deref())?, config, device)
    }

    /// Reads the images that `config` selects from a known source.
    ///
    /// # Errors
    /// Fails as [`source::read`] does, for a selection of more images than there are, and for a training set and a test
    /// set from two data sets.
    pub fn read(source: &Source, config: &Config, device: Device) -> Result<Self> {
        let first = |split, count: Option<i64>| {
            let dataset = Dataset::read(source, split, device)?;
            if let Some(n) = count { dataset.take(n) } else { Ok(dataset) }
        };
        let balanced = config.train_images.filter(|_| config.train_selection == TrainSelection::Balanced);
        let train = match balanced {
            Some(n) => Dataset::read(source, Split::Train, device)?.balanced(n, config.seed)?,
            None => first(Split::Train, config.train_images)?,
        };
        let (train, test) = match config.validation_images {
            Some(n) => train.hold_out(n)?,
            None => (train, first(Split::Test, config.test_images)?),
        };
        let [first, second] = [&train, &test].map(|part| part.origin.dataset.as_str());
        let origin = Origin {
            dataset: together(first, second)?,
            subset: config.train_images,
            balanced: balanced.is_some(),
            test_subset: config.test_images.filter(|_| config.validation_images.is_none()),
            validation: config.validation_images,
            synthetic: source.is_synthetic(),
        };
        Ok(FashionMnist { train: Dataset { origin: origin.clone(), ..train }, test: Dataset { origin, ..test } })
    }
}

/// Name of the data set that has a training set and a test set with these names.
fn together(train: &str, test: &str) -> Result<String> {
    ensure!(
        train == test || !known::is_known(train) || !known::is_known(test),
        "the training images are {train}'s, the test images {test}'s; name a folder with the files of one data set"
    );
    Ok(if train == test { train.to_string() } else { format!("{train} (training), {test} (test)") })
}
