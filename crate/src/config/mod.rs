//! The homework's constants under the homework's names, read from and written to JSON.

mod changes;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::distill::SoftDistillationLoss;
use crate::error::{Error, Result, ensure};
pub use changes::Change;

/// Initial weights of a ViT's or DeiT's linear maps. Biases, tokens and positions start as in the homework.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialisation {
    /// Normal with standard deviation 0.02, as in the homework's material notebook.
    #[default]
    Normal,
    /// Uniform in ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010), like `torch.nn.init.xavier_uniform_`.
    Xavier,
}

/// Random changes to the training images in each epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Augmentation {
    /// `RandomCrop(28, padding=2)`, then `RandomHorizontalFlip`, as in the homework.
    #[default]
    CropFlip,
    /// `RandomHorizontalFlip` alone.
    Flip,
    /// No change.
    None,
}

/// The choice of TRAIN_IMAGES out of the training set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainSelection {
    /// The first ones of the data set.
    #[default]
    First,
    /// The same number of each class, drawn by SEED ([`Dataset::balanced`](crate::data::Dataset::balanced)).
    Balanced,
}

/// The optimizer of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    #[default]
    AdamW,
    /// [`Muon`](crate::train::Muon) for the hidden matrices, AdamW for all other parameters.
    Muon,
}

/// The mixture of two training images and their labels, see [`Mixing::apply`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    #[default]
    None,
    /// The weighted mean of two images (arXiv 1710.09412).
    Mixup,
    /// A rectangle of another image (arXiv 1905.04899).
    #[serde(rename = "cutmix")]
    CutMix,
}

/// The targets of the heads in a training with a teacher, or with two heads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distillation {
    /// The label for the class head, the teacher's decision for the distillation head.
    #[default]
    Hard,
    /// The label for the class head, the teacher's probabilities for the distillation head.
    Soft,
    /// The teacher's probabilities for every head, without the label (arXiv 2106.05237). Also for a ViT.
    Match,
    /// The label for both heads, without a teacher.
    Labels,
}

/// Initial values of a DeiT's two tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenInitialisation {
    /// Normal with standard deviation 0.02, as in DeiT's repository.
    #[default]
    Normal,
    /// Zeros.
    Zeros,
    /// As [`TokenInitialisation::Normal`], then the distillation token loses its part along the class token.
    Orthogonal,
}

/// Number format of convolutions and matrix products: in training (`PRECISION`), or in prediction and rollouts alone
/// (`Learner::with_precision`). Parameters, batch statistics, loss and optimizer are always float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    Float32,
    /// Three significant digits instead of seven. Needs AVX512-BF16. It was faster for a ViT on an AMD EPYC, and slower on
    /// Intel Xeons (BENCHMARKS.md).
    Bfloat16,
}

/// Largest number of parameters in the blocks. A training of them takes 16 GB for parameters, gradient and moments.
const MOST_PARAMETERS: i64 = 1_000_000_000;

/// All constants of a run. JSON has them in capitals (`WARMUP_EPOCHS`); those that it omits have the homework's values.
///
/// ```
/// use vitlab::Config;
/// let config = Config { epochs: 3, warmup_epochs: 1, ..Config::default() };
/// assert!(config.to_json().contains("\"WARMUP_EPOCHS\": 1"));
/// assert_eq!(Config::from_json(r#"{"EPOCHS": 3, "WARMUP_EPOCHS": 1}"#).unwrap(), config);
/// let error = Config::from_json(r#"{"PATCH_SIZE": 5}"#).unwrap_err();
/// assert_eq!(error.to_string(), "IMAGE_SIZE 28 is not a multiple of PATCH_SIZE 5");
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields, default)]
pub struct Config {
    // Training
    pub epochs: usize,
    /// Epochs of linear warm-up; equal to `epochs` means that the learning rate only rises.
    pub warmup_epochs: usize,
    pub batch_size: i64,
    pub n_classes: i64,
    /// Loader processes. Must be 0, since the images are in memory; exists because the homework has it.
    pub n_workers: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end of the cosine; 1e-5 in the material notebook.
    pub min_lr: f64,
    /// Decoupled weight decay of AdamW; 1e-3 in the material notebook.
    pub weight_decay: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub optimizer: Optimizer,
    /// Decay per step of the average of the weights that is evaluated and written in place of the last weights (0: none).
    #[serde(skip_serializing_if = "is_default")]
    pub average_decay: f64,
    /// Share of the label that is spread over all classes.
    #[serde(skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// Updates the learning rate after each step instead of after each epoch.
    #[serde(skip_serializing_if = "is_default")]
    pub lr_per_step: bool,
    /// Steps of an epoch (`None`: one pass over the training images). A longer epoch goes through the images again, in a
    /// new order: with a part of the images, this gives as many steps as all images do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<i64>,
    pub seed: i64,
    pub output_path: PathBuf,

    // Data
    pub dataset: String,
    pub image_size: i64,
    pub patch_size: i64,
    pub n_channels: i64,
    pub data_path: PathBuf,
    /// Number of training images to use (`None`: all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_images: Option<i64>,
    /// Selection of the TRAIN_IMAGES images.
    #[serde(skip_serializing_if = "is_default")]
    pub train_selection: TrainSelection,
    /// Number of test images to use, from the first (`None`: all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<i64>,
    /// Number of training images to hold out, from the last. They replace the test set, which is then not read: for
    /// choosing hyperparameters, which must not depend on the test set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub augmentation: Augmentation,
    /// Probability that a rectangle of a training image becomes grey (arXiv 1708.04896).
    #[serde(skip_serializing_if = "is_default")]
    pub erasing: f64,
    #[serde(skip_serializing_if = "is_default")]
    pub mixing: Mixing,

    // ViT
    pub embed_dim: i64,
    pub n_attention_heads: i64,
    /// Width of the hidden layer of each block's MLP as a multiple of `embed_dim`.
    pub forward_mul: i64,
    pub n_layers: i64,
    pub dropout: f64,
    /// Initial weights of the ViT and the DeiT. The CNN starts with PyTorch's defaults.
    #[serde(skip_serializing_if = "is_default")]
    pub initialisation: Initialisation,
    #[serde(skip_serializing_if = "is_default")]
    pub token_initialisation: TokenInitialisation,
    /// Number format in training, and of the CNN also in prediction. A ViT or DeiT has it by `Learner::create`, or by
    /// `Learner::with_training_precision`.
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    // Distillation
    #[serde(skip_serializing_if = "is_default")]
    pub distillation: Distillation,
    /// Temperature of the teacher's and the student's probabilities.
    #[serde(skip_serializing_if = "is_tau")]
    pub tau: f64,
    /// Weight of the teacher against the label in [`Distillation::Soft`], 0 to 1.
    #[serde(skip_serializing_if = "is_lambda")]
    pub lambda: f64,
    /// Averages the teacher's logits over the image and its mirror image.
    #[serde(skip_serializing_if = "is_default")]
    pub teacher_flip: bool,
    pub model_path: PathBuf,
    /// Load the committed weights instead of training.
    pub load_model: bool,
}

/// The message of a JSON reader without the names of Rust's types.
pub(crate) fn plain(error: serde_json::Error) -> String {
    in_words(&error.to_string())
}

fn in_words(message: &str) -> String {
    let types = [
        ("expected usize", "expected a whole number of at least 0"),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected struct Config", "expected an object of constants, as {\"EPOCHS\": 10}"),
        ("expected struct History", "expected an object with config, origin and epochs"),
        ("expected struct Origin", "expected an object"),
        ("expected struct Epoch", "expected an object"),
        ("expected path string", "expected text"),
    ];
    types.into_iter().fold(message.to_string(), |text, (rust, words)| text.replace(rust, words))
}

/// The configuration in a [`History`](crate::train::History).
#[derive(Deserialize)]
struct OfHistory {
    config: Config,
}

/// Whether an environment variable asks for something: it is set, and neither empty nor 0.
pub(crate) fn asked(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0")
}

/// The error of a configuration `text`. It names the constant whose value has a wrong type, which serde's doesn't.
fn unreadable(text: &str, error: serde_json::Error) -> Error {
    let constants = match serde_json::from_str(text) {
        Ok(Value::Object(mut constants)) => match constants.remove("config") {
            Some(Value::Object(of_history)) => of_history,
            _ => constants,
        },
        _ => Default::default(),
    };
    let problem = constants.into_iter().find_map(|(name, value)| {
        let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        let problem = serde_json::from_value::<Config>(alone).err()?.to_string();
        (!problem.starts_with("unknown field")).then(|| format!("{name} can't be {value}: {}", in_words(&problem)))
    });
    Error::argument(problem.unwrap_or_else(|| format!("the configuration can't be read: {}", plain(error))))
}

/// Whether a constant that the homework doesn't have keeps its default. JSON omits it then.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_tau(tau: &f64) -> bool {
    *tau == SoftDistillationLoss::default().tau
}

fn is_lambda(lambda: &f64) -> bool {
    *lambda == SoftDistillationLoss::default().lambda
}

impl Default for Config {
    /// The homework's values.
    fn default() -> Self {
        Config {
            epochs: 10,
            warmup_epochs: 10,
            batch_size: 128,
            n_classes: 10,
            n_workers: 0,
            lr: 5e-4,
            min_lr: 1e-5,
            weight_decay: 1e-3,
            optimizer: Optimizer::default(),
            average_decay: 0.0,
            label_smoothing: 0.0,
            lr_per_step: false,
            steps_per_epoch: None,
            seed: 42,
            output_path: "./outputs".into(),
            dataset: "fmnist".into(),
            image_size: 28,
            patch_size: 4,
            n_channels: 1,
            data_path: "./data/".into(),
            train_images: None,
            train_selection: TrainSelection::default(),
            test_images: None,
            validation_images: None,
            augmentation: Augmentation::default(),
            erasing: 0.0,
            mixing: Mixing::default(),
            embed_dim: 64,
            n_attention_heads: 4,
            forward_mul: 2,
            n_layers: 6,
            dropout: 0.1,
            initialisation: Initialisation::default(),
            token_initialisation: TokenInitialisation::default(),
            precision: Precision::default(),
            distillation: Distillation::default(),
            tau: SoftDistillationLoss::default().tau,
            lambda: SoftDistillationLoss::default().lambda,
            teacher_flip: false,
            model_path: "./model".into(),
            load_model: false,
        }
    }
}

impl Config {
    /// Trains a student or a ViT for 20 epochs by Muon on a teacher's probabilities for each augmented image (arXiv 2106.05237),
    /// without dropout. Needs a teacher.
    ///
    /// ```
    /// let config = vitlab::Config::twenty_epochs();
    /// assert_eq!((config.epochs, config.lr, config.tau), (20, 0.004, 2.0));
    /// config.check()?;
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn twenty_epochs() -> Self {
        Config {
            epochs: 20,
            warmup_epochs: 1,
            lr: 4e-3,
            lr_per_step: true,
            weight_decay: 0.1,
            optimizer: Optimizer::Muon,
            augmentation: Augmentation::Flip,
            dropout: 0.0,
            initialisation: Initialisation::Xavier,
            distillation: Distillation::Match,
            tau: 2.0,
            teacher_flip: true,
            ..Config::default()
        }
    }

    /// The same run on a small part of the data for at most two epochs, which takes a minute or two. Its files go to
    /// separate folders, so that they never replace those of a full run.
    pub fn quick(self) -> Self {
        Config {
            output_path: self.output_path.join("quick"),
            model_path: self.model_path.join("quick"),
            epochs: self.epochs.min(2),
            warmup_epochs: self.warmup_epochs.min(2),
            train_images: Some(self.train_images.map_or(4_000, |n| n.min(4_000))),
            test_images: Some(self.test_images.map_or(1_000, |n| n.min(1_000))),
            validation_images: self.validation_images.map(|n| n.min(1_000)),
            ..self
        }
    }

    /// Applies the environment variables that `cargo lab run` sets: VITLAB_QUICK and VITLAB_LOAD_MODEL.
    pub fn as_asked(self) -> Self {
        let config = if asked("VITLAB_QUICK") { self.quick() } else { self };
        Config { load_model: config.load_model || asked("VITLAB_LOAD_MODEL"), ..config }
    }

    /// Number of patches of an image.
    pub fn n_patches(&self) -> i64 {
        (self.image_size / self.patch_size).pow(2)
    }

    /// JSON with the homework's names, which [`Config::from_json`] reads.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a Config is always representable in JSON")
    }

    /// Reads JSON with the homework's names.
    ///
    /// # Errors
    /// Text that is not JSON, an unknown constant, a value that [`Config::check`] refuses.
    pub fn from_json(text: &str) -> Result<Self> {
        // serde would also take a list of values in the order of the constants.
        ensure!(
            text.trim_start().starts_with('{'),
            "the configuration can't be read: it is not an object of constants in JSON, as {{\"EPOCHS\": 10}}"
        );
        let config: Config = serde_json::from_str(text).map_err(|error| unreadable(text, error))?;
        config.check()?;
        Ok(config)
    }

    /// Reads a JSON file: constants, or a [`History`](crate::train::History), whose configuration is taken.
    ///
    /// # Errors
    /// Fails as [`Config::from_json`] does, and for a file that can't be read. The message begins with the file's name.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::file(path, format!("can't be read ({e}); name a JSON file with constants of the homework"))
        })?;
        let config = match serde_json::from_str(&text) {
            Ok(OfHistory { config }) => config.check().map(|()| config),
            // Not a history, or one with a configuration that can't be read.
            Err(_) => Config::from_json(&text),
        };
        config.map_err(|e| Error::file(path, e.to_string()))
    }

    /// Checks that all values are possible and fit each other.
    ///
    /// # Errors
    /// The first value that is impossible or doesn't fit the others.
    pub fn check(&self) -> Result<()> {
        let any = i64::MAX;
        // The upper limits are far above any training, and low enough for every product below.
        let ranges = [
            ("EPOCHS", i64::try_from(self.epochs).unwrap_or(any), 1_000_000),
            ("BATCH_SIZE", self.batch_size, 1_000_000),
            ("N_CLASSES", self.n_classes, any),
            ("IMAGE_SIZE", self.image_size, any),
            ("PATCH_SIZE", self.patch_size, any),
            ("N_CHANNELS", self.n_channels, any),
            ("EMBED_DIM", self.embed_dim, 65_536),
            ("N_ATTENTION_HEADS", self.n_attention_heads, 65_536),
            ("FORWARD_MUL", self.forward_mul, 1_024),
            ("N_LAYERS", self.n_layers, 1_024),
            ("STEPS_PER_EPOCH", self.steps_per_epoch.unwrap_or(1), 1_000_000),
            ("TRAIN_IMAGES", self.train_images.unwrap_or(1), any),
            ("TEST_IMAGES", self.test_images.unwrap_or(1), any),
            ("VALIDATION_IMAGES", self.validation_images.unwrap_or(1), any),
        ];
        for (name, value, most) in ranges {
            ensure!(value >= 1, "{name} is {value}; it must be at least 1");
            ensure!(value <= most, "{name} is {value}; it must be at most {most}");
        }
        let (image, patch, channels) = (self.image_size, self.patch_size, self.n_channels);
        ensure!(image % patch == 0, "IMAGE_SIZE {image} is not a multiple of PATCH_SIZE {patch}");
        let (embed, heads) = (self.embed_dim, self.n_attention_heads);
        ensure!(embed % heads == 0, "EMBED_DIM {embed} is not a multiple of N_ATTENTION_HEADS {heads}");
        // Per block: four linear maps of the attention and two of the MLP.
        let parameters = self.n_layers * (4 + 2 * self.forward_mul) * embed * embed;
        ensure!(
            parameters <= MOST_PARAMETERS,
            "EMBED_DIM {embed}, FORWARD_MUL {} and N_LAYERS {} make {parameters} parameters; \
             vitlab trains at most {MOST_PARAMETERS}",
            self.forward_mul,
            self.n_layers
        );
        let (epochs, warmup) = (self.epochs, self.warmup_epochs);
        ensure!(warmup <= epochs, "WARMUP_EPOCHS {warmup} is more than EPOCHS {epochs}");
        let classes = self.n_classes;
        ensure!(
            (classes, image, channels) == (10, 28, 1),
            "N_CLASSES, IMAGE_SIZE and N_CHANNELS are {classes}, {image} and {channels}; FashionMNIST has 10, 28 and 1"
        );
        self.check_selection()?;
        let (dropout, lr, min_lr, decay) = (self.dropout, self.lr, self.min_lr, self.weight_decay);
        ensure!((0.0..1.0).contains(&dropout), "DROPOUT is {dropout}; it must be in [0, 1)");
        ensure!(lr.is_finite() && lr > 0.0, "LR is {lr}; it must be a positive number");
        ensure!((0.0..=lr).contains(&min_lr), "MIN_LR is {min_lr}; it must be in [0, LR]");
        ensure!(decay.is_finite() && decay >= 0.0, "WEIGHT_DECAY is {decay}; it must not be negative");
        let shares = [
            ("AVERAGE_DECAY", self.average_decay, 0.0..1.0),
            ("LABEL_SMOOTHING", self.label_smoothing, 0.0..1.0),
            ("ERASING", self.erasing, 0.0..1.0f64.next_up()),
            ("LAMBDA", self.lambda, 0.0..1.0f64.next_up()),
        ];
        for (name, value, range) in shares {
            let end = if range.end == 1.0 { "1)" } else { "1]" };
            ensure!(range.contains(&value), "{name} is {value}; it must be in [0, {end}");
        }
        ensure!(self.tau.is_finite() && self.tau > 0.0, "TAU is {}; a temperature is a positive number", self.tau);
        let (workers, dataset) = (self.n_workers, &self.dataset);
        ensure!(workers == 0, "N_WORKERS is {workers}; the images are in memory, so it must be 0");
        ensure!(dataset == "fmnist", "DATASET is \"{dataset}\"; only \"fmnist\" is known");
        Ok(())
    }

    /// A balanced selection has a number of images that the classes share, and holds out no images, whose classes would be
    /// missing from it.
    fn check_selection(&self) -> Result<()> {
        if self.train_selection == TrainSelection::First {
            return Ok(());
        }
        let shared = self.train_images.filter(|count| count % self.n_classes == 0);
        ensure!(
            shared.is_some() && self.validation_images.is_none(),
            "TRAIN_SELECTION is balanced; give TRAIN_IMAGES as a multiple of {} and no VALIDATION_IMAGES",
            self.n_classes
        );
        Ok(())
    }
}
