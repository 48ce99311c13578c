//! Write `attention_heatmap`: the class token's row of the product, over the patches, becomes a picture of 28 × 28 pixels.
//! `interpolation` gives the weights of the 7 patch centres for 28 pixels. Divide the picture by its largest value.
//# frame
//= interpolation
//= attention_heatmap
//# seen
use ::vitlab::explain::Fusion;
use ::vitlab::tch::{Device, Kind, Tensor};
// The class token takes from one patch only: the patch in row 1 and column 5 of 7 × 7, which is token 1 + 7 · 1 + 5.
let attention = Tensor::zeros([1, 1, 50, 50], (Kind::Float, Device::Cpu));
let _ = attention.get(0).get(0).get(0).get(13).fill_(1.0);
let map: Tensor = attention_heatmap(&attention, Fusion::Mean, 0.0, &[0]);
::std::assert_eq!(map.size(), [28, 28], "the heatmap has the size of the image");
::std::assert!((map.max().double_value(&[]) - 1.0).abs() < 1e-6, "the largest value is 1");
// Its pixels are in rows 4 to 7 and columns 20 to 23.
let inside = map.narrow(0, 4, 4).narrow(1, 20, 4).min().double_value(&[]);
::std::assert!(inside > 0.5, "the patch in row 1 and column 5 is bright, here its darkest pixel is {inside:.2}");
let far = map.narrow(0, 12, 16).max().double_value(&[]);
::std::assert!(far < 1e-6, "rows 12 to 27 are dark, here the brightest pixel is {far:.2}");
//# hidden
use ::vitlab::explain::{Fusion, Heatmap, Rollout, rollout};
use ::vitlab::tch::{Device, Kind, Tensor};
let attention = (Tensor::rand([6, 4, 50, 50], (Kind::Float, Device::Cpu)) * 8.0).softmax(-1, Kind::Float);
for (fusion, discard_ratio) in [(Fusion::Max, 0.9), (Fusion::Mean, 0.0)] {
    let map: Tensor = attention_heatmap(&attention, fusion, discard_ratio, &[0, 1, 2, 3, 4, 5]);
    let values = <::std::vec::Vec<f64>>::try_from(map.to_kind(Kind::Double).flatten(0, -1)).unwrap();
    let options = Rollout { fusion, discard_ratio, ..Rollout::default() };
    let expected = Heatmap::default().maps(&rollout(&attention, &options).unwrap()).unwrap();
    ::std::assert_eq!(values.len(), expected.len(), "the heatmap has 28 × 28 pixels");
    for (pixel, (value, expected)) in values.iter().zip(expected.iter()).enumerate() {
        ::std::assert!((value - f64::from(*expected)).abs() < 1e-5, "{fusion}, {discard_ratio}: pixel {pixel} is {value}");
    }
}
