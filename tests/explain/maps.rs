//! Grids and heatmaps, compared with PyTorch's interpolation.

use crate::{largest_difference, reference, refusal, softmax_attention};
use tch::{Device, Kind, Tensor};
use vitlab::explain::{Heatmap, MapScale, Query, Rollout, Upsample, grid, rollout};

#[test]
fn maps_equal_pytorch_interpolation() {
    let reference = reference("heatmaps.py");
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
        let maps = heatmap.maps(&reference[&format!("{size}/{prefix}/matrix")]).unwrap();
        assert!(largest_difference(&Tensor::try_from(maps).unwrap(), expected) <= 1e-6, "{name}");
        compared += 1;
    }
    assert_eq!(compared, (2 + 3 + 2 + 3) * 2 * 3);
}

#[test]
fn an_empty_or_flat_map_has_no_nan_and_no_contrast() {
    for value in [0.0, 0.02] {
        let matrix = Tensor::full([2, 50, 50], value, (Kind::Double, Device::Cpu));
        // Rounding noise, as in float32 attention, must not show as structure.
        let noise = Tensor::rand([2, 50, 50], (Kind::Double, Device::Cpu)) * 1e-9 * value;
        for scale in [MapScale::Max, MapScale::MinMax, MapScale::Raw] {
            for upsample in [Upsample::Bilinear, Upsample::Nearest] {
                let maps = Heatmap { scale, upsample, ..Heatmap::default() }.maps(&(&matrix + &noise)).unwrap();
                let expected = match scale {
                    MapScale::Max if value > 0.0 => 1.0,
                    MapScale::Raw => value as f32,
                    _ => 0.0,
                };
                assert!(maps.iter().all(|v| (v - expected).abs() < 1e-6), "{scale} {upsample} of {value}");
            }
        }
    }
    // A map is also empty if everything but the entry (class, class) is discarded.
    let options = Rollout { discard_ratio: 0.999, ..Rollout::default() };
    let product = rollout(&softmax_attention([1, 6, 4, 50, 50]), &options).unwrap();
    for scale in [MapScale::Max, MapScale::MinMax, MapScale::Raw] {
        assert!(Heatmap { scale, ..Heatmap::default() }.maps(&product).unwrap().iter().all(|v| v.is_finite()));
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
    let small = Heatmap { image_size: 6, ..Heatmap::default() };
    assert!(refusal(small.maps(&matrix)).contains("image size 6"));
    assert!(refusal("cls".parse::<Query>()).contains("class, dist or a token's number"));
}
