//! Attention rollout, gradient methods and maps against independent references in Python.

mod python;

use std::collections::HashMap;
use tch::{Device, Kind, Tensor};
use vitlab::Result;
use vitlab::explain::{
    DiscardPer, Fusion, Heatmap, Normalisation, Query, Rollout, Scale, Target, Upsample,
    gradient_attention, grid, relevance, rollout,
};

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double))
        .abs()
        .max()
        .double_value(&[])
}

fn softmax_attention(size: [i64; 5]) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu))
        .g_mul_scalar(2.0)
        .softmax(-1, Kind::Float)
}

fn options(name: &str) -> Rollout {
    let [fusion, ratio, per, layers, normalisation] =
        name.split('/').collect::<Vec<_>>().try_into().unwrap();
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
    let reference = python::reference("rollout.py");
    let (mut compared, mut largest) = (0, 0f64);
    for (name, expected) in &reference {
        let (case, name) = name.split_once('/').unwrap();
        if name == "attention" {
            continue;
        }
        let attention = &reference[&format!("{case}/attention")];
        let options = options(name);
        let batch = rollout(attention, &options).unwrap();
        let single: Vec<Tensor> = (0..attention.size()[0])
            .map(|image| rollout(&attention.get(image), &options).unwrap())
            .collect();
        let single = Tensor::cat(&single, 0);
        let worst = difference(&batch, expected).max(difference(&single, expected));
        assert!(worst <= 1e-6, "{case} {name}: {worst:e}");
        if options.normalisation == Normalisation::RowSum {
            let rows = batch.sum_dim_intlist([-1i64].as_slice(), false, None);
            assert!(
                difference(&rows, &rows.ones_like()) < 1e-12,
                "{case} {name}: rows don't sum to 1"
            );
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
            let options = Rollout {
                fusion,
                discard_ratio,
                ..Rollout::default()
            };
            let expected = Tensor::eye(10, (Kind::Double, Device::Cpu)).repeat([2, 1, 1]);
            assert_eq!(
                difference(&rollout(&identity, &options).unwrap(), &expected),
                0.0
            );
        }
    }
}

#[test]
fn without_discarding_the_mean_is_the_same_in_compat_and_the_maximum_is_not() {
    let attention = softmax_attention([2, 6, 4, 50, 50]);
    let compared = |fusion| {
        let row = Rollout {
            fusion,
            ..Rollout::default()
        };
        let compat = Rollout {
            normalisation: Normalisation::Compat,
            ..row.clone()
        };
        difference(
            &rollout(&attention, &row).unwrap(),
            &rollout(&attention, &compat).unwrap(),
        )
    };
    assert!(compared(Fusion::Mean) <= 1e-6);
    assert!(compared(Fusion::Max) > 1e-3);
}

#[test]
fn a_graph_or_another_type_changes_nothing() {
    let attention = softmax_attention([2, 3, 2, 17, 17]);
    let plain = rollout(&attention, &Rollout::default()).unwrap();
    let tracked = rollout(
        &attention.copy().set_requires_grad(true),
        &Rollout::default(),
    )
    .unwrap();
    assert!(!tracked.requires_grad());
    assert_eq!(difference(&plain, &tracked), 0.0);
    let double = rollout(&attention.to_kind(Kind::Double), &Rollout::default()).unwrap();
    assert_eq!(difference(&plain, &double), 0.0);
}

#[test]
fn a_graphics_card_gives_the_same() {
    let Device::Cuda(_) = Device::cuda_if_available() else {
        return;
    };
    let attention = softmax_attention([3, 6, 4, 50, 50]);
    for discard_per in [DiscardPer::Matrix, DiscardPer::Row] {
        let options = Rollout {
            discard_ratio: 0.9,
            discard_per,
            fusion: Fusion::Max,
            ..Rollout::default()
        };
        let here = rollout(&attention, &options).unwrap();
        let there = rollout(&attention.to_device(Device::Cuda(0)), &options).unwrap();
        assert!(difference(&here, &there.to_device(Device::Cpu)) < 1e-12);
        let maps =
            Heatmap::default().maps(&there).unwrap() - Heatmap::default().maps(&here).unwrap();
        assert!(maps.iter().all(|d| d.abs() < 1e-6));
    }
}

#[test]
fn maps_equal_pytorch_interpolation() {
    let reference = python::reference("heatmaps.py");
    let mut compared = 0;
    for (name, expected) in &reference {
        let parts: Vec<&str> = name.split('/').collect();
        let [size, prefix, query, upsample, scale] = parts[..] else {
            continue;
        };
        let heatmap = Heatmap {
            scale: scale.parse().unwrap(),
            upsample: upsample.parse().unwrap(),
            query: query.parse().unwrap(),
            prefix_tokens: prefix.parse().unwrap(),
            image_size: size.parse().unwrap(),
        };
        let maps = heatmap
            .maps(&reference[&format!("{size}/{prefix}/matrix")])
            .unwrap();
        assert!(
            difference(&Tensor::try_from(maps).unwrap(), expected) <= 1e-6,
            "{name}"
        );
        compared += 1;
    }
    assert_eq!(compared, (2 + 3 + 2 + 3) * 2 * 3);
}

#[test]
fn an_empty_or_flat_map_has_no_nan_and_no_contrast() {
    for value in [0.0, 0.02] {
        let matrix = Tensor::full([2, 50, 50], value, (Kind::Double, Device::Cpu));
        // Rounding noise, as float32 attention brings it, is no structure.
        let noise = Tensor::rand([2, 50, 50], (Kind::Double, Device::Cpu)) * 1e-9 * value;
        for scale in [Scale::Max, Scale::MinMax, Scale::Raw] {
            for upsample in [Upsample::Bilinear, Upsample::Nearest] {
                let maps = Heatmap {
                    scale,
                    upsample,
                    ..Heatmap::default()
                }
                .maps(&(&matrix + &noise))
                .unwrap();
                let expected = match scale {
                    Scale::Max if value > 0.0 => 1.0,
                    Scale::Raw => value as f32,
                    _ => 0.0,
                };
                assert!(
                    maps.iter().all(|v| (v - expected).abs() < 1e-6),
                    "{scale} {upsample} of {value}"
                );
            }
        }
    }
    // A map may also be empty because everything but the class token was discarded.
    let options = Rollout {
        discard_ratio: 0.999,
        ..Rollout::default()
    };
    let product = rollout(&softmax_attention([1, 6, 4, 50, 50]), &options).unwrap();
    for scale in [Scale::Max, Scale::MinMax, Scale::Raw] {
        assert!(
            Heatmap {
                scale,
                ..Heatmap::default()
            }
            .maps(&product)
            .unwrap()
            .iter()
            .all(|v| v.is_finite())
        );
    }
}

/// The network of gradients.py on a batch: scores and each layer's attention, with the graph.
fn network(weights: &HashMap<String, Tensor>, kind: Kind) -> (Tensor, Vec<Tensor>) {
    let weight = |name: &str| weights[name].to_kind(kind).set_requires_grad(true);
    let mut x = weights["input"].to_kind(kind);
    let (images, tokens, embed) = x.size3().unwrap();
    let mut attentions = vec![];
    for layer in 0..4 {
        let split = |name: &str| {
            let projected = x.matmul(&weight(&format!("{layer}/{name}")));
            projected
                .reshape([images, tokens, 3, embed / 3])
                .transpose(1, 2) // [B, S, E] -> [B, H, S, E/H]
        };
        let attention = split("queries")
            .matmul(&split("keys").transpose(2, 3))
            .softmax(-1, kind);
        let mixed = attention
            .matmul(&split("values"))
            .transpose(1, 2)
            .reshape([images, tokens, embed]);
        x = &x + mixed.tanh();
        attentions.push(attention);
    }
    (x.select(1, 0).matmul(&weight("head")), attentions)
}

#[test]
fn gradient_methods_equal_autograd_for_any_class_from_one_forward_pass() {
    let reference = python::reference("gradients.py");
    let classes = Vec::<i64>::try_from(&reference["classes"]).unwrap();
    let targets = [
        ("predicted", Target::Predicted),
        ("class", Target::Class(2)),
        ("image", Target::PerImage(classes)),
    ];
    for (kind, tolerance) in [(Kind::Double, 1e-10), (Kind::Float, 1e-5)] {
        let (logits, attentions) = network(&reference, kind);
        assert!(difference(&logits, &reference["logits"]) < tolerance);
        for (name, target) in &targets {
            let weighted = gradient_attention(&logits, &attentions, target).unwrap();
            let close = |ours: &Tensor, key: &str| {
                let expected = &reference[&format!("{name}/{key}")];
                let relative = difference(ours, expected) / expected.abs().max().double_value(&[]);
                assert!(relative <= tolerance, "{kind:?} {name}/{key}: {relative:e}");
            };
            close(&relevance(&weighted).unwrap(), "relevance");
            for ratio in [0.0, 0.5, 0.9] {
                let options = Rollout {
                    discard_ratio: ratio,
                    ..Rollout::default()
                };
                close(
                    &rollout(&weighted, &options).unwrap(),
                    &format!("rollout/{ratio}"),
                );
            }
        }
    }
}

fn refusal<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
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
        assert!(
            with(&|o| o.discard_ratio = ratio).starts_with(&format!("discard ratio {ratio}: "))
        );
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
        assert!(
            message.starts_with(&format!("layers {layers}: ")) && message.contains(problem),
            "{message}"
        );
    }
    for text in ["", "a", "1..", "1;2", "-1"] {
        assert!(
            refusal(text.parse::<vitlab::explain::Layers>()).contains("write all, a range as 0..3")
        );
    }
    let message = refusal("median".parse::<Fusion>());
    assert!(
        message.contains("fusion") && message.contains("`mean`, `max`, `min`"),
        "{message}"
    );

    for shape in [
        vec![4, 10, 10],
        vec![2, 6, 4, 10, 9],
        vec![0, 6, 4, 10, 10],
        vec![1, 2, 6, 4, 10, 10],
    ] {
        let wrong = Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
        let message = refusal(rollout(&wrong, &Rollout::default()));
        assert!(
            message.contains(&format!("{shape:?}")) && message.contains("[B, L, H, S, S]"),
            "{message}"
        );
    }
    for value in [f64::NAN, f64::INFINITY, -0.5] {
        for fusion in [Fusion::Mean, Fusion::Max, Fusion::Min] {
            let broken = attention.copy();
            let _ = broken.select(1, 3).fill_(value);
            let message = refusal(rollout(
                &broken,
                &Rollout {
                    fusion,
                    ..Rollout::default()
                },
            ));
            assert!(message.contains("negative or not finite"), "{message}");
        }
    }
}

#[test]
fn bad_map_arguments_are_named() {
    let matrix = Tensor::ones([2, 50, 50], (Kind::Double, Device::Cpu));
    let cases = [
        (Query::Class, 2, "48 patches, which is no square"),
        (Query::Class, 50, "0 patches"),
        (Query::Class, -14, "prefix tokens -14"),
        (Query::Distillation, 1, "no distillation token"),
        (Query::Token(50), 1, "this model has 50 tokens, 0 to 49"),
        (Query::Token(-1), 1, "this model has 50 tokens, 0 to 49"),
    ];
    for (query, prefix, problem) in cases {
        let message = refusal(grid(&matrix, query, prefix));
        assert!(message.contains(problem), "{message}");
    }
    let patches_only = Tensor::ones([1, 49, 49], (Kind::Double, Device::Cpu));
    assert!(refusal(grid(&patches_only, Query::Class, 0)).contains("there is no class token"));
    assert!(grid(&patches_only, Query::Token(0), 0).is_ok());
    assert!(refusal(grid(&matrix.get(0), Query::Class, 1)).contains("give [B, S, S]"));
    assert!(refusal(grid(&(&matrix * f64::NAN), Query::Class, 1)).contains("not finite"));
    let small = Heatmap {
        image_size: 6,
        ..Heatmap::default()
    };
    assert!(refusal(small.maps(&matrix)).contains("image size 6"));
    assert!(refusal("cls".parse::<Query>()).contains("class, dist or a token's number"));
}

#[test]
fn bad_gradient_arguments_are_named() {
    let attention = softmax_attention([2, 1, 2, 5, 5])
        .select(1, 0)
        .set_requires_grad(true);
    let logits = attention.sum_dim_intlist([1i64, 2].as_slice(), false, None); // [2, 5]
    let ask = |logits: &Tensor, attentions: &[&Tensor], target| {
        let attentions: Vec<Tensor> = attentions.iter().map(|a| a.shallow_clone()).collect();
        refusal(gradient_attention(logits, &attentions, &target))
    };
    assert!(
        ask(&logits, &[&attention], Target::Class(5)).contains("this model has 5 classes, 0 to 4")
    );
    assert!(
        ask(&logits, &[&attention], Target::PerImage(vec![1])).contains("1 classes for 2 images")
    );
    assert!(ask(&logits.detach(), &[&attention], Target::Predicted).contains("no graph"));
    assert!(ask(&logits, &[&attention.detach()], Target::Predicted).contains("no graph"));
    assert!(ask(&logits, &[], Target::Predicted).contains("one tensor [2, H, S, S] per layer"));
    assert!(
        ask(&logits, &[&attention.get(0)], Target::Predicted)
            .contains("one tensor [2, H, S, S] per layer")
    );
    let unrelated = attention.detach().copy().set_requires_grad(true);
    assert!(
        ask(&logits, &[&attention, &unrelated], Target::Predicted).contains("don't depend on them")
    );
}

#[test]
fn options_go_to_json_and_back() {
    let options = options("max/0.9/row/1,4/compat");
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(
        text,
        r#"{"fusion":"max","discard_ratio":0.9,"discard_per":"row","layers":"1,4","normalisation":"compat"}"#
    );
    assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), options);
    let heatmap: Heatmap =
        serde_json::from_str(r#"{"query": "dist", "prefix_tokens": 2}"#).unwrap();
    assert_eq!(
        heatmap,
        Heatmap {
            query: Query::Distillation,
            prefix_tokens: 2,
            ..Heatmap::default()
        }
    );
    assert!(serde_json::from_str::<Rollout>(r#"{"discard": 0.9}"#).is_err());
}
