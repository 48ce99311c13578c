//! Write the forward pass of the classifier with two heads. The linear layer `fc_dist` projects the distillation token.
//# frame
use vitlab::model::Classifier;
use vitlab::tch::nn::{self, Module};

struct DistilledClassifier {
    /// The ViT's classifier, which reads the class token of [B, S, E]
    class: Classifier,
    fc_dist: nn::Linear,
}

impl DistilledClassifier {
    //= DistilledClassifier::forward
}
//# seen
use ::vitlab::model::HeadLogits;
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let own = ::vitlab::model::MyDeiT::new(&::vitlab::Config::default(), Device::Cpu).unwrap().classifier;
let classifier = DistilledClassifier { class: own.class, fc_dist: own.fc_dist };
let tokens = Tensor::randn([2, 51, 64], (Kind::Float, Device::Cpu));
let heads: HeadLogits = no_grad(|| classifier.forward(&tokens));
::std::assert_eq!(heads.class.size(), [2, 10], "the class head's logits are [B, classes]");
::std::assert_eq!(heads.dist.size(), [2, 10], "the distillation head's logits are [B, classes]");
//# hidden
use ::vitlab::model::HeadLogits;
use ::vitlab::tch::{Device, Kind, Tensor, no_grad};
let own = ::vitlab::model::MyDeiT::new(&::vitlab::Config::default(), Device::Cpu).unwrap().classifier;
let classifier = DistilledClassifier { class: own.class, fc_dist: own.fc_dist };
let tokens = Tensor::randn([4, 51, 64], (Kind::Float, Device::Cpu)) * 3.0;
no_grad(|| {
    let heads: HeadLogits = classifier.forward(&tokens);
    let apart = (heads.class - classifier.class.forward(&tokens)).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-6, "the class head differs by {apart:.1e}; in training the heads aren't averaged");
    let layer = &classifier.fc_dist;
    let expected = tokens.select(1, 1).matmul(&layer.ws.tr()) + layer.bs.as_ref().unwrap();
    let apart = (heads.dist - expected).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-5, "the distillation head differs by {apart:.1e}; it reads token 1");
});
