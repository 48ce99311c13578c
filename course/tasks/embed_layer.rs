//! Write the forward pass of the embedding layer: images become tokens. The class token stands first, and each token gets
//! its row of the position embedding.
//# frame
use vitlab::tch::nn::{self, Module};

struct EmbedLayer {
    /// A convolution whose stride is its kernel: [B, C, I, I] -> [B, E, 7, 7]
    conv1: nn::Conv2D,
    /// [1, S, E]
    pos_embedding: Tensor,
    /// [1, 1, E]
    cls_token: Tensor,
    dropout: f64,
}

impl EmbedLayer {
    //= EmbedLayer::forward
}
//# seen
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let vit = ::vitlab::model::VisionTransformer::new(&::vitlab::Config::default(), Device::Cpu).unwrap();
let own = vit.embedding;
let layer =
    EmbedLayer { conv1: own.conv1, pos_embedding: own.pos_embedding, cls_token: own.cls_token, dropout: 0.1 };
let images = Tensor::randn([2, 1, 28, 28], (Kind::Float, Device::Cpu));
let tokens: Tensor = no_grad(|| layer.forward(&images, false));
::std::assert_eq!(tokens.size(), [2, 50, 64], "the tokens are [B, S, E]");
let first = tokens.get(1).get(0);
let apart = (first - layer.cls_token.flatten(0, -1) - layer.pos_embedding.get(0).get(0)).abs().max().double_value(&[]);
::std::assert!(apart < 1e-6, "token 0 is the class token and its position");
//# hidden
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let vit = ::vitlab::model::VisionTransformer::new(&::vitlab::Config::default(), Device::Cpu).unwrap();
let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
let expected = no_grad(|| vit.embedding.forward(&images, false));
let own = vit.embedding;
let layer =
    EmbedLayer { conv1: own.conv1, pos_embedding: own.pos_embedding, cls_token: own.cls_token, dropout: 0.5 };
no_grad(|| {
    let tokens: Tensor = layer.forward(&images, false);
    ::std::assert_eq!(tokens.size(), [3, 50, 64], "the tokens are [B, S, E]");
    let apart = (&tokens - expected).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-6, "the tokens differ by {apart:.1e}");
    let dropped = layer.forward(&images, true).eq(0.0).to_kind(Kind::Float).mean(Kind::Float).double_value(&[]);
    ::std::assert!((0.3..0.7).contains(&dropped), "dropout 0.5 in training sets {dropped:.2} of the numbers to zero");
});
