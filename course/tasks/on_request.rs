//! Write `forward` of the whole model: it returns the logits, and the attention of all layers only if `return_attention` is
//! set. `forward_tokens` gives the logits and, on request, the attention of each layer.
//# frame
use vitlab::Result;

struct AttentionVit {
    vit: VisionTransformer,
}

impl AttentionVit {
    /// [B, C, I, I] -> logits [B, classes] and, on request, one tensor [B, H, S, S] per layer
    fn forward_tokens(&self, images: &Tensor, train: bool, return_attention: bool) -> Result<(Tensor, Vec<Tensor>)> {
        let (logits, attention) = self.vit.forward_layers(images, train)?;
        Ok((logits, if return_attention { attention } else { Vec::new() }))
    }

    //= VisionTransformer::forward
}
//# seen
use ::vitlab::model::VisionTransformer;
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let model = AttentionVit { vit: VisionTransformer::new(&::vitlab::Config::default(), Device::Cpu).unwrap() };
let images = Tensor::zeros([1, 1, 28, 28], (Kind::Float, Device::Cpu));
let (logits, attention): (Tensor, ::std::option::Option<Tensor>) =
    no_grad(|| model.forward(&images, false, true)).unwrap();
::std::assert_eq!(logits.size(), [1, 10], "the logits are [B, classes]");
let size = attention.expect("the attention was asked for").size();
::std::assert_eq!(size, [1, 6, 4, 50, 50], "the attention is [B, L, H, S, S]");
//# hidden
use ::vitlab::model::VisionTransformer;
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let model = AttentionVit { vit: VisionTransformer::new(&::vitlab::Config::default(), Device::Cpu).unwrap() };
let images = Tensor::randn([2, 1, 28, 28], (Kind::Float, Device::Cpu));
no_grad(|| {
    let (logits, none): (Tensor, ::std::option::Option<Tensor>) = model.forward(&images, false, false).unwrap();
    ::std::assert!(none.is_none(), "the attention is returned although nobody asked for it");
    let (same, attention): (Tensor, ::std::option::Option<Tensor>) = model.forward(&images, false, true).unwrap();
    let (expected, layers) = model.vit.forward_layers(&images, false).unwrap();
    ::std::assert!(logits == expected && same == expected, "the logits don't depend on return_attention");
    let attention = attention.expect("the attention was asked for");
    for (layer, expected) in layers.iter().enumerate() {
        ::std::assert!(attention.select(1, layer as i64) == *expected, "the attention of layer {layer} is another one");
    }
});
