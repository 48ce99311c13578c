//! Attention entropy and attention distance.

use crate::{largest_difference, refusal, softmax_attention};
use ndarray::Array2;
use tch::{Device, Kind, Tensor};
use vitlab::explain::{Rollout, attention_distance, attention_entropy, rollout};

#[test]
fn many_images_equal_each_by_itself() {
    let attention = softmax_attention([70, 3, 2, 17, 17]);
    let options = Rollout { discard_ratio: 0.5, ..Rollout::default() };
    let batch = rollout(&attention, &options).unwrap();
    let (mut entropy, mut distance) = (Array2::zeros([3, 2]), Array2::zeros([3, 2]));
    for image in 0..70 {
        let single = attention.get(image);
        assert!(largest_difference(&batch.narrow(0, image, 1), &rollout(&single, &options).unwrap()) < 1e-12);
        entropy += &attention_entropy(&single).unwrap();
        distance += &attention_distance(&single, 1, 4.0).unwrap();
    }
    let close = |many: Array2<f64>, sum: Array2<f64>| (many - sum / 70.0).iter().all(|d| d.abs() < 1e-9);
    assert!(close(attention_entropy(&attention).unwrap(), entropy));
    assert!(close(attention_distance(&attention, 1, 4.0).unwrap(), distance));
}

#[test]
fn attention_to_and_from_the_class_token_has_no_distance() {
    // Each patch of a 1 × 1, 2 × 2 or 3 × 3 grid attends half to the class token, half to the first patch.
    for side in 1..4 {
        let tokens = side * side + 1;
        let attention = Tensor::zeros([1, 1, 1, tokens, tokens], (Kind::Float, Device::Cpu));
        let _ = attention.narrow(4, 0, 2).fill_(0.5);
        let distances = (0..side).flat_map(|y| (0..side).map(move |x| ((y * y + x * x) as f64).sqrt()));
        let expected = distances.sum::<f64>() / (side * side) as f64;
        let distance = attention_distance(&attention, 1, 1.0).unwrap()[[0, 0]];
        assert!((distance - expected).abs() < 1e-12, "{side}: {distance} instead of {expected}");
    }
    let nan = Tensor::full([1, 1, 5, 5], f64::NAN, (Kind::Float, Device::Cpu));
    assert!(refusal(attention_distance(&nan, 1, 1.0)).contains("not finite"));
    assert!(refusal(attention_entropy(&nan)).contains("not finite"));
    assert!(refusal(attention_distance(&nan, 2, 1.0)).contains("3 patches, which is no square"));
}
