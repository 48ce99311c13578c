//! One handle for a model with weights: it trains, predicts and explains by the fastest way that this machine has.

mod choose;
mod drawing;
mod explanation;
pub mod fused;
mod heads;
mod method;
mod network;
mod pictures;
mod recipe;
mod sanity;
mod streaming;
mod tokens;

use std::cell::RefCell;
use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, Tensor, no_grad};

use crate::Config;
use crate::checkpoint::layouts::{Architecture, understand};
use crate::checkpoint::{Checkpoint, assign};
use crate::config::Precision;
use crate::data::Preprocessing;
use crate::distill::{HardDistillationLoss, SoftDistillationLoss, SoftTarget};
use crate::error::{Error, Result, ensure};
use crate::explain::{Query, Rollout};
use crate::model::{Cnn, HeadLogits, Model, MyDeiT, VisionTransformer};
use crate::train::Batch;
pub use choose::{Chosen, RolloutGrid};
pub use drawing::Drawing;
pub use explanation::{Explanation, pipelined};
use fused::{Fused, FusedCnn};
pub use heads::HeadMaps;
pub use method::Method;
use network::mean;
pub use network::{ModelKind, Network};
pub use recipe::Recipe;
pub use sanity::{Agreement, Sanity};

/// A model with its weights. Only this type chooses between the CPU engine and libtorch.
///
/// The hand-written engine computes on the CPU, several times as fast as libtorch. libtorch computes on a GPU and for
/// sizes that the engine lacks ([`Learner::is_fused`]). Both read the model's variables: changes by an optimizer or
/// [`assign`] take effect at once. Creating a learner draws no random numbers.
///
/// ```
/// use vitlab::{Config, learner::{Learner, Loss}, model::{Model, VisionTransformer}, tch::{Device, Kind, Tensor}};
/// let config = Config { dropout: 0.0, ..Config::default() };
/// let learner = Learner::new(VisionTransformer::new(&config, Device::Cpu)?);
/// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let (logits, attention) = learner.attention(&images)?;
/// assert_eq!(attention.size(), [3, 6, 4, 50, 50]);
/// assert!((learner.predict(&images)? - &logits).abs().max().double_value(&[]) < 1e-5);
/// let labels = Tensor::from_slice(&[1i64, 2, 3]);
/// let batch = learner.step(&images, &labels, Loss::CrossEntropy)?;
/// assert!((batch.loss - logits.cross_entropy_for_logits(&labels)).abs().double_value(&[]) < 1e-5);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub struct Learner {
    network: Network,
    /// `None` if libtorch computes. In a RefCell because each call changes the workspace.
    engine: Option<RefCell<Engine>>,
    preprocessing: Preprocessing,
    classes: Option<Vec<String>>,
}

/// Options for a checkpoint that doesn't describe itself completely.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The dictionary of tensors, in a file that holds several.
    pub entry: Option<String>,
    /// The number of attention heads, which the shapes of the tensors don't tell.
    pub heads: Option<i64>,
    /// Side of the images, if it isn't the one that the model was trained for.
    pub image_size: Option<i64>,
    /// Omits the notes on standard error about what was assumed, for a caller that says it.
    pub silent: bool,
}

/// The loss that a training step minimises.
#[derive(Clone, Copy, Debug)]
pub enum Loss<'a> {
    /// Cross-entropy with the labels, for a ViT or CNN.
    CrossEntropy,
    /// Hard distillation of a DeiT; `teacher` holds the teacher's logits [B, classes].
    Hard { loss: HardDistillationLoss, teacher: &'a Tensor },
    /// Soft distillation of a DeiT; `teacher` holds the teacher's logits [B, classes].
    Soft { loss: SoftDistillationLoss, teacher: &'a Tensor },
    /// A target distribution for each head, for any model.
    Targets(&'a [SoftTarget]),
}

impl Learner {
    /// Takes a [`VisionTransformer`], [`MyDeiT`] or [`Cnn`].
    pub fn new(model: impl Into<Network>) -> Self {
        let network = model.into();
        Learner { engine: Engine::new(&network).ok().map(RefCell::new), ..Learner::plain(network) }
    }

    /// Takes a model, and uses libtorch's forward pass only.
    pub fn plain(model: impl Into<Network>) -> Self {
        Learner { network: model.into(), engine: None, preprocessing: Preprocessing::fashion_mnist(), classes: None }
    }

    /// A model with fresh weights, drawn from libtorch's generator, that is trained in [`Config::precision`].
    ///
    /// # Errors
    /// A configuration that can't work, or a precision that [`Learner::with_training_precision`] refuses.
    pub fn create(kind: ModelKind, config: &Config, device: Device) -> Result<Self> {
        let learner = match kind {
            ModelKind::Vit => Learner::new(VisionTransformer::new(config, device)?),
            ModelKind::Cnn => return Ok(Learner::new(Cnn::new(config, device)?)),
            ModelKind::Deit => Learner::new(MyDeiT::new(config, device)?),
        };
        learner.with_training_precision(config.precision)
    }

    /// Reads a model from a file of any format and layout that [`crate::checkpoint`] knows. Kind and sizes come from
    /// the file, the number of heads from what stands beside the tensors. What is assumed is said on stderr.
    ///
    /// # Errors
    /// A file that can't be read or is damaged, or tensors that don't make up a model.
    pub fn read(path: impl AsRef<Path>, device: Device) -> Result<Self> {
        Learner::open(path, &ReadOptions::default(), device)
    }

    /// [`Learner::read`] with options, also for a folder or a model of the hub.
    ///
    /// # Errors
    /// Fails as [`Learner::read`] does.
    pub fn open(location: impl AsRef<Path>, options: &ReadOptions, device: Device) -> Result<Self> {
        Learner::from_checkpoint(Checkpoint::open(location, options.entry.as_deref())?, options, device)
    }

    /// [`Learner::open`] for a checkpoint that was read before.
    ///
    /// # Errors
    /// Tensors that don't make up a model.
    pub fn from_checkpoint(checkpoint: Checkpoint, options: &ReadOptions, device: Device) -> Result<Self> {
        let path = checkpoint.path.clone();
        let understood = understand(checkpoint, options.heads, options.image_size)?;
        if !options.silent {
            understood.notes.iter().for_each(|note| eprintln!("note: {}: {note}", path.display()));
        }
        let network: Network = match understood.architecture {
            Architecture::Vit(sizes) => VisionTransformer::with_sizes(sizes, device).into(),
            Architecture::Deit(sizes) => MyDeiT::with_sizes(sizes, device).into(),
            Architecture::Cnn => Cnn::new(&Config::default(), device)?.into(),
        };
        assign(network.variables(), &understood.tensors, &path)?;
        let (preprocessing, classes) = (understood.preprocessing, understood.classes);
        Ok(Learner { preprocessing, classes, ..Learner::new(network) })
    }

    /// How pictures become the model's input.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The names of the classes, if the checkpoint has them.
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// Computes the products of predictions and rollouts in `precision`. Attention stays float32, and training steps have a
    /// precision of their own.
    ///
    /// # Errors
    /// Bfloat16 for a CNN, on a GPU, for sizes that the engine doesn't have, or on a processor without AVX512-BF16.
    pub fn with_precision(self, precision: Precision) -> Result<Self> {
        self.with_engine_precision(precision, |fused| fused.with_precision(precision))
    }

    /// Computes the products in the blocks of a training step in `precision`. Parameters, norms, softmax, sums, loss and
    /// gradients stay float32.
    ///
    /// # Errors
    /// As [`Learner::with_precision`]. A CNN has its precision from [`Config::precision`] alone.
    pub fn with_training_precision(self, precision: Precision) -> Result<Self> {
        self.with_engine_precision(precision, |fused| fused.with_training_precision(precision))
    }

    fn with_engine_precision(
        mut self,
        precision: Precision,
        choose: impl FnOnce(Fused) -> Result<Fused>,
    ) -> Result<Self> {
        self.engine = match self.engine.map(RefCell::into_inner) {
            Some(Engine::Transformer(fused)) => Some(Engine::Transformer(choose(fused)?)),
            engine => {
                ensure!(
                    precision == Precision::Float32,
                    "bfloat16 is for a ViT or a DeiT on the CPU whose heads have a multiple of 16 numbers; choose float32"
                );
                engine
            }
        }
        .map(RefCell::new);
        Ok(self)
    }

    /// Whether the CPU engine computes.
    pub fn is_fused(&self) -> bool {
        self.engine.is_some()
    }

    /// The wrapped model.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The model as a ViT; any other is an error.
    pub fn vit(&self) -> Result<&VisionTransformer> {
        match &self.network {
            Network::Vit(model) => Ok(model),
            _ => Err(Error::argument("this model is not a ViT; give a learner of a VisionTransformer")),
        }
    }

    /// The model as a DeiT; any other is an error.
    pub fn deit(&self) -> Result<&MyDeiT> {
        match &self.network {
            Network::Deit(model) => Ok(model),
            _ => Err(Error::argument("this model is not a DeiT; give a learner of a MyDeiT")),
        }
    }

    /// Logits of each head at inference, [B, classes]: one of a ViT or CNN; class and distillation token's of a DeiT.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn heads(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        match &self.engine {
            Some(engine) => engine.borrow_mut().heads(images),
            None => no_grad(|| Ok(self.network.forward(images, false)?.0)),
        }
    }

    /// [`Model::predict`]'s logits and the attention of all layers [B, L, H, S, S], always by libtorch in float32.
    ///
    /// # Errors
    /// A CNN, or images that don't have the model's shape.
    pub fn attention(&self, images: &Tensor) -> Result<(Tensor, Tensor)> {
        let (heads, attention) = self.network.attention(images)?;
        Ok((mean(&heads), attention))
    }

    /// The query's row of each image's attention rollout, [B, S], and the logits as [`Model::predict`] gives them.
    ///
    /// # Errors
    /// Fails as [`explain::rollout`](crate::explain::rollout) does, for a CNN, and for images or a query that don't fit the model.
    pub fn rollout(&self, images: &Tensor, options: &Rollout, query: Query) -> Result<(Tensor, Tensor)> {
        if let Some(engine) = &self.engine
            && let Engine::Transformer(fused) = &mut *engine.borrow_mut()
        {
            return fused.rollout(images, options, query);
        }
        streaming::rollout(&self.network, images, options, query)
    }

    /// Loss, logits `[B, classes]` and, from the engine, gradient of a training batch with labels `[B]`. Draws the dropout.
    ///
    /// # Errors
    /// A DeiT without a teacher or another model with one; images, labels or teacher's logits of another shape.
    pub fn step(&self, images: &Tensor, labels: &Tensor, loss: Loss) -> Result<Batch> {
        self.check(images, labels, loss)?;
        if let Some(engine) = &self.engine {
            return engine.borrow_mut().step(images, labels, loss);
        }
        let (heads, _) = self.network.forward(images, true)?;
        let logits = mean(&heads);
        if let Loss::Targets(targets) = loss {
            let losses: Vec<Tensor> = targets.iter().zip(&heads).map(|(target, logits)| target.loss(logits)).collect();
            return Ok((Tensor::stack(&losses, 0).sum(None), logits).into());
        }
        let heads = <[Tensor; 2]>::try_from(heads).map(|[class, dist]| HeadLogits { class, dist });
        let loss = match (loss, heads) {
            (Loss::Hard { loss, teacher }, Ok(heads)) => loss.forward(&heads, teacher, labels),
            (Loss::Soft { loss, teacher }, Ok(heads)) => loss.forward(&heads, teacher, labels),
            _ => logits.cross_entropy_for_logits(labels),
        };
        Ok((loss, logits).into())
    }

    fn check(&self, images: &Tensor, labels: &Tensor, loss: Loss) -> Result<()> {
        let (batch, size, kind) = (images.size().first().copied().unwrap_or(0), labels.size(), labels.kind());
        let fits = size == [batch] && kind == tch::Kind::Int64;
        ensure!(fits, "the labels are {size:?} of {kind:?}; give one Int64 per image, {batch}");
        if let Loss::Targets(targets) = loss {
            return self.check_targets(targets, batch);
        }
        let (Loss::Hard { teacher, .. } | Loss::Soft { teacher, .. }) = loss else {
            let taught = matches!(self.network, Network::Deit(_));
            ensure!(!taught, "a MyDeiT learns from a teacher; give Loss::Hard or Loss::Soft with the teacher's logits");
            return Ok(());
        };
        let Network::Deit(model) = &self.network else {
            let problem = "only a MyDeiT learns from a teacher; give Loss::CrossEntropy to a ViT or CNN";
            return Err(Error::argument(problem));
        };
        let (size, needed) = (teacher.size(), [batch, model.config.n_classes]);
        ensure!(size == needed, "the teacher's logits are {size:?}, this batch needs {needed:?}");
        Ok(())
    }

    fn check_targets(&self, targets: &[SoftTarget], batch: i64) -> Result<()> {
        let (heads, classes) = (self.network.heads(), self.network.classes());
        let fits = targets.iter().all(|target| target.probabilities.size() == [batch, classes]);
        ensure!(
            targets.len() == heads && fits,
            "give a target [{batch}, {classes}] for each of the model's {heads} heads"
        );
        Ok(())
    }
}

impl Model for Learner {
    fn variables(&self) -> &VarStore {
        self.network.variables()
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        match &self.engine {
            Some(engine) => Ok(mean(&engine.borrow_mut().heads(images)?)),
            None => self.network.predict(images),
        }
    }
}

/// The CPU engine of either model family.
enum Engine {
    Transformer(Fused),
    Cnn(FusedCnn),
}

impl Engine {
    /// An error for a model on a GPU, or for sizes or a precision that the engine doesn't have.
    fn new(network: &Network) -> Result<Self> {
        match network {
            Network::Vit(model) => Fused::vit(model).map(Engine::Transformer),
            Network::Deit(model) => Fused::deit(model).map(Engine::Transformer),
            Network::Cnn(model) => FusedCnn::new(model).map(Engine::Cnn),
        }
    }

    fn heads(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        match self {
            Engine::Transformer(fused) => fused.heads(images),
            Engine::Cnn(fused) => Ok(vec![fused.predict(images)?]),
        }
    }

    fn step(&mut self, images: &Tensor, labels: &Tensor, loss: Loss) -> Result<Batch> {
        match self {
            Engine::Cnn(fused) => match loss {
                Loss::Targets(targets) => fused.target_step(images, &targets[0]),
                _ => fused.cross_entropy(images, labels),
            },
            Engine::Transformer(fused) => match loss {
                Loss::Targets(targets) => fused.target_step(images, targets),
                Loss::CrossEntropy => fused.cross_entropy(images, labels),
                Loss::Hard { loss, teacher } => fused.hard_distillation(&loss, images, teacher, labels),
                Loss::Soft { loss, teacher } => fused.soft_distillation(&loss, images, teacher, labels),
            },
        }
    }
}
