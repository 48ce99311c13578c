//! Write `fuse`: the attention of all heads of one layer becomes one matrix, by mean, maximum or minimum of each entry.
//# seen
use ::vitlab::explain::Fusion;
use ::vitlab::tch::{Kind, Tensor};
// Two heads of two tokens: [[0.25, 0.75], [0.5, 0.5]] and [[0.75, 0.25], [1, 0]].
let heads = Tensor::from_slice(&[0.25f32, 0.75, 0.5, 0.5, 0.75, 0.25, 1.0, 0.0]).view([2, 2, 2]);
for (fusion, expected) in [
    (Fusion::Mean, [0.5, 0.5, 0.75, 0.25]),
    (Fusion::Max, [0.75, 0.75, 1.0, 0.5]),
    (Fusion::Min, [0.25, 0.25, 0.5, 0.0]),
] {
    let fused: Tensor = fuse(&heads, fusion);
    ::std::assert_eq!(fused.size(), [2, 2], "{fusion}: the heads [2, 2, 2] become one matrix [2, 2]");
    let values = <::std::vec::Vec<f64>>::try_from(fused.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    ::std::assert_eq!(values, expected, "{fusion} of two heads");
}
//# hidden
use ::vitlab::explain::Fusion;
use ::vitlab::tch::{Device, Kind, Tensor};
let heads = Tensor::rand([4, 7, 7], (Kind::Float, Device::Cpu)).softmax(-1, Kind::Float);
let given = <::std::vec::Vec<f64>>::try_from(heads.to_kind(Kind::Double).flatten(0, -1)).unwrap();
for fusion in [Fusion::Mean, Fusion::Max, Fusion::Min] {
    let fused: Tensor = fuse(&heads, fusion);
    ::std::assert_eq!(fused.size(), [7, 7], "{fusion} of four heads");
    let values = <::std::vec::Vec<f64>>::try_from(fused.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    for entry in 0..49 {
        let of_heads = [0, 1, 2, 3].map(|head| given[head * 49 + entry]);
        let expected = match fusion {
            Fusion::Mean => of_heads.iter().sum::<f64>() / 4.0,
            Fusion::Max => of_heads.iter().copied().fold(0.0, f64::max),
            Fusion::Min => of_heads.iter().copied().fold(1.0, f64::min),
        };
        ::std::assert!((values[entry] - expected).abs() < 1e-6, "{fusion} of four heads, entry {entry}");
    }
}
