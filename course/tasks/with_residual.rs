//! Write `with_residual`: add the identity matrix, which stands for the residual connection, and divide each row by its sum.
//# seen
use ::vitlab::tch::{Kind, Tensor};
// [[0, 1], [1, 2]] and the identity are [[1, 1], [1, 3]], whose rows sum to 2 and 4.
let step: Tensor = with_residual(&Tensor::from_slice(&[0.0, 1.0, 1.0, 2.0]).view([2, 2]));
let values = <::std::vec::Vec<f64>>::try_from(step.to_kind(Kind::Double).flatten(0, -1)).unwrap();
::std::assert_eq!(values, [0.5, 0.5, 0.25, 0.75], "with_residual of [[0, 1], [1, 2]]");
//# hidden
use ::vitlab::tch::{Device, Kind, Tensor};
let kept = Tensor::rand([9, 9], (Kind::Double, Device::Cpu));
let given = <::std::vec::Vec<f64>>::try_from(kept.flatten(0, -1)).unwrap();
let step: Tensor = with_residual(&kept);
let values = <::std::vec::Vec<f64>>::try_from(step.to_kind(Kind::Double).flatten(0, -1)).unwrap();
for row in 0..9 {
    let sum = given[row * 9..row * 9 + 9].iter().sum::<f64>() + 1.0;
    for column in 0..9 {
        let expected = (given[row * 9 + column] + if row == column { 1.0 } else { 0.0 }) / sum;
        let value = values[row * 9 + column];
        ::std::assert!((value - expected).abs() < 1e-9, "row {row}, column {column}: {value} instead of {expected}");
    }
}
