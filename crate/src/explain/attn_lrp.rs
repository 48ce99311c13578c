//! AttnLRP (arXiv 2402.05602): layer-wise relevance propagation for transformers, as gradient times input.
//!
//! Relevance flows back through an operation by the rule of its kind. Each rule here is a change of the forward pass
//! that keeps its values, after which relevance is the input times the score's gradient (arXiv 2502.15886).

use tch::nn::{LayerNorm, Linear};
use tch::{Kind, Tensor, no_grad, with_grad};

use super::Target;
use crate::error::{Result, ensure};
use crate::model::{Encoder, Parts, SelfAttention, scaled};

/// The γ of [`Learner::explain`](crate::Learner::explain). For DINOv2-small and four photographs, the deletion area of the
/// features' cosine similarity is 0.59 with it, 0.77 with 0, and 0.83 in random order.
pub const GAMMA: f64 = 0.05;

/// Relevance of the tokens of each image, and the relevance that ends elsewhere.
///
/// `scores` = the sum of `tokens` over S + `biases` + `softmax`, up to rounding: no other rule gains or loses relevance.
/// So the sum of the tokens misses the score by exactly what biases and softmax absorb.
#[derive(Debug)]
pub struct Relevances {
    /// The explained scores, `[B]`.
    pub scores: Tensor,
    /// Relevance of each token that enters the first block, of either sign, [B, S]. A token is patch projection and
    /// position together; class token and registers are weights of the model.
    pub tokens: Tensor,
    /// Relevance absorbed by the biases of linear layers and norms, from the first block to the heads, `[B]`.
    pub biases: Tensor,
    /// Relevance absorbed by the softmax of all layers, `[B]`: the difference of the relevance at its output and at its
    /// input (the bias term of its Taylor expansion, proposition 3.1).
    pub softmax: Tensor,
    /// The model's logits, [B, classes].
    pub logits: Tensor,
}

/// AttnLRP (arXiv 2402.05602, section 3) of a ViT's or DeiT's score, at the tokens that enter the first block.
///
/// The rules: γ for linear layers, in which contributions of the output's sign count 1 + `gamma` times; epsilon with ε = 0
/// for means and sums, and for linear layers if `gamma` is 0 (equation 8); identity for GELU and tanh (equation 9), and for
/// norms, whose standard deviation is a constant (proposition 3.4); uniform for the products query · key and attention ·
/// value, of which each factor gets half (proposition 3.3); the gradient, which is its Taylor expansion, for softmax
/// (proposition 3.1). The authors' library (rachtibat/LRP-eXplains-Transformers, `examples/vit_torch.py`) takes the γ-rule
/// for ViTs, against noise, with a γ to search for each model. [`GAMMA`] is one of those that it tries. Its example stops
/// at the softmax as well, which this function doesn't.
///
/// Doesn't see how the relevance of a token divides into the patch and its position, nor a change of attention beyond
/// first order.
///
/// ```
/// use vitlab::{Config, explain::{GAMMA, Target, attn_lrp}, model::VisionTransformer, tch::{Device, Kind, Tensor}};
/// let model = VisionTransformer::new(&Config { n_layers: 2, ..Config::default() }, Device::Cpu)?;
/// let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
/// let relevance = attn_lrp(&model, &images, &Target::Class(4), GAMMA)?;
/// assert_eq!(relevance.tokens.size(), [3, 50]);
/// let sum = relevance.tokens.sum_dim_intlist([1i64].as_slice(), false, None) + relevance.biases + relevance.softmax;
/// assert!((sum - relevance.scores).abs().max().double_value(&[]) < 1e-5);
/// # Ok::<(), vitlab::Error>(())
/// ```
///
/// # Errors
/// Images that don't have the model's shape, a class that doesn't exist, or a negative or infinite `gamma`.
pub fn attn_lrp<'a>(model: impl Into<Parts<'a>>, images: &Tensor, target: &Target, gamma: f64) -> Result<Relevances> {
    let model = model.into();
    ensure!(gamma >= 0.0 && gamma.is_finite(), "gamma {gamma}: give 0 or a positive number");
    let tokens = no_grad(|| model.tokens(images))?.set_requires_grad(true); // [B, C, I, I] -> [B, S, E]
    with_grad(|| {
        let rules = Rules::new(images.size()[0], gamma, model.config.structure.norm_epsilon, &tokens);
        let last = model.blocks.iter().fold(tokens.shallow_clone(), |x, block| rules.block(&x, block));
        let logits = rules.logits(last, &model); // [B, S, E] -> [B, classes]
        let scores = target.scores(&logits)?;
        // The sum over images has the same gradients: an image's tokens reach only its own score.
        let inputs = [&tokens, &rules.biases, &rules.attention, &rules.products];
        let gradients = Tensor::f_run_backward(&[scores.sum(scores.kind())], &inputs, false, false)?;
        let relevance = |input: &Tensor, gradient: &Tensor| {
            let double = |tensor: &Tensor| tensor.detach().to_kind(Kind::Double);
            (double(input) * double(gradient)).sum_dim_intlist([2i64].as_slice(), false, None) // [B, S, E] -> [B, S]
        };
        let absorbed = |i: usize| relevance(inputs[i], &gradients[i]).squeeze_dim(1); // [B, 1, 1] -> [B, 1] -> [B]
        Ok(Relevances {
            scores: scores.detach().to_kind(Kind::Double),
            tokens: relevance(&tokens, &gradients[0]),
            biases: absorbed(1),
            softmax: absorbed(2) - absorbed(3),
            logits: logits.detach(),
        })
    })
}

/// The model's operations with the gradients that the rules ask for.
///
/// A factor of 1 per image, [B, 1, 1], stands before terms whose relevance is wanted in sum: it is the factor's gradient.
struct Rules {
    /// Before each bias.
    biases: Tensor,
    /// Before the values of each layer, whose relevance equals that of the attention they are multiplied with.
    attention: Tensor,
    /// Before each layer's products query · key, the input of the softmax.
    products: Tensor,
    gamma: f64,
    norm_epsilon: f64,
}

impl Rules {
    fn new(images: i64, gamma: f64, norm_epsilon: f64, like: &Tensor) -> Self {
        let one = || Tensor::ones([images, 1, 1], (like.kind(), like.device())).set_requires_grad(true);
        Rules { biases: one(), attention: one(), products: one(), gamma, norm_epsilon }
    }

    /// γ-rule: [B, S, n] -> [B, S, m].
    ///
    /// An output y is the sum of contributions c. Those with the sign of y sum up to (y ± Σ|c|) / 2. The rule multiplies
    /// them by 1 + γ, so that the total becomes z = y + γ (y ± Σ|c|) / 2. Each input gets its share of z. The constant
    /// factor y / z restores the value y.
    fn linear(&self, x: &Tensor, layer: &Linear) -> Tensor {
        let sum = |x: &Tensor, weight: &Tensor, bias: Option<Tensor>| {
            let product = x.matmul(&weight.tr());
            match bias {
                Some(bias) => product + bias * &self.biases, // [m] · [B, 1, 1] -> [B, 1, m]
                None => product,
            }
        };
        let (weight, bias) = (layer.ws.detach(), layer.bs.as_ref().map(Tensor::detach));
        let y = sum(x, &weight, bias.as_ref().map(Tensor::shallow_clone));
        if self.gamma == 0.0 {
            return y;
        }
        let absolute = sum(&x.abs(), &weight.abs(), bias.as_ref().map(Tensor::abs));
        let z = &y * (1.0 + self.gamma / 2.0) + y.detach().sign() * absolute * (self.gamma / 2.0);
        let share = y.detach() / z.detach();
        &z * share.where_self(&z.detach().not_equal(0.0), &z.zeros_like())
    }

    /// Identity rule: the division by the standard deviation is one by a constant. [B, S, E] -> [B, S, E]
    fn norm(&self, x: &Tensor, layer: &LayerNorm) -> Tensor {
        let mean = |x: &Tensor| x.mean_dim([-1i64].as_slice(), true, None); // [B, S, E] -> [B, S, 1]
        let centred = x - mean(x);
        let deviation = (mean(&centred.square()) + self.norm_epsilon).sqrt().detach();
        let normed = centred / deviation;
        let weighted = match &layer.ws {
            Some(weight) => normed * weight.detach(),
            None => normed,
        };
        match &layer.bs {
            Some(bias) => weighted + bias.detach() * &self.biases, // [E] · [B, 1, 1] -> [B, 1, E]
            None => weighted,
        }
    }

    /// Uniform rule for both products, gradient of the softmax: [B, S, E] -> [B, S, E].
    fn attention(&self, x: &Tensor, layer: &SelfAttention) -> Tensor {
        let (batch, tokens, embed) = x.size3().expect("tokens are [B, S, E]");
        let head_dim = embed / layer.heads;
        let split = |x: Tensor| x.view([batch, tokens, layer.heads, head_dim]).transpose(1, 2); // -> [B, H, S, E/H]
        let q = halved(&split(self.linear(x, &layer.queries))) * self.products.unsqueeze(-1); // · [B, 1, 1, 1]
        let k = halved(&split(self.linear(x, &layer.keys)));
        let attention = (q.matmul(&k.transpose(-2, -1)) / (head_dim as f64).sqrt()).softmax(-1, None); // [B, H, S, S]
        let v = halved(&(split(self.linear(x, &layer.values)) * self.attention.unsqueeze(-1)));
        let mixed = halved(&attention).matmul(&v); // [B, H, S, E/H]
        self.linear(&mixed.transpose(1, 2).reshape([batch, tokens, embed]), &layer.out_projection)
    }

    /// [B, S, E] -> [B, S, E]
    fn block(&self, x: &Tensor, block: &Encoder) -> Tensor {
        let scale = |i: usize| block.scales[i].as_ref().map(Tensor::detach);
        let mixed = self.attention(&self.norm(x, &block.norm1), &block.attention);
        let x = x + scaled(mixed, &scale(0));
        let hidden = gelu(&self.linear(&self.norm(&x, &block.norm2), &block.fc1)); // [B, S, E] -> [B, S, forward_mul · E]
        &x + scaled(self.linear(&hidden, &block.fc2), &scale(1))
    }

    /// [B, S, E] -> [B, classes], the mean of a DeiT's two heads.
    fn logits(&self, tokens: Tensor, model: &Parts) -> Tensor {
        let (classifier, prefix) = (model.classifier, model.prefix_tokens());
        let normed = self.norm(&classifier.pool.before_norm(tokens, prefix), model.norm);
        let features = classifier.pool.features(&normed, prefix).unsqueeze(1); // [B, S, E] -> [B, E] -> [B, 1, E]
        let hidden = match &classifier.fc1 {
            Some(fc1) => tanh(&self.linear(&features, fc1)), // [B, 1, E] -> [B, 1, E]
            None => features,
        };
        let class = match &classifier.fc2 {
            Some(fc2) => self.linear(&hidden, fc2), // [B, 1, E] -> [B, 1, classes]
            None => hidden,
        };
        let logits = match model.fc_dist {
            Some(fc_dist) => (class + self.linear(&normed.narrow(1, 1, 1), fc_dist)) / 2.0,
            None => class,
        };
        logits.squeeze_dim(1) // [B, 1, classes] -> [B, classes]
    }
}

/// The same values with half of the gradient.
fn halved(x: &Tensor) -> Tensor {
    (x + x.detach()) / 2.0
}

/// Identity rule: GELU(x) = x · Φ(x), with Φ(x) as a constant.
fn gelu(x: &Tensor) -> Tensor {
    let share = (x.detach() / 2f64.sqrt()).erf() / 2.0 + 0.5;
    x * share
}

/// Identity rule: tanh(x) = x · (tanh(x) / x), with the quotient as a constant, 1 at zero.
fn tanh(x: &Tensor) -> Tensor {
    let constant = x.detach();
    x * (constant.tanh() / &constant).where_self(&constant.not_equal(0.0), &constant.ones_like())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Values and gradient of the sum.
    fn with_gradient(x: &[f64], rule: impl Fn(&Tensor) -> Tensor) -> (Vec<f64>, Vec<f64>) {
        let x = Tensor::from_slice(x).set_requires_grad(true);
        let y = rule(&x);
        let gradient = Tensor::run_backward(&[y.sum(Kind::Double)], &[x], false, false).remove(0);
        (Vec::try_from(y).unwrap(), Vec::try_from(gradient).unwrap())
    }

    #[test]
    fn input_times_gradient_of_an_activation_is_its_value() {
        for (rule, at_zero) in [(gelu as fn(&Tensor) -> Tensor, 0.5), (tanh, 1.0)] {
            let x = [-2.0, -0.5, 0.0, 1e-30, 0.25, 3.0];
            let (values, gradient) = with_gradient(&x, rule);
            for i in 0..x.len() {
                assert!((x[i] * gradient[i] - values[i]).abs() <= 1e-15, "{}", x[i]);
            }
            assert_eq!(gradient[2], at_zero);
        }
        assert_eq!(with_gradient(&[3.0, -4.0], halved), (vec![3.0, -4.0], vec![0.5, 0.5]));
    }

    /// One head of width 1 and two tokens with the values 2 and 6 and equal attention ½, so the output is 4.
    /// By hand: half of the relevance 4 goes to the values, 2 · ½ · ½ = ½ and 6 · ½ · ½ = 1½. The other half goes to the
    /// attention, ½ · 2 · ½ = ½ and ½ · 6 · ½ = 1½. Softmax gives to the products qk = (0, 0) their value times the gradient,
    /// nothing, and absorbs all 2.
    #[test]
    fn attention_divides_relevance_as_by_hand() {
        let options = (Kind::Double, Device::Cpu);
        let layer = |weight: f64, bias: f64| Linear {
            ws: Tensor::full([1, 1], weight, options),
            bs: Some(Tensor::full([1], bias, options)),
        };
        let attention = SelfAttention {
            queries: layer(0.0, 0.0),
            keys: layer(1.0, 0.0),
            values: layer(2.0, 0.0),
            out_projection: layer(1.0, 5.0),
            heads: 1,
        };
        let x = Tensor::from_slice(&[1.0, 3.0]).view([1, 2, 1]).set_requires_grad(true);
        let rules = Rules::new(1, 0.0, 1e-6, &x);
        let y = rules.attention(&x, &attention);
        assert_eq!(Vec::<f64>::try_from(y.flatten(0, -1)).unwrap(), [9.0, 9.0]);
        let inputs = [&x, &rules.biases, &rules.attention, &rules.products];
        let gradients = Tensor::run_backward(&[y.select(1, 0).sum(Kind::Double)], &inputs, false, false);
        let relevance = |i: usize| Vec::<f64>::try_from((inputs[i] * &gradients[i]).flatten(0, -1)).unwrap();
        assert_eq!(relevance(0), [0.5, 1.5]);
        assert_eq!([relevance(1), relevance(2), relevance(3)], [[5.0], [2.0], [0.0]]);
    }

    /// Contributions 3 · 1 = 3 and 2 · -1 = -2 and the bias 1 make 2. With γ = 1, those of its sign count twice: 6 - 2 + 2 = 6,
    /// so the relevance 2 divides into 2, -2/3 and 2/3. The output -2 of the opposite weights has the opposite relevance.
    #[test]
    fn a_linear_layer_divides_relevance_as_by_hand() {
        let layer =
            Linear { ws: Tensor::from_slice2(&[[1.0, -1.0], [-1.0, 1.0]]), bs: Some(Tensor::from_slice(&[1.0, -1.0])) };
        let x = Tensor::from_slice(&[3.0, 2.0]).view([1, 1, 2]).set_requires_grad(true);
        for (output, sign) in [(0, 1.0), (1, -1.0)] {
            let rules = Rules::new(1, 1.0, 1e-6, &x);
            let y = rules.linear(&x, &layer);
            assert_eq!(Vec::<f64>::try_from(y.flatten(0, -1)).unwrap(), [2.0, -2.0]);
            let inputs = [&x, &rules.biases];
            let score = y.select(2, output).sum(Kind::Double);
            let gradients = Tensor::run_backward(&[score], &inputs, false, false);
            let relevance = |i: usize| Vec::<f64>::try_from((inputs[i] * &gradients[i]).flatten(0, -1)).unwrap();
            for (ours, by_hand) in [relevance(0), relevance(1)].concat().iter().zip([2.0, -2.0 / 3.0, 2.0 / 3.0]) {
                assert!((ours - sign * by_hand).abs() < 1e-15, "{ours}");
            }
        }
    }
}
