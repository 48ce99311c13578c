//! Write `joint_attentions`: the product of the chosen layers' matrices. Later layers stand on the left.
//# seen
use ::vitlab::explain::Fusion;
use ::vitlab::tch::{Kind, Tensor};
// Two layers with one head and two tokens: [[0.5, 0.5], [0, 1]] and [[1, 0], [0.5, 0.5]]. With the residual connection
// they are [[¾, ¼], [0, 1]] and [[1, 0], [¼, ¾]]; the product is the second times the first.
let attention = Tensor::from_slice(&[0.5f32, 0.5, 0.0, 1.0, 1.0, 0.0, 0.5, 0.5]).view([2, 1, 2, 2]);
for (layers, expected) in [
    (&[0i64, 1] as &[i64], [0.75, 0.25, 0.1875, 0.8125]),
    (&[0], [0.75, 0.25, 0.0, 1.0]),
    (&[1], [1.0, 0.0, 0.25, 0.75]),
] {
    let joint: Tensor = joint_attentions(&attention, Fusion::Mean, 0.0, layers);
    let values = <::std::vec::Vec<f64>>::try_from(joint.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    ::std::assert_eq!(values, expected, "layers {layers:?}");
}
//# hidden
use ::vitlab::explain::{Fusion, Rollout, rollout};
use ::vitlab::tch::{Device, Kind, Tensor};
let attention = (Tensor::rand([6, 4, 50, 50], (Kind::Float, Device::Cpu)) * 8.0).softmax(-1, Kind::Float);
for (fusion, discard_ratio, chosen) in [(Fusion::Max, 0.9, "all"), (Fusion::Mean, 0.5, "2..5"), (Fusion::Min, 0.0, "1,4")] {
    let options = Rollout { fusion, discard_ratio, layers: chosen.parse().unwrap(), ..Rollout::default() };
    let layers: &[i64] = match chosen {
        "all" => &[0, 1, 2, 3, 4, 5],
        "2..5" => &[2, 3, 4],
        _ => &[1, 4],
    };
    let joint: Tensor = joint_attentions(&attention, fusion, discard_ratio, layers);
    let expected = rollout(&attention, &options).unwrap().get(0);
    let apart = (joint.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
    ::std::assert!(apart < 1e-6, "{fusion}, {discard_ratio}, layers {chosen}: the products differ by {apart:.1e}");
}
