//! Write `forward` of the hard distillation loss: the mean of the cross-entropy of the class head on the true labels and the
//! cross-entropy of the distillation head on the teacher's decisions.
//# frame
struct HardDistillationLoss;

impl HardDistillationLoss {
    //= HardDistillationLoss::forward
}

//= cross_entropy
//# seen
use ::vitlab::model::HeadLogits;
use ::vitlab::tch::Tensor;
// Logarithms of whole numbers as logits: the softmax gives fractions.
let heads = HeadLogits {
    class: Tensor::from_slice2(&[[2f64, 1., 1.], [1., 3., 1.]]).log(),
    dist: Tensor::from_slice2(&[[1f64, 1., 2.], [4., 1., 5.]]).log(),
};
let teacher = Tensor::from_slice2(&[[0.1, 0.2, 3.0], [2.0, 1.9, 0.0]]); // it decides for 2 and 0
let loss: Tensor = HardDistillationLoss.forward(&heads, &teacher, &Tensor::from_slice(&[0i64, 1]));
let value = loss.double_value(&[]);
::std::assert!((value - 0.703353).abs() < 1e-6, "the loss of the two images by hand is 0.703353, here {value:.6}");
//# hidden
use ::vitlab::model::HeadLogits;
use ::vitlab::tch::{Device, Kind, Tensor};
let logits = || Tensor::randn([16, 10], (Kind::Float, Device::Cpu)) * 2.0;
let heads = HeadLogits { class: logits().set_requires_grad(true), dist: logits().set_requires_grad(true) };
let (teacher, labels) = (logits(), Tensor::randint(10, [16], (Kind::Int64, Device::Cpu)));
let loss: Tensor = HardDistillationLoss.forward(&heads, &teacher, &labels);
let gradient = Tensor::run_backward(&[&loss], &[&heads.class, &heads.dist], false, false);
let mut expected = 0.0;
for (head, targets) in [(&heads.class, &labels), (&heads.dist, &teacher.argmax(-1, false))] {
    let log_p = head.detach().log_softmax(-1, Kind::Double);
    expected -= 0.5 * log_p.gather(1, &targets.unsqueeze(1), false).mean(Kind::Double).double_value(&[]);
}
let value = loss.double_value(&[]);
::std::assert!((value - expected).abs() < 1e-5, "16 images: the loss is {expected:.5}, here {value:.5}");
for (head, gradient, targets) in
    [(&heads.class, &gradient[0], &labels), (&heads.dist, &gradient[1], &teacher.argmax(-1, false))]
{
    let expected = (head.detach().softmax(-1, Kind::Float) - targets.one_hot(10)) / 32.0;
    let apart = (gradient - expected).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-6, "the gradient at a head's logits differs by {apart:.1e}");
}
