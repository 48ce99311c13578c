//! The homework's Vision Transformer (arXiv 2010.11929, section 3.1), which can return its attention.
//!
//! N is the number of patches of an image, S = N + 1 the number of tokens. Models from other libraries' checkpoints
//! differ from the homework's in their [`Structure`].

use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

use super::structure::{layer_scale, scaled};
use super::{Head, Model, NORMAL, Pool, Structure, check_images, initialised, layer_norm, linear};
use crate::{Config, Result};

/// Sizes of a Vision Transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct ViTConfig {
    pub image_size: i64,
    pub patch_size: i64,
    pub n_channels: i64,
    pub embed_dim: i64,
    pub n_layers: i64,
    pub n_attention_heads: i64,
    pub forward_mul: i64,
    pub n_classes: i64,
    pub dropout: f64,
    /// Rows of the position embedding: one per token in new models, one per patch in some checkpoint files.
    pub position_rows: i64,
    /// Parts that the homework's model doesn't have.
    pub structure: Structure,
}

impl ViTConfig {
    /// Width of the hidden layer of each block's MLP.
    pub fn hidden_dim(&self) -> i64 {
        self.structure.hidden_dim.unwrap_or(self.embed_dim * self.forward_mul)
    }

    /// Number of features that the head gets.
    pub fn features(&self) -> i64 {
        match self.structure.pool {
            Pool::ClassAndPatches => 2 * self.embed_dim,
            _ => self.embed_dim,
        }
    }
}

impl From<&Config> for ViTConfig {
    fn from(config: &Config) -> Self {
        ViTConfig {
            image_size: config.image_size,
            patch_size: config.patch_size,
            n_channels: config.n_channels,
            embed_dim: config.embed_dim,
            n_layers: config.n_layers,
            n_attention_heads: config.n_attention_heads,
            forward_mul: config.forward_mul,
            n_classes: config.n_classes,
            dropout: config.dropout,
            position_rows: config.n_patches() + 1,
            structure: Structure::default(),
        }
    }
}

/// Linear map of each P × P patch to an embedding, as a convolution whose stride is its kernel size (equation 1).
pub(super) fn patch_projection(path: nn::Path, config: &ViTConfig) -> nn::Conv2D {
    let patch = config.patch_size;
    let conv = nn::ConvConfig { stride: patch, ws_init: NORMAL, bs_init: nn::Init::Const(0.0), ..Default::default() };
    nn::conv2d(path, config.n_channels, config.embed_dim, patch, conv)
}

/// Images to tokens (equation 1): projects each patch, prepends the class token, adds the position embedding.
///
/// The checkpoint files of the homework's material notebook exist in two layouts, and both load: one position row per
/// patch, added before the class token is prepended ([1, 49, 64]), or one row per token, added afterwards ([1, 50, 64];
/// new models).
#[derive(Debug)]
pub struct EmbedLayer {
    pub conv1: nn::Conv2D,
    /// [1, N, E] or [1, S, E]
    pub pos_embedding: Tensor,
    /// [1, 1, E]; [1, 1 + R, E] in a model with R registers behind the class token
    pub cls_token: Tensor,
    dropout: f64,
}

impl EmbedLayer {
    fn new(path: nn::Path, config: &ViTConfig) -> Self {
        let embed = config.embed_dim;
        EmbedLayer {
            conv1: patch_projection(&path / "conv1", config),
            pos_embedding: path.var("pos_embedding", &[1, config.position_rows, embed], NORMAL),
            cls_token: path.var("cls_token", &[1, config.structure.prefix_tokens, embed], NORMAL),
            dropout: config.dropout,
        }
    }

    /// [B, C, I, I] -> [B, S, E], the class token first
    pub fn forward(&self, images: &Tensor, train: bool) -> Tensor {
        let batch = images.size()[0];
        let patches = self.conv1.forward(images).flatten(2, 3).transpose(1, 2); // [B, C, I, I] -> [B, E, N] -> [B, N, E]
        let cls = self.cls_token.expand([batch, -1, -1], false); // [1, 1, E] -> [B, 1, E]
        let tokens = if self.pos_embedding.size()[1] == patches.size()[1] {
            Tensor::cat(&[cls, patches + &self.pos_embedding], 1) // [B, N, E] -> [B, S, E]
        } else {
            Tensor::cat(&[cls, patches], 1) + &self.pos_embedding // [B, N, E] -> [B, S, E]
        };
        tokens.dropout(self.dropout, train)
    }
}

/// Multi-head self-attention (arXiv 1706.03762, section 3.2): softmax(Q Kᵀ / √d) V in each of H heads of width d = E/H,
/// then a projection.
#[derive(Debug)]
pub struct SelfAttention {
    pub queries: nn::Linear,
    pub keys: nn::Linear,
    pub values: nn::Linear,
    pub out_projection: nn::Linear,
    pub(crate) heads: i64,
}

impl SelfAttention {
    fn new(path: nn::Path, embed: i64, heads: i64) -> Self {
        SelfAttention {
            queries: linear(&path / "queries", embed, embed),
            keys: linear(&path / "keys", embed, embed),
            values: linear(&path / "values", embed, embed),
            out_projection: linear(&path / "out_projection", embed, embed),
            heads,
        }
    }

    /// [B, S, E] -> the mixed tokens [B, S, E] and, on request, the attention [B, H, S, S]; row i says how much token i
    /// attends to each token.
    pub fn forward(&self, x: &Tensor, return_attention: bool) -> (Tensor, Option<Tensor>) {
        let (batch, tokens, embed) = x.size3().expect("tokens are [B, S, E]");
        let head_dim = embed / self.heads;
        let split = |t: Tensor| t.view([batch, tokens, self.heads, head_dim]).transpose(1, 2); // [B, S, E] -> [B, H, S, E/H]
        let q = split(self.queries.forward(x));
        let k = split(self.keys.forward(x));
        let v = split(self.values.forward(x));
        let scores = q.matmul(&k.transpose(-2, -1)) / (head_dim as f64).sqrt(); // [B, H, S, S]
        let x_attention = scores.softmax(-1, Kind::Float);
        let mixed = x_attention.matmul(&v).transpose(1, 2).reshape([batch, tokens, embed]); // [B, H, S, E/H] -> [B, S, E]
        (self.out_projection.forward(&mixed), return_attention.then_some(x_attention))
    }
}

/// One block of the encoder (equations 2 and 3): x + attention(norm(x)), then x + mlp(norm(x)).
#[derive(Debug)]
pub struct Encoder {
    pub norm1: nn::LayerNorm,
    pub attention: SelfAttention,
    pub norm2: nn::LayerNorm,
    pub fc1: nn::Linear,
    pub fc2: nn::Linear,
    /// Layer scales [E] of attention and MLP, which the homework's blocks don't have.
    pub(crate) scales: [Option<Tensor>; 2],
    dropout: f64,
}

impl Encoder {
    pub(super) fn new(path: nn::Path, config: &ViTConfig) -> Self {
        let (embed, hidden) = (config.embed_dim, config.hidden_dim());
        Encoder {
            norm1: layer_norm(&path / "norm1", config),
            attention: SelfAttention::new(&path / "attention", embed, config.n_attention_heads),
            norm2: layer_norm(&path / "norm2", config),
            fc1: linear(&path / "fc1", embed, hidden),
            fc2: linear(&path / "fc2", hidden, embed),
            scales: ["scale1", "scale2"].map(|name| layer_scale(&path, name, config)),
            dropout: config.dropout,
        }
    }

    /// [B, S, E] -> [B, S, E] and, on request, the attention [B, H, S, S]
    pub fn forward(&self, x: &Tensor, train: bool, return_attention: bool) -> (Tensor, Option<Tensor>) {
        let (mixed, x_attention) = self.attention.forward(&self.norm1.forward(x), return_attention);
        let x = x + scaled(mixed, &self.scales[0]).dropout(self.dropout, train);
        let hidden = self.fc1.forward(&self.norm2.forward(&x)).gelu("none"); // [B, S, E] -> [B, S, forward_mul · E]
        let x = &x + scaled(self.fc2.forward(&hidden), &self.scales[1]).dropout(self.dropout, train); // -> [B, S, E]
        (x, x_attention)
    }
}

/// Applies the blocks in order: [B, S, E] -> [B, S, E] and, on request, the attention of each block, L × [B, H, S, S].
/// Without the request and without gradients, the matrix of a block is freed before the next block.
pub(super) fn forward_blocks(
    blocks: &[Encoder],
    mut x: Tensor,
    train: bool,
    return_attention: bool,
) -> (Tensor, Vec<Tensor>) {
    let mut attention = Vec::new();
    for block in blocks {
        let x_attention;
        (x, x_attention) = block.forward(&x, train, return_attention);
        attention.extend(x_attention);
    }
    (x, attention)
}

/// Class token to logits: two linear layers with tanh between them. Other models have one layer, none, or other tokens.
#[derive(Debug)]
pub struct Classifier {
    pub fc1: Option<nn::Linear>,
    pub fc2: Option<nn::Linear>,
    pub(crate) pool: Pool,
    prefix_tokens: i64,
}

impl Classifier {
    pub(super) fn new(path: nn::Path, config: &ViTConfig) -> Self {
        let Structure { head, pool, prefix_tokens, .. } = config.structure;
        let features = config.features();
        Classifier {
            fc1: (head == Head::TwoLayers).then(|| linear(&path / "fc1", features, features)),
            fc2: (head != Head::None).then(|| linear(&path / "fc2", features, config.n_classes)),
            pool,
            prefix_tokens,
        }
    }

    /// [B, S, E] -> [B, classes]
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        let cls = self.pool.features(tokens, self.prefix_tokens); // [B, S, E] -> [B, E]
        let hidden = match &self.fc1 {
            Some(fc1) => fc1.forward(&cls).tanh(), // [B, E] -> [B, E]
            None => cls,
        };
        match &self.fc2 {
            Some(fc2) => fc2.forward(&hidden), // [B, E] -> [B, classes]
            None => hidden,
        }
    }
}

/// Embedding of the patches, L encoder blocks, a last norm, a classifier on the class token.
///
/// ```
/// use vitlab::{Config, model::{Model, VisionTransformer}, tch::{Device, Kind, Tensor}};
/// let model = VisionTransformer::new(&Config::default(), Device::Cpu).unwrap();
/// assert_eq!(model.parameters(), 210_122);
/// let images = Tensor::zeros([2, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let (logits, attention) = model.forward(&images, false, true).unwrap();
/// assert_eq!(logits.size(), [2, 10]);
/// assert_eq!(attention.unwrap().size(), [2, 6, 4, 50, 50]);
/// assert!(model.forward(&images.squeeze_dim(1), false, false).is_err());
/// ```
#[derive(Debug)]
pub struct VisionTransformer {
    pub config: ViTConfig,
    pub embedding: EmbedLayer,
    pub encoder: Vec<Encoder>,
    pub norm: nn::LayerNorm,
    pub classifier: Classifier,
    variables: VarStore,
}

impl VisionTransformer {
    /// A model with random weights from libtorch's generator (see [`crate::data::seed_everything`]).
    ///
    /// # Errors
    /// A configuration that [`Config::check`] refuses.
    pub fn new(config: &Config, device: Device) -> Result<Self> {
        config.check()?;
        Ok(initialised(VisionTransformer::with_sizes(ViTConfig::from(config), device), config.initialisation))
    }

    /// [`VisionTransformer::new`] for sizes from a checkpoint file, which must pass [`Config::check`].
    pub fn with_sizes(config: ViTConfig, device: Device) -> Self {
        let variables = VarStore::new(device);
        let root = variables.root();
        VisionTransformer {
            embedding: EmbedLayer::new(&root / "embedding", &config),
            encoder: (0..config.n_layers).map(|i| Encoder::new(&root / "encoder" / i, &config)).collect(),
            norm: layer_norm(&root / "norm", &config),
            classifier: Classifier::new(&root / "classifier", &config),
            variables,
            config,
        }
    }

    /// [B, C, I, I] -> logits [B, classes] and, on request, the attention of all layers and heads [B, L, H, S, S].
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    pub fn forward(&self, images: &Tensor, train: bool, return_attention: bool) -> Result<(Tensor, Option<Tensor>)> {
        let (logits, attention) = self.forward_tokens(images, train, return_attention)?;
        Ok((logits, return_attention.then(|| Tensor::stack(&attention, 1)))) // L × [B, H, S, S] -> [B, L, H, S, S]
    }

    /// [`VisionTransformer::forward`] with the attention as one tensor [B, H, S, S] per layer, part of the graph.
    ///
    /// # Errors
    /// Images of another shape or type than the model's.
    pub fn forward_layers(&self, images: &Tensor, train: bool) -> Result<(Tensor, Vec<Tensor>)> {
        self.forward_tokens(images, train, true)
    }

    fn forward_tokens(&self, images: &Tensor, train: bool, return_attention: bool) -> Result<(Tensor, Vec<Tensor>)> {
        check_images(images, self.config.n_channels, self.config.image_size)?;
        let tokens = self.embedding.forward(images, train); // [B, C, I, I] -> [B, S, E]
        let (tokens, attention) = forward_blocks(&self.encoder, tokens, train, return_attention);
        Ok((self.classify(tokens), attention)) // [B, S, E] -> [B, classes]
    }

    /// The last norm and the classifier: tokens of the last block [B, S, E] -> logits [B, classes].
    pub(crate) fn classify(&self, tokens: Tensor) -> Tensor {
        let tokens = self.classifier.pool.before_norm(tokens, self.classifier.prefix_tokens);
        self.classifier.forward(&self.norm.forward(&tokens))
    }
}

impl Model for VisionTransformer {
    fn variables(&self) -> &VarStore {
        &self.variables
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        no_grad(|| Ok(self.forward(images, false, false)?.0))
    }
}
