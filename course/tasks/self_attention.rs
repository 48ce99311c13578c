//! Write the forward pass of the self-attention module. It returns the mixed tokens, as before, and the attention
//! matrix if `return_attention` is set.
//# frame
use vitlab::tch::nn::{self, Module};

/// The four projections of one layer, and its number of heads H.
struct SelfAttention {
    queries: nn::Linear,
    keys: nn::Linear,
    values: nn::Linear,
    out_projection: nn::Linear,
    heads: i64,
}

impl SelfAttention {
    //= SelfAttention::forward
}
//# seen
use ::vitlab::tch::{Device, Kind, Tensor, nn};
// Three tokens of four numbers and two heads. The query projection is twice the identity, the others are identities.
let identity = Tensor::eye(4, (Kind::Float, Device::Cpu));
let linear = |factor: f64| nn::Linear { ws: &identity * factor, bs: None };
let layer =
    SelfAttention { queries: linear(2.0), keys: linear(1.0), values: linear(1.0), out_projection: linear(1.0), heads: 2 };
let tokens = [[1.0f32, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0], [0.0, 2.0, 1.0, 1.0]];
let tokens = Tensor::from_slice2(&tokens).unsqueeze(0);
let (_, none): (Tensor, ::std::option::Option<Tensor>) = layer.forward(&tokens, false);
::std::assert!(none.is_none(), "the attention is returned although nobody asked for it");
let (mixed, attention): (Tensor, ::std::option::Option<Tensor>) = layer.forward(&tokens, true);
let attention = attention.expect("the attention was asked for");
::std::assert_eq!(mixed.size(), [1, 3, 4], "the mixed tokens keep the shape [B, S, E]");
::std::assert_eq!(attention.size(), [1, 2, 3, 3], "the attention is [B, H, S, S]");
// Head 0, class token: the scores are 2/√2, 2/√2 and 0. Patch 1 is (0, 0) in head 1: it takes a third from each token.
let row = <::std::vec::Vec<f64>>::try_from(attention.get(0).get(0).get(0)).unwrap();
for (weight, expected) in row.iter().zip([0.445808, 0.445808, 0.108383]) {
    ::std::assert!((weight - expected).abs() < 1e-5, "the class token's row in head 0 is {row:.6?}");
}
let row = <::std::vec::Vec<f64>>::try_from(attention.get(0).get(1).get(1)).unwrap();
::std::assert!(row.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-6), "patch 1's row in head 1 is {row:.6?}");
//# hidden
use ::vitlab::model::VisionTransformer;
use ::vitlab::tch::{Device, Kind, Tensor, nn};
let vit = VisionTransformer::new(&::vitlab::Config::default(), Device::Cpu).unwrap();
let module = &vit.encoder[0].attention;
// Weights far from zero: with the initial ones every score is near 0.
let linear = |from: &nn::Linear| nn::Linear { ws: from.ws.detach() * 12.0, bs: from.bs.as_ref().map(|bs| bs.detach()) };
let layer = SelfAttention {
    queries: linear(&module.queries),
    keys: linear(&module.keys),
    values: linear(&module.values),
    out_projection: linear(&module.out_projection),
    heads: 4,
};
::vitlab::tch::no_grad(|| {
    for (mine, own) in [
        (&layer.queries, &module.queries),
        (&layer.keys, &module.keys),
        (&layer.values, &module.values),
        (&layer.out_projection, &module.out_projection),
    ] {
        own.ws.shallow_clone().copy_(&mine.ws);
    }
    let x = Tensor::randn([2, 50, 64], (Kind::Float, Device::Cpu));
    let (mixed, attention): (Tensor, ::std::option::Option<Tensor>) = layer.forward(&x, true);
    let attention = attention.expect("the attention was asked for");
    let (expected_mixed, expected) = module.forward(&x, true);
    let expected = expected.unwrap();
    ::std::assert_eq!(attention.size(), [2, 4, 50, 50], "the attention is [B, H, S, S]");
    let apart = (attention - expected).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-5, "four heads: the attention differs by {apart:.1e}");
    let apart = (mixed - expected_mixed).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-3, "four heads: the mixed tokens differ by {apart:.1e}");
});
