//! The homework's distilled student: a ViT with a distillation token (DeiT, arXiv 2012.12877, section 4).
//!
//! N is the number of patches of an image, S = N + 2 the number of tokens.

use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::vit::{forward_blocks, patch_projection};
use super::{Classifier, Encoder, Model, NORMAL, ViTConfig, check_images, initialised, layer_norm, linear};
use crate::{Config, Result, config::TokenInitialisation};

/// [`EmbedLayer`](super::EmbedLayer) with a second token: [class, distillation, patches], each with a position row.
#[derive(Debug)]
pub struct DistilledEmbedLayer {
    pub conv1: nn::Conv2D,
    /// [1, S, E]
    pub pos_embedding: Tensor,
    /// [1, 1, E]
    pub cls_token: Tensor,
    /// [1, 1, E]
    pub dist_token: Tensor,
    dropout: f64,
}

impl DistilledEmbedLayer {
    fn new(path: nn::Path, config: &ViTConfig) -> Self {
        let embed = config.embed_dim;
        DistilledEmbedLayer {
            conv1: patch_projection(&path / "conv1", config),
            pos_embedding: path.var("pos_embedding", &[1, config.position_rows, embed], NORMAL),
            cls_token: path.var("cls_token", &[1, 1, embed], NORMAL),
            dist_token: path.var("dist_token", &[1, 1, embed], NORMAL),
            dropout: config.dropout,
        }
    }

    /// [B, C, I, I] -> [B, S, E]
    pub fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let batch = images.size()[0];
        let patches = self.conv1.forward(images).flatten(2, 3).transpose(1, 2); // [B, C, I, I] -> [B, E, N] -> [B, N, E]
        let cls = self.cls_token.expand([batch, -1, -1], false); // [1, 1, E] -> [B, 1, E]
        let dist = self.dist_token.expand([batch, -1, -1], false); // [1, 1, E] -> [B, 1, E]
        let tokens = Tensor::cat(&[cls, dist, patches], 1) + &self.pos_embedding; // [B, N, E] -> [B, S, E]
        tokens.dropout(self.dropout, train)
    }
}

/// Logits of the two heads, [B, classes] each.
#[derive(Debug)]
pub struct HeadLogits {
    /// From the class token, trained on the true label.
    pub class: Tensor,
    /// From the distillation token, trained on the teacher's output.
    pub dist: Tensor,
}

impl HeadLogits {
    /// Mean of the logits [B, classes], as DeiT's repository computes it at inference.
    ///
    /// ```
    /// use vitlab::{model::HeadLogits, tch::Tensor};
    /// let heads = HeadLogits { class: Tensor::from_slice2(&[[2f32, 0.]]), dist: Tensor::from_slice2(&[[0f32, 1.]]) };
    /// assert_eq!(heads.average(), Tensor::from_slice2(&[[1f32, 0.5]]));
    /// let p = heads.average_softmax(); // (e²/(e²+1) + 1/(1+e)) / 2
    /// assert!((p.double_value(&[0, 0]) - 0.5748693).abs() < 1e-6);
    /// ```
    pub fn average(&self) -> Tensor {
        (&self.class + &self.dist) / 2.0
    }

    /// Mean of the two softmax outputs, as in DeiT's paper (section 4): probabilities [B, classes].
    pub fn average_softmax(&self) -> Tensor {
        (self.class.softmax(-1, Kind::Float) + self.dist.softmax(-1, Kind::Float)) / 2.0
    }
}

/// The ViT's classifier on the class token and one linear layer on the distillation token.
#[derive(Debug)]
pub struct DistilledClassifier {
    pub class: Classifier,
    pub fc_dist: nn::Linear,
}

impl DistilledClassifier {
    /// [B, S, E] -> two times [B, classes]
    pub fn forward(&self, tokens: &Tensor) -> HeadLogits {
        let dist = tokens.select(1, 1); // [B, S, E] -> [B, E]
        HeadLogits { class: self.class.forward(tokens), dist: self.fc_dist.forward(&dist) }
    }
}

/// [`DistilledEmbedLayer`], the ViT's encoder, and [`DistilledClassifier`].
///
/// ```
/// use vitlab::{Config, model::{Model, MyDeiT}, tch::{Device, Kind, Tensor}};
/// let model = MyDeiT::new(&Config::default(), Device::Cpu).unwrap();
/// // The ViT's 210,122, a token and its position (2 · 64), and a linear layer (64 · 10 + 10).
/// assert_eq!(model.parameters(), 210_122 + 128 + 650);
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let (heads, attention) = model.forward(&images, false, true).unwrap();
/// assert_eq!(heads.dist.size(), [2, 10]);
/// assert_eq!(attention.unwrap().size(), [2, 6, 4, 51, 51]);
/// assert_eq!(model.predict(&images).unwrap(), heads.average());
/// ```
#[derive(Debug)]
pub struct MyDeiT {
    pub config: ViTConfig,
    pub embedding: DistilledEmbedLayer,
    pub encoder: Vec<Encoder>,
    pub norm: nn::LayerNorm,
    pub classifier: DistilledClassifier,
    variables: VarStore,
}

impl MyDeiT {
    /// A student with random weights from libtorch's generator (see [`crate::data::seed_everything`]).
    ///
    /// # Errors
    /// A configuration that [`Config::check`] refuses.
    pub fn new(config: &Config, device: Device) -> Result<Self> {
        config.check()?;
        let sizes = ViTConfig { position_rows: config.n_patches() + 2, ..ViTConfig::from(config) };
        let model = initialised(MyDeiT::with_sizes(sizes, device), config.initialisation);
        model.embedding.initialise_tokens(config.token_initialisation);
        Ok(model)
    }

    /// [`MyDeiT::new`] for sizes read from a checkpoint file. They must fit each other as [`Config::check`] demands.
    pub fn with_sizes(config: ViTConfig, device: Device) -> Self {
        let variables = VarStore::new(device);
        let root = variables.root();
        MyDeiT {
            embedding: DistilledEmbedLayer::new(&root / "embedding", &config),
            encoder: (0..config.n_layers).map(|i| Encoder::new(&root / "encoder" / i, &config)).collect(),
            norm: layer_norm(&root / "norm", &config),
            classifier: DistilledClassifier {
                class: Classifier::new(&root / "classifier", &config),
                fc_dist: linear(&root / "classifier" / "fc_dist", config.embed_dim, config.n_classes),
            },
            variables,
            config,
        }
    }

    /// [B, C, I, I] -> the logits of both heads and, on request, the attention [B, L, H, S, S].
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    pub fn forward(
        &self,
        images: &Tensor,
        train: bool,
        return_attention: bool,
    ) -> Result<(HeadLogits, Option<Tensor>)> {
        let (heads, attention) = self.forward_tokens(images, train, return_attention)?;
        Ok((heads, return_attention.then(|| Tensor::stack(&attention, 1)))) // L × [B, H, S, S] -> [B, L, H, S, S]
    }

    /// [`MyDeiT::forward`] with the attention as one tensor [B, H, S, S] per layer, part of the graph.
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    pub fn forward_layers(&self, images: &Tensor, train: bool) -> Result<(HeadLogits, Vec<Tensor>)> {
        self.forward_tokens(images, train, true)
    }

    fn forward_tokens(
        &self,
        images: &Tensor,
        train: bool,
        return_attention: bool,
    ) -> Result<(HeadLogits, Vec<Tensor>)> {
        check_images(images, self.config.n_channels, self.config.image_size)?;
        let tokens = self.embedding.forward(images, train); // [B, C, I, I] -> [B, S, E]
        let (tokens, attention) = forward_blocks(&self.encoder, tokens, train, return_attention);
        Ok((self.classify(&tokens), attention)) // [B, S, E] -> two times [B, classes]
    }

    /// The last norm and the classifiers: tokens of the last block [B, S, E] -> two times [B, classes].
    pub(crate) fn classify(&self, tokens: &Tensor) -> HeadLogits {
        self.classifier.forward(&self.norm.forward(tokens))
    }
}

impl DistilledEmbedLayer {
    /// Changes the tokens, which are normal with standard deviation 0.02, to the initial values that `how` names.
    fn initialise_tokens(&self, how: TokenInitialisation) {
        let (mut class, mut dist) = (self.cls_token.detach(), self.dist_token.detach()); // they share the memory
        match how {
            TokenInitialisation::Normal => {}
            TokenInitialisation::Zeros => [&mut class, &mut dist].into_iter().for_each(|token| _ = token.zero_()),
            TokenInitialisation::Orthogonal => {
                let share = (&class * &dist).sum(Kind::Float) / class.square().sum(Kind::Float);
                let _ = dist.g_sub_(&(share * &class));
            }
        }
    }
}

impl Model for MyDeiT {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        no_grad(|| Ok(self.forward(images, false, false)?.0.average()))
    }
}
