//! Write `forward_blocks`: it applies the blocks in order, as before, and collects the attention of each if
//! `return_attention` is set.
//# frame
use vitlab::model::Encoder;

//= forward_blocks
//# seen
use ::vitlab::model::VisionTransformer;
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let vit = VisionTransformer::new(&::vitlab::Config::default(), Device::Cpu).unwrap();
let x = Tensor::randn([1, 50, 64], (Kind::Float, Device::Cpu));
let (tokens, attention): (Tensor, ::std::vec::Vec<Tensor>) = no_grad(|| forward_blocks(&vit.encoder, x, false, true));
::std::assert_eq!(tokens.size(), [1, 50, 64], "the tokens keep the shape [B, S, E]");
::std::assert_eq!(attention.len(), 6, "one attention matrix per layer");
::std::assert_eq!(attention[5].size(), [1, 4, 50, 50], "the attention of a layer is [B, H, S, S]");
//# hidden
use ::vitlab::model::VisionTransformer;
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let config = ::vitlab::Config { n_layers: 3, ..::vitlab::Config::default() };
let vit = VisionTransformer::new(&config, Device::Cpu).unwrap();
let mut expected = Tensor::randn([2, 50, 64], (Kind::Float, Device::Cpu)) * 20.0;
no_grad(|| {
    let (tokens, attention): (Tensor, ::std::vec::Vec<Tensor>) =
        forward_blocks(&vit.encoder, expected.shallow_clone(), false, true);
    ::std::assert_eq!(attention.len(), 3, "one attention matrix per layer");
    for (layer, block) in vit.encoder.iter().enumerate() {
        let (after, of_layer) = block.forward(&expected, false, true);
        let apart = (&attention[layer] - of_layer.unwrap()).abs().max().double_value(&[]);
        ::std::assert!(apart < 1e-6, "layer {layer}: the attention differs by {apart:.1e}");
        expected = after;
    }
    let apart = (tokens - &expected).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-4, "the tokens of the last block differ by {apart:.1e}");
});
