//! The three models as one type, and their forward pass in libtorch.

use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use super::Learner;
use crate::explain::Query;
use crate::model::{Cnn, HeadLogits, Model, MyDeiT, VisionTransformer, check_images};
use crate::{Error, Result};

/// Selects a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

    /// Images whose attention in all layers takes at most 256 MB, at least one: 1,118 of the homework's.
    pub(super) fn images_per_pass(&self) -> i64 {
        let Ok(parts) = self.parts() else { return i64::MAX };
        let entries = parts.config.n_layers * parts.config.n_attention_heads * parts.token_count().pow(2);
        ((1 << 26) / entries.max(1)).max(1)
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

    /// [`Network::forward`] at inference, with the attention as one tensor [B, L, H, S, S].
    ///
    /// # Errors
    /// A CNN, or images that don't have the model's shape.
    pub(super) fn attention(&self, images: &Tensor) -> Result<(Vec<Tensor>, Tensor)> {
        let parts = self.parts()?;
        let tokens = parts.token_count();
        no_grad(|| {
            let mut x = parts.tokens(images)?;
            let size = [x.size()[0], parts.config.n_layers, parts.config.n_attention_heads, tokens, tokens];
            let attention = Tensor::empty(size, (x.kind(), x.device()));
            for (layer, block) in parts.blocks.iter().enumerate() {
                let (next, heads) = block.forward(&x, false, true);
                attention.select(1, layer as i64).copy_(&heads.expect("requested")); // [B, H, S, S] -> [B, L, H, S, S]
                x = next;
            }
            Ok((parts.heads(x), attention))
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
        no_grad(|| match (self, self.parts()) {
            (Network::Cnn(model), _) => model.predict(images),
            (_, parts) => {
                let parts = parts?;
                Ok(parts.logits(parts.through(parts.tokens(images)?, 0..parts.blocks.len())))
            }
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
