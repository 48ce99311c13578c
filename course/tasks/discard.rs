//! Write `discard`: the `floor(S · S · discard_ratio)` smallest entries of the matrix become 0; the entry (class, class)
//! keeps its value in any case.
//# seen
use ::vitlab::tch::{Kind, Tensor};
let matrix = [0.9, 0.5, 0.1, 0.2, 0.3, 0.4, 0.8, 0.7, 0.6];
let fused = Tensor::from_slice(&matrix).view([3, 3]);
for (ratio, below) in [(0.0, 0.0), (0.35, 0.35), (0.7, 0.65)] {
    let kept: Tensor = discard(&fused, ratio);
    ::std::assert_eq!(kept.size(), [3, 3], "the matrix keeps its shape");
    let values = <::std::vec::Vec<f64>>::try_from(kept.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let expected = matrix.map(|entry| if entry < below { 0.0 } else { entry });
    ::std::assert_eq!(values, expected, "discard ratio {ratio}");
}
//# hidden
use ::vitlab::tch::{Device, Kind, Tensor};
let fused = Tensor::rand([12, 12], (Kind::Double, Device::Cpu)) + 0.01;
let _ = fused.get(0).get(0).fill_(0.001); // (class, class) is the smallest
let given = <::std::vec::Vec<f64>>::try_from(fused.flatten(0, -1)).unwrap();
let mut sorted = given.clone();
sorted.sort_by(f64::total_cmp);
for ratio in [0.25, 0.5, 0.9] {
    let count = (144.0 * ratio) as usize;
    let kept: Tensor = discard(&fused, ratio);
    let values = <::std::vec::Vec<f64>>::try_from(kept.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    ::std::assert_eq!(values[0], 0.001, "discard ratio {ratio}: (class, class) keeps its value");
    for entry in 1..144 {
        let expected = if given[entry] < sorted[count] { 0.0 } else { given[entry] };
        ::std::assert_eq!(values[entry], expected, "discard ratio {ratio}, entry {entry} of 12 × 12");
    }
}
