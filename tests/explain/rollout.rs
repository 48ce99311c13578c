//! Rollout, compared with NumPy.

use crate::{largest_difference, reference, refusal, softmax_attention};
use tch::{Device, Kind, Tensor};
use vitlab::explain::{DiscardPer, Fusion, Heatmap, Layers, Normalisation, Rollout, rollout};

/// Options from the names that rollout.py gives its results.
pub fn options(name: &str) -> Rollout {
    let [fusion, ratio, per, layers, normalisation] = name.split('/').collect::<Vec<_>>().try_into().unwrap();
    Rollout {
        fusion: fusion.parse().unwrap(),
        discard_ratio: ratio.parse().unwrap(),
        discard_per: per.parse().unwrap(),
        layers: layers.parse().unwrap(),
        normalisation: normalisation.parse().unwrap(),
    }
}

#[test]
fn rollout_equals_numpy_in_a_batch_and_image_by_image() {
    tch::set_num_threads(1); // The matrices are too small to split, and other tests need the cores.
    let reference = reference("rollout.py");
    let (mut compared, mut largest) = (0, 0f64);
    for (name, expected) in &reference {
        let (case, name) = name.split_once('/').unwrap();
        if name == "attention" {
            continue;
        }
        let attention = &reference[&format!("{case}/attention")];
        let options = options(name);
        let batch = rollout(attention, &options).unwrap();
        let single: Vec<Tensor> =
            (0..attention.size()[0]).map(|image| rollout(&attention.get(image), &options).unwrap()).collect();
        let single = Tensor::cat(&single, 0);
        let worst = largest_difference(&batch, expected).max(largest_difference(&single, expected));
        assert!(worst <= 1e-6, "{case} {name}: {worst:e}");
        if options.normalisation == Normalisation::RowSum {
            let rows = batch.sum_dim_intlist([-1i64].as_slice(), false, None);
            assert!(largest_difference(&rows, &rows.ones_like()) < 1e-12, "{case} {name}: rows don't sum to 1");
        }
        compared += 1;
        largest = largest.max(worst);
    }
    println!("{compared} sets of options, largest difference {largest:e}");
    assert_eq!(compared, 3 * 3 * 4 * 2 * 5 * 2);
}

#[test]
fn identity_attention_gives_identity() {
    let identity = Tensor::eye(10, (Kind::Float, Device::Cpu)).repeat([2, 3, 4, 1, 1]);
    for fusion in [Fusion::Mean, Fusion::Max, Fusion::Min] {
        for discard_ratio in [0.0, 0.5, 0.9] {
            let options = Rollout { fusion, discard_ratio, ..Rollout::default() };
            let expected = Tensor::eye(10, (Kind::Double, Device::Cpu)).repeat([2, 1, 1]);
            assert_eq!(largest_difference(&rollout(&identity, &options).unwrap(), &expected), 0.0);
        }
    }
}

#[test]
fn without_discarding_the_mean_is_the_same_in_compat_and_the_maximum_is_not() {
    let attention = softmax_attention([2, 6, 4, 50, 50]);
    let compared = |fusion| {
        let row = Rollout { fusion, ..Rollout::default() };
        let compat = Rollout { normalisation: Normalisation::Compat, ..row.clone() };
        largest_difference(&rollout(&attention, &row).unwrap(), &rollout(&attention, &compat).unwrap())
    };
    assert!(compared(Fusion::Mean) <= 1e-6);
    assert!(compared(Fusion::Max) > 1e-3);
}

#[test]
fn a_graph_or_another_type_changes_nothing() {
    let attention = softmax_attention([2, 3, 2, 17, 17]);
    let plain = rollout(&attention, &Rollout::default()).unwrap();
    let tracked = rollout(&attention.copy().set_requires_grad(true), &Rollout::default()).unwrap();
    assert!(!tracked.requires_grad());
    assert_eq!(largest_difference(&plain, &tracked), 0.0);
    let double = rollout(&attention.to_kind(Kind::Double), &Rollout::default()).unwrap();
    assert_eq!(largest_difference(&plain, &double), 0.0);
}

#[test]
fn a_graphics_card_gives_the_same() {
    let Device::Cuda(_) = Device::cuda_if_available() else {
        return;
    };
    let attention = softmax_attention([3, 6, 4, 50, 50]);
    for discard_per in [DiscardPer::Matrix, DiscardPer::Row] {
        let options = Rollout { discard_ratio: 0.9, discard_per, fusion: Fusion::Max, ..Rollout::default() };
        let here = rollout(&attention, &options).unwrap();
        let there = rollout(&attention.to_device(Device::Cuda(0)), &options).unwrap();
        assert!(largest_difference(&here, &there.to_device(Device::Cpu)) < 1e-12);
        let maps = Heatmap::default().maps(&there).unwrap() - Heatmap::default().maps(&here).unwrap();
        assert!(maps.iter().all(|d| d.abs() < 1e-6));
    }
}

#[test]
fn bad_rollout_arguments_are_named() {
    let attention = softmax_attention([2, 6, 4, 10, 10]);
    let with = |change: &dyn Fn(&mut Rollout)| {
        let mut options = Rollout::default();
        change(&mut options);
        refusal(rollout(&attention, &options))
    };
    for ratio in [1.0, -0.1, f64::NAN, f64::INFINITY] {
        assert!(with(&|o| o.discard_ratio = ratio).starts_with(&format!("discard ratio {ratio}: ")));
    }
    for (layers, problem) in [
        ("2..2", "no layer is chosen"),
        ("5..2", "no layer is chosen"),
        ("3..7", "this model has 6 layers, 0 to 5"),
        ("0..18446744073709551615", "this model has 6 layers, 0 to 5"),
        ("6", "this model has 6 layers, 0 to 5"),
        ("1,1", "each layer once, in ascending order"),
        ("4,1", "each layer once, in ascending order"),
    ] {
        let message = with(&|o| o.layers = layers.parse().unwrap());
        assert!(message.starts_with(&format!("layers {layers}: ")) && message.contains(problem), "{message}");
    }
    for text in ["", "a", "1..", "1;2", "-1"] {
        assert!(refusal(text.parse::<Layers>()).contains("write all, a range as 0..3"));
    }
    let message = refusal("median".parse::<Fusion>());
    assert!(message.contains("fusion") && message.contains("`mean`, `max`, `min`"), "{message}");

    for shape in [vec![4, 10, 10], vec![2, 6, 4, 10, 9], vec![0, 6, 4, 10, 10], vec![1, 2, 6, 4, 10, 10]] {
        let other_shape = Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
        let message = refusal(rollout(&other_shape, &Rollout::default()));
        assert!(message.contains(&format!("{shape:?}")) && message.contains("[B, L, H, S, S]"), "{message}");
    }
    for value in [f64::NAN, f64::INFINITY, -0.5] {
        for fusion in [Fusion::Mean, Fusion::Max, Fusion::Min] {
            let broken = attention.copy();
            let _ = broken.select(1, 3).fill_(value);
            let message = refusal(rollout(&broken, &Rollout { fusion, ..Rollout::default() }));
            assert!(message.contains("negative or not finite"), "{message}");
        }
    }
}
