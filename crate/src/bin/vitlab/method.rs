//! The options of `vitlab explain` that choose the method.

use std::str::FromStr;

use vitlab::explain::{DiscardPer, Fusion, Layers, Normalisation, Query, Rollout};
use vitlab::learner::Method;
use vitlab::{Error, Learner, Result};

use crate::images::listed;

/// How a map is made, and of what.
#[derive(clap::Args)]
pub struct MethodOptions {
    /// From the attention of all layers (rollout) or of one (attention), from attention and gradients (grad-rollout, or
    /// relevance of Chefer et al.), from gradients at the last block's tokens (grad-cam), or by propagating the score back
    /// through all layers (attn-lrp).
    #[arg(long = "method", value_enum, default_value = "rollout")]
    name: MethodName,
    /// Explain the score of this class, by its name or number (all methods but rollout and attention) [default: the
    /// predicted one].
    #[arg(long, value_name = "NAME|N")]
    class: Option<String>,
    /// How the heads of a layer become one.
    #[arg(long, default_value = "mean", value_name = "mean|max|min")]
    fusion: Fusion,
    /// Share of the smallest attention values that are dropped, in [0, 1).
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    discard: f64,
    /// Drop the smallest values of each row, or of the whole matrix of tokens by tokens.
    #[arg(long, default_value = "matrix", value_name = "row|matrix")]
    discard_per: DiscardPer,
    /// Layers counted from 0: A..B (without B), i,j,… or all. --method attention takes one, by default the last.
    #[arg(long, default_value = "all", value_name = "A..B|i,j,…")]
    layers: Layers,
    /// The head whose attention is shown, counted from 0, or a map of each (--method attention) [default: their mean].
    #[arg(long, value_name = "N|each")]
    head: Option<Head>,
    /// The token whose attention is shown.
    #[arg(long, default_value = "class", value_name = "class|dist|N")]
    pub token: Query,
    /// Normalise as vit-explain does, for comparison with its numbers.
    #[arg(long)]
    compat: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    Rollout,
    Attention,
    GradRollout,
    Relevance,
    GradCam,
    AttnLrp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Number(usize),
    Each,
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "each" => Ok(Head::Each),
            number => number
                .parse()
                .map(Head::Number)
                .map_err(|_| format!("{text:?} is no head; write its number, or each for a map of every head")),
        }
    }
}

impl MethodOptions {
    /// An error for an option that doesn't go with the method. `float32` is whether the model computes in it.
    pub fn check(&self, float32: bool) -> Result<()> {
        use MethodName::{Attention, AttnLrp, GradCam, GradRollout, Relevance};
        let rollout = Rollout { layers: Layers::All, ..self.rollout() } != Rollout::default();
        let (layers, one_layer) = (self.layers != Layers::All, self.one_layer().is_some());
        let problem = match self.name {
            MethodName::Rollout | Attention if self.class.is_some() => {
                "--class goes with --method grad-rollout, relevance, grad-cam or attn-lrp; a rollout has no class, and neither \
                 has attention"
            }
            Relevance | GradCam | AttnLrp if rollout || layers => {
                "--fusion, --discard, --discard-per, --layers and --compat go with a rollout; relevance and attn-lrp use all \
                 layers as they are, grad-cam the last one"
            }
            Attention if rollout => {
                "--fusion, --discard, --discard-per and --compat go with a rollout; attention is shown as it is, of one head \
                 or as the mean of all"
            }
            Attention if layers && !one_layer => {
                "--method attention shows one layer; give --layers N, or leave it out for the last one"
            }
            MethodName::Rollout | GradRollout | Relevance | GradCam | AttnLrp if self.head.is_some() => {
                "--head goes with --method attention; a rollout joins the heads by --fusion"
            }
            GradCam | AttnLrp if self.token != Query::Class => {
                "--token goes with methods that show a token's attention; grad-cam and attn-lrp explain the model's score, \
                 from whichever tokens it is computed"
            }
            Attention | GradRollout | Relevance | GradCam | AttnLrp if !float32 => {
                "--precision goes with --method rollout; the others need attention or gradients, which are float32"
            }
            _ => return Ok(()),
        };
        Err(Error::argument(problem))
    }

    fn rollout(&self) -> Rollout {
        Rollout {
            fusion: self.fusion,
            discard_ratio: self.discard,
            discard_per: self.discard_per,
            layers: self.layers.clone(),
            normalisation: if self.compat { Normalisation::Compat } else { Normalisation::RowSum },
        }
    }

    /// Takes over the options of a rollout that was chosen by evidence.
    pub fn set_rollout(&mut self, rollout: &Rollout) {
        (self.fusion, self.discard, self.layers) = (rollout.fusion, rollout.discard_ratio, rollout.layers.clone());
    }

    /// The layer, if a single one is chosen.
    fn one_layer(&self) -> Option<usize> {
        match &self.layers {
            Layers::List(list) if list.len() == 1 => Some(list[0]),
            Layers::Range(range) if range.len() == 1 => Some(range.start),
            _ => None,
        }
    }

    /// The layer, if a map of each of its heads is asked for: `None` inside for the last one.
    pub fn each_head(&self) -> Option<Option<usize>> {
        (self.head == Some(Head::Each)).then(|| self.one_layer())
    }

    /// The method for a model, after [`MethodOptions::check`]. The score of a model without a class head is said on
    /// stderr.
    pub fn method(&self, learner: &Learner) -> Result<Method> {
        let class = self.class.as_ref().map(|text| class_number(text, &learner.class_names())).transpose()?;
        let method = match self.name {
            MethodName::Rollout => Method::Rollout(self.rollout()),
            MethodName::Attention => {
                let head = match self.head {
                    Some(Head::Number(head)) => Some(head),
                    _ => None,
                };
                Method::Attention { layer: self.one_layer(), head }
            }
            MethodName::GradRollout => Method::GradientRollout(self.rollout(), class),
            MethodName::Relevance => Method::Relevance(class),
            MethodName::GradCam => Method::GradCam(class),
            MethodName::AttnLrp => Method::AttnLrp(class),
        };
        // A CNN is refused by every method.
        if method.explains_score() && class.is_none() && !learner.has_class_head() {
            eprintln!(
                "note: the model has no class head; the explained score is the similarity of its features with those of \
                 the same image, held constant"
            );
        }
        Ok(method)
    }

    /// Method and options in words, for the picture's title.
    pub fn title(&self) -> String {
        let name = match self.name {
            MethodName::GradCam => return "Grad-CAM, last block".to_string(),
            MethodName::AttnLrp => return "AttnLRP".to_string(),
            MethodName::Relevance => return format!("Relevance, query token {}", self.token),
            MethodName::Attention => {
                let layer = self.one_layer().map_or("last layer".to_string(), |layer| format!("layer {layer}"));
                let head = match self.head {
                    Some(Head::Number(head)) => format!("head {head}"),
                    Some(Head::Each) => "each head".to_string(),
                    None => "mean of the heads".to_string(),
                };
                return format!("Attention: {layer}, {head}, query token {}", self.token);
            }
            MethodName::Rollout => "Attention rollout",
            MethodName::GradRollout => "Gradient rollout",
        };
        format!("{name}: {}, query token {}", self.rollout_words(), self.token)
    }

    /// The options of a rollout in words.
    pub fn rollout_words(&self) -> String {
        let MethodOptions { fusion, discard, layers, .. } = self;
        format!("fusion {fusion}, discard {discard}, layers {layers}")
    }
}

/// The number of the class that a user names: by its number, its name, or one of the names that it lists with commas.
fn class_number(text: &str, names: &[String]) -> Result<i64> {
    let same = |name: &str| name.trim().eq_ignore_ascii_case(text.trim());
    let number = text.trim().parse().ok().filter(|&number: &usize| number < names.len());
    let named = || names.iter().position(|name| same(name) || name.split(',').any(same));
    if let Some(class) = number.or_else(named) {
        return Ok(class as i64);
    }
    let numbered: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{i} {name}")).collect();
    Err(Error::argument(format!("--class {text}: the model has the classes {}", listed(&numbered))))
}
