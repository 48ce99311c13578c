//! Write `average`: at inference the student's prediction is the mean of both heads' logits.
//# frame
struct StudentLogits {
    /// [B, classes]
    class: Tensor,
    /// [B, classes]
    dist: Tensor,
}

impl StudentLogits {
    //= HeadLogits::average
}
//# seen
use ::vitlab::tch::Tensor;
let heads = StudentLogits { class: Tensor::from_slice2(&[[2f32, 0.]]), dist: Tensor::from_slice2(&[[0f32, 1.]]) };
let prediction: Tensor = heads.average();
::std::assert!(prediction == Tensor::from_slice2(&[[1f32, 0.5]]), "the average of (2, 0) and (0, 1) is (1, ½)");
//# hidden
use ::vitlab::tch::{Device, Kind, Tensor};
let (class, dist) = (Tensor::randn([5, 10], (Kind::Float, Device::Cpu)), Tensor::randn([5, 10], (Kind::Float, Device::Cpu)));
let heads = StudentLogits { class: class.shallow_clone(), dist: dist.shallow_clone() };
let prediction: Tensor = heads.average();
::std::assert_eq!(prediction.size(), [5, 10], "the prediction is [B, classes]");
let given = [class, dist].map(|head| <::std::vec::Vec<f64>>::try_from(head.to_kind(Kind::Double).flatten(0, -1)).unwrap());
let values = <::std::vec::Vec<f64>>::try_from(prediction.to_kind(Kind::Double).flatten(0, -1)).unwrap();
for i in 0..50 {
    ::std::assert!((values[i] - (given[0][i] + given[1][i]) / 2.0).abs() < 1e-6, "logit {i} isn't the mean of both heads");
}
