//! The training step of [`crate::model::VisionTransformer`] and [`crate::model::MyDeiT`] written out by hand: the same
//! mathematics as the model's own forward pass and libtorch's gradients, several times as fast on a processor.
//!
//! libtorch runs each operation over the whole batch, so that every activation goes to the main memory and back, and it
//! runs matrix products of 50 × 16 numbers, which are too small for its libraries. Here a thread takes four images at a
//! time through the whole network and back while their activations stay in its cache ([`group`], [`block`]); the products
//! keep their sums in registers ([`matmul`]); the last block is computed for the tokens that the classifier reads; dropout
//! draws its bits sixteen at a time ([`random`]) and draws them again on the way back instead of keeping masks.
//!
//! Attention rollouts are taken on the way, while the attention is in the caches ([`rollout`]). Predictions and rollouts can be
//! computed in bfloat16 ([`bfloat`]).
//!
//! The teacher has its own ([`cnn`], [`convolution`], [`winograd`]).
//!
//! The models stay the definition: `tests/fused.rs` compares loss, logits and all gradients with theirs.

/// Compiles a body once for each level of the processor and calls the one that is chosen.
macro_rules! levels {
    ($pass:ident, $run:ident, $body:ident, ($($name:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $run(&self, $($name: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
            unsafe fn avx512(pass: &$pass, $($name: $type),*) $(-> $result)? {
                pass.$body($($name),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(pass: &$pass, $($name: $type),*) $(-> $result)? {
                pass.$body($($name),*)
            }
            // SAFETY: the level is one that the processor has, see `Instructions::detect` and `with_instructions`.
            match self.instructions {
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx512 => unsafe { avx512(self, $($name),*) },
                #[cfg(target_arch = "x86_64")]
                Instructions::Avx2 => unsafe { avx2(self, $($name),*) },
                _ => self.$body($($name),*),
            }
        }
    };
}
#[path = "../../../fused/src/aligned.rs"]
mod aligned;
#[path = "../../../fused/src/vit/bfloat/mod.rs"]
mod bfloat;
#[path = "../../../fused/src/vit/block.rs"]
mod block;
#[path = "../../../fused/src/cnn/pass.rs"]
mod cnn;
#[path = "../../../fused/src/cnn/layer.rs"]
mod convolution;
#[path = "../../../fused/src/vit/pass.rs"]
mod group;
#[path = "../../../fused/src/matmul.rs"]
mod matmul;
#[path = "../../../fused/src/vit/network.rs"]
mod network;
#[path = "../../../fused/src/random.rs"]
mod random;
#[path = "../../../fused/src/vit/rollout.rs"]
mod rollout;
#[path = "../../../fused/src/rows.rs"]
mod rows;
#[path = "../../../fused/src/cpu.rs"]
mod vector;
#[path = "../../../fused/src/cnn/winograd.rs"]
mod winograd;

use std::sync::Mutex;

use tch::{Device, Kind, Tensor};

pub use cnn::FusedCnn;
pub use vector::Instructions;

use crate::config::Precision;
use crate::device::on_one_thread;
use crate::distill::{HardDistillationLoss, KlReduction, SoftDistillationLoss};
use crate::explain::{Query, Rollout, not_attention};
use crate::model::{HeadLogits, Model, MyDeiT, VisionTransformer, check_images};
use crate::train::Batch;
use crate::{Error, Result};
use group::{GROUP, Pass, Target, Training, Work};
use network::Network;
use random::Random;
use rollout::Chosen;

/// Parts of a batch with a gradient of their own. Their number is fixed, so that the sum and thereby the training is the
/// same for any number of threads.
const PARTS: usize = 8;

/// A ViT or DeiT on the CPU whose training steps, predictions and rollouts are computed by this module.
///
/// It shares the model's parameters: what an optimizer or a weight file changes there counts here.
///
/// ```
/// use tch::{Device, Kind, Tensor, no_grad};
/// use vitlab::{Config, fused::Fused, model::{Model, VisionTransformer}};
/// let config = Config { dropout: 0.0, ..Config::default() };
/// let model = VisionTransformer::new(&config, Device::Cpu)?;
/// let mut fused = Fused::vit(&model)?;
/// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let labels = Tensor::from_slice(&[1i64, 2, 3]);
/// let batch = fused.cross_entropy(&images, &labels)?;
/// let logits = model.predict(&images)?;
/// assert!((&batch.logits - &logits).abs().max().double_value(&[]) < 1e-5);
/// assert!((batch.loss - logits.cross_entropy_for_logits(&labels)).abs().double_value(&[]) < 1e-5);
/// assert_eq!(batch.gradient.unwrap().size(), [model.parameters()]);
/// # Ok::<(), vitlab::Error>(())
/// ```
pub struct Fused {
    network: Network,
    parameters: Vec<Tensor>,
    instructions: Instructions,
    /// One per thread.
    work: Vec<Work>,
    /// [`PARTS`] × [parameters]
    gradients: Vec<Vec<f32>>,
}

impl Fused {
    /// # Errors
    /// A model on a GPU, or heads whose width is not a multiple of 16.
    pub fn vit(model: &VisionTransformer) -> Result<Self> {
        Network::vit(model, model.variables()).map(Fused::new)
    }

    /// # Errors
    /// As [`Fused::vit`].
    pub fn deit(model: &MyDeiT) -> Result<Self> {
        Network::deit(model, model.variables()).map(Fused::new)
    }

    fn new((network, parameters): (Network, Vec<Tensor>)) -> Self {
        let threads = tch::get_num_threads().max(1) as usize;
        Fused {
            instructions: Instructions::detect(),
            work: (0..threads.min(PARTS)).map(|_| Work::new(&network)).collect(),
            gradients: vec![Vec::new(); PARTS],
            network,
            parameters,
        }
    }

    /// Uses less than the processor has, for tests and comparisons.
    ///
    /// # Errors
    /// When the processor doesn't have them.
    pub fn with_instructions(mut self, instructions: Instructions) -> Result<Self> {
        self.instructions = instructions.check()?;
        Ok(self)
    }

    /// What the blocks' products are computed in for predictions and rollouts; training steps stay float32.
    ///
    /// In bfloat16, which has three digits instead of seven, they take less time. Softmax, norms, GELU, sums and the rollout
    /// stay float32.
    ///
    /// # Errors
    /// Bfloat16 on a processor without instructions for it, or with an embedding that is no multiple of 32.
    pub fn with_precision(mut self, precision: Precision) -> Result<Self> {
        let embed = self.network.sizes.embed;
        if precision == Precision::Bfloat16 {
            if self.instructions < Instructions::Avx512 || !bfloat::detect() {
                return Err(Error::argument(
                    "this processor doesn't multiply bfloat16 numbers itself (AVX512-BF16); predict in float32",
                ));
            }
            if !embed.is_multiple_of(32) {
                return Err(Error::argument(format!(
                    "bfloat16 needs an EMBED_DIM that is a multiple of 32, this is {embed}; predict in float32"
                )));
            }
        }
        self.network.set_precision(precision);
        Ok(self)
    }

    /// Logits at inference, as [`Model::predict`]: [B, C, I, I] -> [B, classes], for a DeiT the mean of both heads.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn predict(&mut self, images: &Tensor) -> Result<Tensor> {
        self.heads(images).map(mean)
    }

    /// Logits of each head at inference, the class token's first.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn heads(&mut self, images: &Tensor) -> Result<Vec<Tensor>> {
        let images = self.take(images)?;
        self.network.load(&self.parameters);
        let mut heads = self.logits(images.len() / self.numbers());
        let numbers = self.numbers() * GROUP;
        let pass = Pass { instructions: self.instructions, network: &self.network };
        let jobs = split(&mut heads, GROUP * self.network.sizes.classes);
        let jobs: Vec<_> = images.chunks(numbers).zip(jobs).collect();
        in_threads(&mut self.work, jobs, |work, (images, mut logits)| {
            pass.run_predict(work, images, &mut logits);
        });
        Ok(self.tensors(&heads))
    }

    /// The query's row of each image's rollout, float32 [B, S], as [`explain::rollout`](crate::explain::rollout) and
    /// [`explain::row`](crate::explain::row) give it for the attention of these images, and the logits of
    /// [`Fused::predict`]. Neither the attention nor the rollout's matrices are ever stored as a whole.
    ///
    /// # Errors
    /// When the images don't have the model's shape, those of [`explain::rollout`](crate::explain::rollout), and a query
    /// that the model doesn't have.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor, no_grad};
    /// use vitlab::explain::{Fusion, Query, Rollout, rollout, row};
    /// use vitlab::{Config, fused::Fused, model::VisionTransformer};
    /// let model = VisionTransformer::new(&Config::default(), Device::Cpu)?;
    /// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
    /// let options = Rollout { fusion: Fusion::Max, ..Rollout::default() };
    /// let (ours, _) = Fused::vit(&model)?.rollout(&images, &options, Query::Class)?;
    /// let attention = no_grad(|| model.forward_layers(&images, false))?.1;
    /// let matrix = rollout(&Tensor::stack(&attention, 1), &options)?;
    /// assert_eq!(ours.size(), [3, 50]);
    /// assert!((ours - row(&matrix, Query::Class, 1)?).abs().max().double_value(&[]) < 1e-6);
    /// # Ok::<(), vitlab::Error>(())
    /// ```
    pub fn rollout(&mut self, images: &Tensor, options: &Rollout, query: Query) -> Result<(Tensor, Tensor)> {
        let images = self.take(images)?;
        let (tokens, prefix) = (self.network.sizes.tokens, self.network.sizes.prefix);
        let chosen = Chosen {
            options,
            layers: options.chosen(self.network.blocks.len())?,
            query: query.row(tokens as i64, prefix as i64)? as usize,
        };
        self.network.load(&self.parameters);
        let numbers = self.numbers();
        let batch = images.len() / numbers;
        let mut heads = self.logits(batch);
        let mut rows = vec![0.0; batch * tokens];
        let pass = Pass { instructions: self.instructions, network: &self.network };
        let logits = split(&mut heads, GROUP * self.network.sizes.classes);
        let jobs: Vec<_> = images.chunks(numbers * GROUP).zip(logits).zip(rows.chunks_mut(tokens * GROUP)).collect();
        in_threads(&mut self.work, jobs, |work, ((images, mut logits), rows)| {
            pass.run_explain(work, images, &chosen, &mut logits, rows);
        });
        // What isn't a number in a layer's attention is none in any row of the product either, unless only a head of the last layer
        // had it and another one was larger; then the scores tell.
        let all = heads.iter().flatten().chain(&rows);
        if !all.into_iter().all(|x| x.is_finite()) {
            return Err(not_attention());
        }
        let rows = Tensor::from_slice(&rows).view([-1, tokens as i64]);
        Ok((rows, mean(self.tensors(&heads))))
    }

    /// What a training step on `batch` images multiplies by at each place of dropout, given the number that it drew from
    /// libtorch's generator (`randint` below i64::MAX): after the embedding [B, S, E], then in each block after the
    /// attention and after the MLP, [B, S, E] or in the last block [B, prefix, E].
    pub fn dropout_factors(&self, seed: i64, batch: usize) -> Vec<Tensor> {
        let sizes = &self.network.sizes;
        let places = 1 + 2 * self.network.blocks.len();
        let factors = |place: usize| {
            let rows = if place + 2 < places { sizes.tokens } else { sizes.prefix };
            let mut factors = vec![1.0; batch * rows * sizes.embed];
            for (i, factors) in factors.chunks_mut(GROUP * rows * sizes.embed).enumerate() {
                let seed = (seed as u64).wrapping_add((i * GROUP) as u64);
                Random::new(seed, place as u64).dropout(factors, sizes.dropout);
            }
            Tensor::from_slice(&factors).view([batch as i64, rows as i64, sizes.embed as i64])
        };
        (0..places).map(factors).collect()
    }

    /// Loss, logits and gradient of a training batch with labels [B], dropout drawn from libtorch's generator.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn cross_entropy(&mut self, images: &Tensor, labels: &Tensor) -> Result<Batch> {
        let target = self.target(&self.one_hot(labels, 0.0), 1.0, 1.0);
        let (loss, mut heads, gradient) = self.train(images, &[target])?;
        Ok(Batch { loss: Tensor::from(loss as f32), logits: heads.remove(0), gradient: Some(gradient) })
    }

    /// The same with [`HardDistillationLoss`] and the teacher's logits [B, classes]; the logits returned are the heads' mean.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn hard_distillation(
        &mut self,
        loss: &HardDistillationLoss,
        images: &Tensor,
        teacher: &Tensor,
        labels: &Tensor,
    ) -> Result<Batch> {
        let targets = [
            self.target(&self.one_hot(labels, loss.label_smoothing), 0.5, 1.0),
            self.target(&self.one_hot(&teacher.argmax(-1, false), 0.0), 0.5, 1.0),
        ];
        self.distil(images, &targets, 0.0)
    }

    /// The same with [`SoftDistillationLoss`].
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn soft_distillation(
        &mut self,
        loss: &SoftDistillationLoss,
        images: &Tensor,
        teacher: &Tensor,
        labels: &Tensor,
    ) -> Result<Batch> {
        let share = match loss.reduction {
            KlReduction::BatchMean => 1.0,
            KlReduction::ElementMean => 1.0 / self.network.sizes.classes as f64,
        };
        let weight = loss.lambda * share;
        let followed = (teacher / loss.tau).softmax(-1, Kind::Float);
        let targets = [
            self.target(&self.one_hot(labels, loss.label_smoothing), 1.0 - loss.lambda, 1.0),
            self.target(&followed, weight, loss.tau),
        ];
        // KL = cross-entropy − entropy of what is followed
        let entropy = -(&followed * followed.clamp_min(1e-30).log()).sum(Kind::Double) / followed.size()[0] as f64;
        self.distil(images, &targets, weight * loss.tau * loss.tau * entropy.double_value(&[]))
    }

    fn distil(&mut self, images: &Tensor, targets: &[Target], less: f64) -> Result<Batch> {
        if self.network.sizes.prefix != 2 {
            return Err(Error::argument("distillation needs a MyDeiT; this network has one head"));
        }
        let (loss, mut heads, gradient) = self.train(images, targets)?;
        let dist = heads.remove(1);
        let logits = HeadLogits { class: heads.remove(0), dist }.average();
        Ok(Batch { loss: Tensor::from((loss - less) as f32), logits, gradient: Some(gradient) })
    }

    fn one_hot(&self, labels: &Tensor, smoothing: f64) -> Tensor {
        one_hot(labels, self.network.sizes.classes, smoothing)
    }

    fn target(&self, probabilities: &Tensor, weight: f64, temperature: f64) -> Target {
        Target { probabilities: numbers(probabilities), weight: weight as f32, temperature: temperature as f32 }
    }

    /// Mean loss, logits of each head, gradient [parameters].
    fn train(&mut self, images: &Tensor, targets: &[Target]) -> Result<(f64, Vec<Tensor>, Tensor)> {
        let images = self.take(images)?;
        let seed = draw_seed(self.network.sizes.dropout);
        self.network.load(&self.parameters);
        let batch = images.len() / self.numbers();
        let mut heads = self.logits(batch);
        let part = batch.div_ceil(PARTS).next_multiple_of(GROUP);
        let numbers = self.numbers() * part;
        let pass = Pass { instructions: self.instructions, network: &self.network };
        let training = Training { targets, seed, batch };
        let mut losses = vec![0.0; batch.div_ceil(part)];
        let logits = split(&mut heads, part * self.network.sizes.classes);
        let gradients = self.gradients.iter_mut().zip(&mut losses);
        let jobs: Vec<_> = images.chunks(numbers).zip(logits).zip(gradients).enumerate().collect();
        in_threads(&mut self.work, jobs, |work, (i, ((images, mut logits), (gradient, loss)))| {
            gradient.clear();
            gradient.resize(pass.network.flat.len(), 0.0);
            *loss = pass.run_train(work, images, i * part, &training, &mut logits, gradient);
        });
        let heads = self.tensors(&heads);
        let (gradient, others) = self.gradients.split_first_mut().expect("a batch has parts");
        for other in &others[..losses.len() - 1] {
            rows::add(gradient, other);
        }
        Ok((losses.iter().sum(), heads, tensor(gradient)))
    }

    fn take(&self, images: &Tensor) -> Result<Vec<f32>> {
        let sizes = &self.network.sizes;
        check_images(images, sizes.channels as i64, sizes.side as i64)?;
        Ok(numbers(images))
    }

    /// Room for the logits of each head.
    fn logits(&self, batch: usize) -> Vec<Vec<f32>> {
        let sizes = &self.network.sizes;
        vec![vec![0.0; batch * sizes.classes]; sizes.prefix]
    }

    /// Numbers of an image.
    fn numbers(&self) -> usize {
        self.network.sizes.numbers()
    }

    fn tensors(&self, heads: &[Vec<f32>]) -> Vec<Tensor> {
        let classes = self.network.sizes.classes as i64;
        let tensor = |head: &Vec<f32>| Tensor::from_slice(head).view([-1, classes]);
        heads.iter().map(tensor).collect()
    }
}

/// Of the heads' logits.
fn mean(mut heads: Vec<Tensor>) -> Tensor {
    match heads.pop() {
        Some(dist) if !heads.is_empty() => (&heads[0] + dist) / 2.0,
        class => class.expect("a network has a head"),
    }
}

/// [B] labels -> [B, classes], `smoothing` of each spread over all classes
fn one_hot(labels: &Tensor, classes: usize, smoothing: f64) -> Tensor {
    labels.one_hot(classes as i64).to_kind(Kind::Float) * (1.0 - smoothing) + smoothing / classes as f64
}

/// What a step's dropout is drawn from.
fn draw_seed(dropout: f64) -> u64 {
    match dropout {
        0.0 => 0,
        _ => Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]) as u64,
    }
}

/// All numbers of a tensor in the order of its axes.
fn numbers(tensor: &Tensor) -> Vec<f32> {
    let mut numbers = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut numbers, tensor.numel());
    numbers
}

/// Many numbers as a tensor. libtorch fills it with zeros first, and would begin its threads for that.
fn tensor(numbers: &[f32]) -> Tensor {
    on_one_thread(|| Tensor::from_slice(numbers))
}

/// The parameters' numbers, one after the other.
fn flatten(parameters: &[Tensor], flat: &mut [f32]) {
    let mut start = 0;
    for parameter in parameters {
        let length = parameter.numel();
        parameter.copy_data(&mut flat[start..start + length], length);
        start += length;
    }
}

/// Heads × [B · classes] -> parts × heads × [part · classes]
fn split(heads: &mut [Vec<f32>], part: usize) -> Vec<Vec<&mut [f32]>> {
    let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
    for head in heads {
        for (i, part) in head.chunks_mut(part).enumerate() {
            if i == parts.len() {
                parts.push(Vec::new());
            }
            parts[i].push(part);
        }
    }
    parts
}

/// Does the jobs in as many threads as there is work memory; whoever is free takes the next.
fn in_threads<W: Send, J: Send>(work: &mut [W], jobs: Vec<J>, run: impl Fn(&mut W, J) + Sync) {
    let threads = jobs.len().max(1);
    let jobs = Mutex::new(jobs.into_iter());
    let take = || jobs.lock().expect("no thread panics while it takes a job").next();
    std::thread::scope(|scope| {
        let mut others = work.iter_mut().take(threads);
        let own = others.next().expect("there is at least one thread");
        for work in others {
            scope.spawn(|| {
                while let Some(job) = take() {
                    run(work, job);
                }
            });
        }
        while let Some(job) = take() {
            run(own, job);
        }
    });
}

impl Pass<'_> {
    levels!(Pass, run_predict, predict, (work: &mut Work, images: &[f32], logits: &mut [&mut [f32]]));
    levels!(
        Pass,
        run_explain,
        explain,
        (
            work: &mut Work,
            images: &[f32],
            chosen: &Chosen,
            logits: &mut [&mut [f32]],
            rows: &mut [f32]
        )
    );
    levels!(
        Pass,
        run_train,
        train,
        (
            work: &mut Work,
            images: &[f32],
            first: usize,
            training: &Training,
            logits: &mut [&mut [f32]],
            gradient: &mut [f32]
        ) -> f64
    );
}
