//! Write the forward pass of the embedding layer with a distillation token. The order of the tokens is class, distillation,
//! patches; each token has a row of the position embedding.
//# frame
use vitlab::tch::nn::{self, Module};

struct DistilledEmbedLayer {
    /// [B, C, I, I] -> [B, E, 7, 7]
    conv1: nn::Conv2D,
    /// [1, S, E] with S = 49 + 2
    pos_embedding: Tensor,
    /// [1, 1, E]
    cls_token: Tensor,
    /// [1, 1, E]
    dist_token: Tensor,
    dropout: f64,
}

impl DistilledEmbedLayer {
    //= DistilledEmbedLayer::forward
}
//# seen
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let own = ::vitlab::model::MyDeiT::new(&::vitlab::Config::default(), Device::Cpu).unwrap().embedding;
let layer = DistilledEmbedLayer {
    conv1: own.conv1,
    pos_embedding: own.pos_embedding,
    cls_token: own.cls_token,
    dist_token: own.dist_token,
    dropout: 0.1,
};
let images = Tensor::randn([2, 1, 28, 28], (Kind::Float, Device::Cpu));
let tokens: Tensor = no_grad(|| layer.forward(&images, false));
::std::assert_eq!(tokens.size(), [2, 51, 64], "the tokens are class, distillation and 49 patches");
let first = tokens.get(1).get(0);
let apart = (first - layer.cls_token.flatten(0, -1) - layer.pos_embedding.get(0).get(0)).abs().max().double_value(&[]);
::std::assert!(apart < 1e-6, "token 0 is the class token and its position");
//# hidden
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let deit = ::vitlab::model::MyDeiT::new(&::vitlab::Config::default(), Device::Cpu).unwrap();
let images = Tensor::randn([3, 1, 28, 28], (Kind::Float, Device::Cpu));
let expected = no_grad(|| deit.embedding.forward(&images, false));
let own = deit.embedding;
let layer = DistilledEmbedLayer {
    conv1: own.conv1,
    pos_embedding: own.pos_embedding,
    cls_token: own.cls_token,
    dist_token: own.dist_token,
    dropout: 0.1,
};
let tokens: Tensor = no_grad(|| layer.forward(&images, false));
::std::assert_eq!(tokens.size(), [3, 51, 64], "the tokens are class, distillation and 49 patches");
for (token, name) in [(0, "class token"), (1, "distillation token"), (2, "first patch"), (50, "last patch")] {
    let apart = (tokens.select(1, token) - expected.select(1, token)).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-6, "{name}: the embedding differs by {apart:.1e}");
}
let apart = (tokens - expected).abs().max().double_value(&[]);
::std::assert!(apart < 1e-6, "the tokens differ by {apart:.1e}");
