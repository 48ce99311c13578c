//! The homework's constants, by the homework's names, in JSON too.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the linear maps of a ViT or DeiT start. Biases start at 0, tokens and positions always as in the homework.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialisation {
    /// The material notebook's: normal with standard deviation 0.02.
    #[default]
    Normal,
    /// Uniform in ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010), as `torch.nn.init.xavier_uniform_`.
    Xavier,
}

/// What an epoch does to its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Augmentation {
    /// The homework's: `RandomCrop(28, padding=2)`, then `RandomHorizontalFlip`.
    #[default]
    CropFlip,
    /// `RandomHorizontalFlip` alone.
    Flip,
    /// The images as they are.
    None,
}

/// In which numbers a network convolves and multiplies: a CNN in training and predictions, by `PRECISION`; a ViT or DeiT in
/// predictions and rollouts, by `fused::Fused::with_precision`. Parameters, batch statistics, loss and
/// optimizer are float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    Float32,
    /// Three digits instead of seven: faster where the processor multiplies such numbers itself. For the CNN this was measured
    /// with Intel's AMX; elsewhere it may well be slower.
    Bfloat16,
}

/// All constants of a run. In JSON they carry the homework's names (`EPOCHS`, `WARMUP_EPOCHS`, …); what a file
/// leaves out keeps the homework's value.
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
    /// Kept for the homework's sake: the images lie in memory, so there are no loader processes and it must be 0.
    pub n_workers: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end of the cosine; 1e-5 in the material notebook.
    pub min_lr: f64,
    /// Decoupled weight decay of AdamW; 1e-3 in the material notebook.
    pub weight_decay: f64,
    /// The learning rate follows the schedule from step to step instead of from epoch to epoch.
    #[serde(skip_serializing_if = "is_default")]
    pub lr_per_step: bool,
    pub seed: i64,
    pub output_path: PathBuf,

    // Data
    pub dataset: String,
    pub image_size: i64,
    pub patch_size: i64,
    pub n_channels: i64,
    pub data_path: PathBuf,
    /// Use only the first so many images of the training and the test set (all when absent).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_images: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_images: Option<i64>,
    /// Hold out the last so many training images and evaluate on them instead of the test set, which then is not read:
    /// for choices, which the test set must not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_images: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub augmentation: Augmentation,

    // ViT
    pub embed_dim: i64,
    pub n_attention_heads: i64,
    /// Width of the hidden layer of each block's MLP as a multiple of `embed_dim`.
    pub forward_mul: i64,
    pub n_layers: i64,
    pub dropout: f64,
    /// Of the ViT and the DeiT; the CNN keeps libtorch's own.
    #[serde(skip_serializing_if = "is_default")]
    pub initialisation: Initialisation,
    /// Of the CNN; ViT and DeiT are float32 always.
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    pub model_path: PathBuf,
    /// Load the committed weights instead of training.
    pub load_model: bool,
}

/// What is not said in JSON: files and print-outs of the homework's own recipe hold the homework's constants alone.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for Config {
    /// The homework's values; seed 42 as there.
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
            lr_per_step: false,
            seed: 42,
            output_path: "./outputs".into(),
            dataset: "fmnist".into(),
            image_size: 28,
            patch_size: 4,
            n_channels: 1,
            data_path: "./data/".into(),
            train_images: None,
            test_images: None,
            validation_images: None,
            augmentation: Augmentation::default(),
            embed_dim: 64,
            n_attention_heads: 4,
            forward_mul: 2,
            n_layers: 6,
            dropout: 0.1,
            initialisation: Initialisation::default(),
            precision: Precision::default(),
            model_path: "./model".into(),
            load_model: false,
        }
    }
}

impl Config {
    /// The same on a small part of the data for few epochs, to see everything work within a minute or two. Its files
    /// go to folders of their own, so that they never replace those of a whole run.
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

    /// As the environment asks: [`Config::quick`] with VITLAB_QUICK, LOAD_MODEL with VITLAB_LOAD_MODEL (`cargo lab run` sets them
    /// for `--quick` and `--load-model`).
    pub fn as_asked(self) -> Self {
        let asked = |name| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0");
        let config = if asked("VITLAB_QUICK") { self.quick() } else { self };
        Config { load_model: config.load_model || asked("VITLAB_LOAD_MODEL"), ..config }
    }

    /// Number of patches of an image.
    pub fn n_patches(&self) -> i64 {
        (self.image_size / self.patch_size).pow(2)
    }

    /// JSON by the homework's names; [`Config::from_json`] reads it.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a Config is always representable in JSON")
    }

    /// # Errors
    /// A sentence when the text isn't JSON, names an unknown constant or holds an impossible value.
    pub fn from_json(text: &str) -> Result<Self> {
        let config: Config =
            serde_json::from_str(text).map_err(|e| Error::argument(format!("the configuration can't be read: {e}")))?;
        config.check()?;
        Ok(config)
    }

    /// # Errors
    /// As [`Config::from_json`], or a file that can't be read; the message begins with the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::file(path, format!("can't be read ({e}); name a JSON file with constants of the homework"))
        })?;
        Config::from_json(&text).map_err(|e| Error::file(path, e.to_string()))
    }

    /// # Errors
    /// A sentence about the first value that can't work.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("EPOCHS", self.epochs as i64),
            ("BATCH_SIZE", self.batch_size),
            ("N_CLASSES", self.n_classes),
            ("IMAGE_SIZE", self.image_size),
            ("PATCH_SIZE", self.patch_size),
            ("N_CHANNELS", self.n_channels),
            ("EMBED_DIM", self.embed_dim),
            ("N_ATTENTION_HEADS", self.n_attention_heads),
            ("FORWARD_MUL", self.forward_mul),
            ("N_LAYERS", self.n_layers),
            ("TRAIN_IMAGES", self.train_images.unwrap_or(1)),
            ("TEST_IMAGES", self.test_images.unwrap_or(1)),
            ("VALIDATION_IMAGES", self.validation_images.unwrap_or(1)),
        ];
        let problem = if let Some((name, value)) = positive.iter().find(|(_, value)| *value < 1) {
            format!("{name} is {value}; it must be at least 1")
        } else if self.image_size % self.patch_size != 0 {
            format!("IMAGE_SIZE {} is not a multiple of PATCH_SIZE {}", self.image_size, self.patch_size)
        } else if self.embed_dim % self.n_attention_heads != 0 {
            format!("EMBED_DIM {} is not a multiple of N_ATTENTION_HEADS {}", self.embed_dim, self.n_attention_heads)
        } else if self.warmup_epochs > self.epochs {
            format!("WARMUP_EPOCHS {} is more than EPOCHS {}", self.warmup_epochs, self.epochs)
        } else if (self.n_classes, self.image_size, self.n_channels) != (10, 28, 1) {
            format!(
                "N_CLASSES, IMAGE_SIZE and N_CHANNELS are {}, {} and {}; FashionMNIST has 10, 28 and 1",
                self.n_classes, self.image_size, self.n_channels
            )
        } else if !(0.0..1.0).contains(&self.dropout) {
            format!("DROPOUT is {}; it must be in [0, 1)", self.dropout)
        } else if !(self.lr.is_finite() && self.lr > 0.0) {
            format!("LR is {}; it must be a positive number", self.lr)
        } else if !(0.0..=self.lr).contains(&self.min_lr) {
            format!("MIN_LR is {}; it must be in [0, LR]", self.min_lr)
        } else if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            format!("WEIGHT_DECAY is {}; it must not be negative", self.weight_decay)
        } else if self.n_workers != 0 {
            format!("N_WORKERS is {}; the images lie in memory, so it must be 0", self.n_workers)
        } else if self.dataset != "fmnist" {
            format!("DATASET is \"{}\"; only \"fmnist\" is known", self.dataset)
        } else {
            return Ok(());
        };
        Err(Error::argument(problem))
    }

    /// The constants that differ in a way that changes a training, as "NAME: ours, theirs". Paths don't count.
    ///
    /// ```
    /// use vitlab::Config;
    /// let (ours, theirs) = (Config::default(), Config { lr: 1e-3, ..Config::default() });
    /// assert_eq!(ours.differences(&theirs), ["LR: 0.0005 here, 0.001 there"]);
    /// ```
    pub fn differences(&self, other: &Config) -> Vec<String> {
        let value = |config: &Config| serde_json::to_value(config).expect("as in to_json");
        let (ours, theirs) = (value(self), value(other));
        let names = |v: &serde_json::Value| -> Vec<String> {
            v.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
        };
        let mut all: Vec<String> = names(&ours).into_iter().chain(names(&theirs)).collect();
        all.sort();
        all.dedup();
        all.into_iter()
            .filter(|n| !n.ends_with("_PATH") && n != "LOAD_MODEL" && ours.get(n) != theirs.get(n))
            .map(|n| {
                let text = |v: &serde_json::Value| match v.get(&n) {
                    Some(value) => value.to_string(),
                    None => "not set".to_string(),
                };
                format!("{n}: {} here, {} there", text(&ours), text(&theirs))
            })
            .collect()
    }
}
