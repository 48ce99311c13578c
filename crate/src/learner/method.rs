//! The methods that explain a prediction, each as one row of values over the tokens.

use tch::nn::Module;
use tch::{Tensor, no_grad, with_grad};

use super::network::{mean, no_attention};
use super::{Learner, Network};
use crate::error::{Result, ensure};
use crate::explain::{self, GAMMA, Query, Rollout, Target, attn_lrp, grad_cam, gradient_attention, relevance, rollout};
use crate::model::{Parts, scaled};

/// A method that gives each token of an image a value. The class is the one whose score is explained, or `None` for the
/// predicted class of each image; for a model without a class head, `None` explains [`Target::Features`].
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// The query's row of the attention rollout, see [`rollout`]. Doesn't see the values, the projections, the MLPs and
    /// the norms.
    Rollout(Rollout),
    /// The query's row of one layer's attention (the last layer's if `None`), of one head or as the mean of the heads, as
    /// DINO's `visualize_attention.py` shows it. Doesn't see the other layers: the tokens that are attended to are mixed
    /// already.
    Attention { layer: Option<usize>, head: Option<usize> },
    /// The rollout of the attention weighted by its gradient, see [`gradient_attention`]. Doesn't see where attention
    /// lowers the score.
    GradientRollout(Rollout, Option<i64>),
    /// See [`relevance`]. Doesn't see where attention lowers the score.
    Relevance(Option<i64>),
    /// See [`grad_cam`], at the output of the last block's first norm. Doesn't see the earlier blocks. Has no query.
    GradCam(Option<i64>),
    /// Relevance of either sign, see [`attn_lrp`]. Doesn't see a change of attention beyond first order. Has no query.
    AttnLrp(Option<i64>),
}

impl Method {
    /// Whether the map depends on a query token.
    pub fn has_query(&self) -> bool {
        !matches!(self, Method::GradCam(_) | Method::AttnLrp(_))
    }

    /// The class whose score is explained, if one is chosen.
    pub fn class(&self) -> Option<i64> {
        match self {
            Method::Rollout(_) | Method::Attention { .. } => None,
            Method::GradientRollout(_, class) => *class,
            Method::Relevance(class) | Method::GradCam(class) | Method::AttnLrp(class) => *class,
        }
    }

    /// Whether the method explains a score, and so needs gradients.
    pub fn explains_score(&self) -> bool {
        !matches!(self, Method::Rollout(_) | Method::Attention { .. })
    }
}

impl Network {
    /// The parts of a ViT or DeiT.
    ///
    /// # Errors
    /// A CNN has no tokens.
    pub fn parts(&self) -> Result<Parts<'_>> {
        match self {
            Network::Vit(model) => Ok(model.into()),
            Network::Deit(model) => Ok(model.into()),
            Network::Cnn(_) => Err(no_attention()),
        }
    }
}

impl Learner {
    /// Whether the model has logits of classes. The logits of a model without a class head are its features.
    pub fn has_class_head(&self) -> bool {
        self.network.parts().is_ok_and(|parts| parts.has_class_head()) || matches!(self.network, Network::Cnn(_))
    }

    /// The value of each token, [B, S], and the logits [B, classes].
    pub(super) fn explained_rows(&self, images: &Tensor, method: &Method, query: Query) -> Result<(Tensor, Tensor)> {
        let parts = self.network.parts()?;
        match method {
            Method::Rollout(options) => self.rollout(images, options, query),
            Method::Attention { layer, head } => {
                let (attention, logits) = self.attention_of_layer(images, *layer)?; // [B, H, S, S]
                let matrix = match *head {
                    Some(head) => {
                        let heads = attention.size()[1];
                        let last = heads - 1;
                        ensure!(head < heads as usize, "head {head}: this model has {heads} heads, 0 to {last}");
                        attention.select(1, head as i64) // [B, H, S, S] -> [B, S, S]
                    }
                    None => attention.mean_dim([1i64].as_slice(), false, None), // [B, H, S, S] -> [B, S, S]
                };
                Ok((explain::row(&matrix, query, parts.prefix_tokens())?, logits))
            }
            Method::GradientRollout(options, class) => {
                let (weighted, logits) = self.weighted_attention(images, *class)?;
                Ok((explain::row(&rollout(&weighted, options)?, query, parts.prefix_tokens())?, logits))
            }
            Method::Relevance(class) => {
                let (weighted, logits) = self.weighted_attention(images, *class)?;
                Ok((explain::row(&relevance(&weighted)?, query, parts.prefix_tokens())?, logits))
            }
            Method::GradCam(class) => {
                let (normed, logits) = last_norm(&parts, images)?;
                let map = grad_cam(&logits, &normed, &self.target(*class), parts.prefix_tokens())?;
                Ok((map, logits.detach()))
            }
            Method::AttnLrp(class) => {
                let relevances = attn_lrp(parts, images, &self.target(*class), GAMMA)?;
                Ok((relevances.tokens, relevances.logits))
            }
        }
    }

    /// The explained score: that of a class, or of the features where the model has no classes.
    pub(super) fn target(&self, class: Option<i64>) -> Target {
        match class {
            Some(class) => Target::Class(class),
            None if self.has_class_head() => Target::Predicted,
            None => Target::Features,
        }
    }

    /// The attention of one layer, the last one's if `None`, [B, H, S, S], and the logits [B, classes].
    pub(super) fn attention_of_layer(&self, images: &Tensor, layer: Option<usize>) -> Result<(Tensor, Tensor)> {
        let parts = self.network.parts()?;
        let count = parts.blocks.len();
        let (last, layer) = (count - 1, layer.unwrap_or(count - 1));
        ensure!(layer < count, "layer {layer}: this model has {count} layers, 0 to {last}");
        no_grad(|| {
            let before = parts.through(parts.tokens(images)?, 0..layer);
            let (tokens, attention) = parts.blocks[layer].forward(&before, false, true);
            Ok((attention.expect("requested"), parts.logits(parts.through(tokens, layer + 1..count))))
        })
    }

    /// [`gradient_attention`] of all layers, [B, L, H, S, S], and the logits [B, classes].
    fn weighted_attention(&self, images: &Tensor, class: Option<i64>) -> Result<(Tensor, Tensor)> {
        let (heads, layers) = with_grad(|| self.network.forward(images, false))?;
        let logits = with_grad(|| mean(&heads));
        Ok((gradient_attention(&logits, &layers, &self.target(class))?, logits.detach()))
    }
}

/// The output of the last block's first norm, [B, S, E], and the logits [B, classes] as part of the graph that begins
/// there.
fn last_norm(parts: &Parts, images: &Tensor) -> Result<(Tensor, Tensor)> {
    let before = parts.blocks.len() - 1;
    let last = &parts.blocks[before];
    let tokens = no_grad(|| Ok::<_, crate::Error>(parts.through(parts.tokens(images)?, 0..before)))?;
    let normed = no_grad(|| tokens.apply(&last.norm1)).set_requires_grad(true); // [B, S, E]
    let logits = with_grad(|| {
        // The rest of `Encoder::forward` behind the first norm.
        let x = &tokens + scaled(last.attention.forward(&normed, false).0, &last.scales[0]);
        let hidden = last.fc1.forward(&last.norm2.forward(&x)).gelu("none"); // [B, S, E] -> [B, S, forward_mul · E]
        parts.logits(&x + scaled(last.fc2.forward(&hidden), &last.scales[1]))
    });
    Ok((normed, logits))
}
