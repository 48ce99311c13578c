//! The three models as one type, and their forward pass in libtorch.

use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use super::Learner;
use crate::explain::Query;
use crate::model::{Cnn, Encoder, HeadLogits, Model, MyDeiT, Pool, ViTConfig, VisionTransformer, check_images};
use crate::{Error, Result};

/// Selects a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    Vit,
    Cnn,
    Deit,
}

/// One of the models, with its weights.
#[derive(Debug)]
pub enum Network {
    Vit(VisionTransformer),
    Cnn(Cnn),
    Deit(MyDeiT),
}

impl From<VisionTransformer> for Network {
    fn from(model: VisionTransformer) -> Self {
        Network::Vit(model)
    }
}

impl From<Cnn> for Network {
    fn from(model: Cnn) -> Self {
        Network::Cnn(model)
    }
}

impl From<MyDeiT> for Network {
    fn from(model: MyDeiT) -> Self {
        Network::Deit(model)
    }
}

/// Gives the model back, so that `Learner::new(learner)` is possible and a notebook cell can run twice.
impl From<Learner> for Network {
    fn from(learner: Learner) -> Self {
        learner.network
    }
}

impl Network {
    /// Number of tokens before the patches: 1 in a ViT, 2 in a DeiT, more in a model with registers.
    ///
    /// # Errors
    /// A CNN has no tokens.
    pub fn prefix_tokens(&self) -> Result<i64> {
        match self {
            Network::Vit(model) => Ok(model.config.structure.prefix_tokens),
            Network::Deit(_) => Ok(2),
            Network::Cnn(_) => Err(no_attention()),
        }
    }

    /// The names of the tokens before the patches, in their order.
    ///
    /// # Errors
    /// A CNN has no tokens.
    pub fn prefix_names(&self) -> Result<Vec<String>> {
        let prefix = self.prefix_tokens()?;
        let registers = match self {
            Network::Vit(model) => model.config.structure.registers,
            _ => 0,
        };
        let named = ["class", "distillation"].into_iter().take((prefix - registers) as usize).map(String::from);
        Ok(named.chain((1..=registers).map(|number| format!("register {number}"))).collect())
    }

    /// The kind of the model.
    pub fn kind(&self) -> ModelKind {
        match self {
            Network::Vit(_) => ModelKind::Vit,
            Network::Cnn(_) => ModelKind::Cnn,
            Network::Deit(_) => ModelKind::Deit,
        }
    }

    /// Number of heads: two in a DeiT.
    pub fn heads(&self) -> usize {
        if matches!(self, Network::Deit(_)) { 2 } else { 1 }
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        match self {
            Network::Vit(VisionTransformer { config, .. }) | Network::Deit(MyDeiT { config, .. }) => config.n_classes,
            Network::Cnn(model) => model.fc2.ws.size()[0],
        }
    }

    /// Sizes of a transformer; none of a CNN.
    fn sizes(&self) -> Option<&ViTConfig> {
        match self {
            Network::Vit(VisionTransformer { config, .. }) | Network::Deit(MyDeiT { config, .. }) => Some(config),
            Network::Cnn(_) => None,
        }
    }

    /// Number of tokens of an image, 0 in a CNN.
    pub(super) fn tokens(&self) -> i64 {
        let patches = self.sizes().map_or(0, |sizes| (sizes.image_size / sizes.patch_size).pow(2));
        patches + self.prefix_tokens().unwrap_or(0)
    }

    /// Images whose attention in all layers takes at most 256 MB, at least one: 1,118 of the homework's.
    pub(super) fn images_per_pass(&self) -> i64 {
        let Some(sizes) = self.sizes() else { return i64::MAX };
        ((1 << 26) / (sizes.n_layers * sizes.n_attention_heads * self.tokens().pow(2)).max(1)).max(1)
    }

    /// Channels and side of the images.
    pub fn image(&self) -> (i64, i64) {
        match self {
            Network::Vit(VisionTransformer { config, .. }) | Network::Deit(MyDeiT { config, .. }) => {
                (config.n_channels, config.image_size)
            }
            Network::Cnn(model) => model.image,
        }
    }

    /// Checks that the model has the token that a query names: registers are neither class nor distillation token.
    ///
    /// # Errors
    /// A query that the model doesn't have, or a CNN.
    pub fn check_query(&self, query: Query) -> Result<()> {
        let registers = match self {
            Network::Vit(model) => model.config.structure.registers,
            _ => 0,
        };
        let named = self.prefix_tokens()? - registers;
        match query {
            Query::Token(_) => Ok(()), // the number of tokens is checked where the row is read
            query => query.index(named, named).map(drop),
        }
    }

    /// Logits of each head, [B, classes], the class token's first, and the attention of each layer, [B, H, S, S] (none in a
    /// CNN). All are part of the graph, so that gradients with respect to them can be taken.
    ///
    /// # Errors
    /// When the images don't have the model's shape.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<(Vec<Tensor>, Vec<Tensor>)> {
        match self {
            Network::Vit(model) => model.forward_layers(images, train).map(|(logits, layers)| (vec![logits], layers)),
            Network::Cnn(model) => model.forward(images, train).map(|logits| (vec![logits], Vec::new())),
            Network::Deit(model) => {
                let (HeadLogits { class, dist }, layers) = model.forward_layers(images, train)?;
                Ok((vec![class, dist], layers))
            }
        }
    }

    /// Checks that images are [B, C, I, I] as the model needs them.
    pub(super) fn check_images(&self, images: &Tensor) -> Result<()> {
        let (channels, side) = self.image();
        check_images(images, channels, side)
    }

    /// Images to the tokens of a transformer at inference: [B, C, I, I] -> [B, S, E].
    pub(super) fn embed(&self, images: &Tensor) -> Tensor {
        match self {
            Network::Vit(model) => model.embedding.forward(images, false),
            Network::Deit(model) => model.embedding.forward(images, false),
            Network::Cnn(_) => unreachable!("a CNN has no tokens"),
        }
    }

    /// The blocks of a transformer; none of a CNN.
    pub(super) fn blocks(&self) -> &[Encoder] {
        match self {
            Network::Vit(model) => &model.encoder,
            Network::Deit(model) => &model.encoder,
            Network::Cnn(_) => &[],
        }
    }

    /// Number of tokens, counted from the first, that [`Network::classify`] needs: class and distillation token, or all
    /// of a model that averages the patches.
    pub(super) fn classified_tokens(&self) -> i64 {
        match self {
            Network::Vit(model) if model.config.structure.pool == Pool::Class => 1,
            Network::Deit(model) if model.config.structure.pool == Pool::Class => 2,
            _ => self.tokens(),
        }
    }

    /// Tokens of a transformer's last block to the logits of each head: [B, S, E] -> [B, classes], the class token's first.
    pub(super) fn classify(&self, tokens: Tensor) -> Vec<Tensor> {
        match self {
            Network::Vit(model) => vec![model.classify(tokens)],
            Network::Deit(model) => {
                let HeadLogits { class, dist } = model.classify(&tokens);
                vec![class, dist]
            }
            Network::Cnn(_) => unreachable!("a CNN has no tokens"),
        }
    }

    /// [`Network::forward`] at inference, with the attention as one tensor [B, L, H, S, S].
    ///
    /// # Errors
    /// A CNN, or images that don't have the model's shape.
    pub(super) fn attention(&self, images: &Tensor) -> Result<(Vec<Tensor>, Tensor)> {
        let sizes = self.sizes().ok_or_else(no_attention)?;
        self.check_images(images)?;
        let (batch, tokens) = (images.size()[0], self.tokens());
        let size = [batch, sizes.n_layers, sizes.n_attention_heads, tokens, tokens];
        no_grad(|| {
            let attention = Tensor::empty(size, (images.kind(), images.device()));
            let mut x = self.embed(images);
            for (layer, block) in self.blocks().iter().enumerate() {
                let (next, heads) = block.forward(&x, false);
                attention.select(1, layer as i64).copy_(&heads); // [B, H, S, S] -> [B, L, H, S, S]
                x = next;
            }
            Ok((self.classify(x), attention))
        })
    }
}

impl Model for Network {
    fn variables(&self) -> &VarStore {
        match self {
            Network::Vit(model) => model.variables(),
            Network::Cnn(model) => model.variables(),
            Network::Deit(model) => model.variables(),
        }
    }

    fn predict(&self, images: &Tensor) -> Result<Tensor> {
        self.check_images(images)?;
        no_grad(|| {
            if let Network::Cnn(model) = self {
                return model.predict(images);
            }
            // Unlike `forward`, drops the attention of each block.
            let tokens = self.blocks().iter().fold(self.embed(images), |x, block| block.forward(&x, false).0);
            Ok(mean(&self.classify(tokens)))
        })
    }
}

/// The logits of a single head, or the mean of a DeiT's two, [B, classes].
pub(super) fn mean(heads: &[Tensor]) -> Tensor {
    match heads {
        [class, dist] => (class + dist) / 2.0,
        _ => heads[0].shallow_clone(),
    }
}

pub(super) fn no_attention() -> Error {
    Error::argument("a CNN has no attention; give the weights of a ViT or DeiT")
}
