//! Deletion and insertion curves of models with a known answer.

use crate::{largest_difference, refusal};
use ndarray::Array3;
use tch::{Device, Kind, Tensor};
use vitlab::Result;
use vitlab::explain::{Baseline, Curve, Direction, Faithfulness, Heatmap, Target, Upsample, random_maps};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Images with one bright patch (4 × 4 pixels), maps of that patch, and a model whose score is the patch's brightness.
fn bright_patches() -> (Tensor, Array3<f32>, impl Fn(&Tensor) -> Result<Tensor> + Copy) {
    let images = Tensor::rand([6, 1, 28, 28], CPU) * 0.1;
    let maps = Tensor::zeros([6, 28, 28], CPU);
    for image in 0..6 {
        let patch = |t: &Tensor| t.get(image).narrow(-2, 4 * image, 4).narrow(-1, 8, 4);
        let _ = patch(&images).g_add_(&Tensor::ones([4, 4], CPU));
        let _ = patch(&maps).fill_(1.0);
    }
    let values = Vec::<f32>::try_from(maps.flatten(0, -1)).unwrap();
    let maps = Array3::from_shape_vec([6, 28, 28], values).unwrap();
    let model = |images: &Tensor| {
        let brightest = images.max_pool2d([4, 4], [4, 4], [0, 0], [1, 1], false).amax([1i64, 2, 3].as_slice(), false);
        Ok(Tensor::stack(&[&((brightest - 0.6) * 20.0), &images.new_zeros([images.size()[0]], CPU)], 1))
    };
    (images, maps, model)
}

#[test]
fn a_right_map_beats_random_ones_and_those_beat_the_wrong_one() {
    let (images, maps, model) = bright_patches();
    let random = random_maps(6, 7, &Heatmap::default(), 42).unwrap();
    for baseline in [Baseline::Mean, Baseline::Blur] {
        for direction in [Direction::Deletion, Direction::Insertion] {
            let options = Faithfulness { baseline, direction, ..Faithfulness::default() };
            let area = |maps: &Array3<f32>| {
                let curve = options.curve(model, &images, maps, &Target::Predicted).unwrap();
                assert_eq!((curve.shares[0], curve.shares[49]), (0.0, 1.0));
                let areas = curve.areas();
                assert!((areas.mean().unwrap() - mean_area(&curve)).abs() < 1e-9);
                areas.mean().unwrap()
            };
            let areas = [area(&maps), area(&random), area(&maps.mapv(|v| -v))];
            let ordered = match direction {
                Direction::Deletion => areas.is_sorted_by(|a, b| a + 0.05 < *b),
                Direction::Insertion => areas.is_sorted_by(|a, b| *a > b + 0.05),
            };
            assert!(ordered, "{baseline} {direction}: {areas:?}");
        }
    }
}

/// Area under the mean curve, which equals the mean of the areas.
fn mean_area(curve: &Curve) -> f64 {
    let mean = curve.mean();
    (1..mean.len()).map(|i| (mean[i - 1] + mean[i]) / 2.0 * (curve.shares[i] - curve.shares[i - 1])).sum()
}

#[test]
fn insertion_backwards_is_deletion() {
    let (images, _, model) = bright_patches();
    // Random values per pixel: since no two are equal, the negated map has the reversed order.
    let maps = random_maps(6, 28, &Heatmap::default(), 7).unwrap();
    let probabilities = |direction, maps: &Array3<f32>| {
        let options = Faithfulness { direction, steps: 8, ..Faithfulness::default() };
        options.curve(model, &images, maps, &Target::Class(0)).unwrap().probabilities
    };
    let deletion = probabilities(Direction::Deletion, &maps);
    let mut insertion = probabilities(Direction::Insertion, &maps.mapv(|v| -v));
    insertion.invert_axis(ndarray::Axis(1));
    assert_eq!(deletion, insertion);
}

#[test]
fn the_blurred_baseline_is_a_gaussian_and_keeps_flat_images_flat() {
    // With all pixels deleted, the input is the baseline: each of these models returns one pixel of it.
    let pixel = |images: &Tensor, y: i64, x: i64| {
        let images = images.shallow_clone();
        let model = move |baseline: &Tensor| {
            let pixel = baseline.select(3, x).select(2, y).select(1, 0);
            Ok(Tensor::stack(&[&pixel.log(), &(-&pixel).log1p()], 1))
        };
        let options = Faithfulness { baseline: Baseline::Blur, steps: 1, ..Faithfulness::default() };
        let maps = Array3::zeros([1, 28, 28]);
        options.curve(model, &images, &maps, &Target::Class(0)).unwrap().probabilities[[0, 1]]
    };
    let flat = Tensor::full([1, 1, 28, 28], 0.25, CPU);
    assert!((pixel(&flat, 0, 0) - 0.25).abs() < 1e-6);
    let point = Tensor::zeros([1, 1, 28, 28], CPU);
    let _ = point.get(0).get(0).get(14).narrow(0, 14, 1).fill_(1.0);
    let weight = |d: f64| (-d * d / 32.0).exp();
    let total: f64 = (-12..=12).map(|d| weight(d as f64)).sum();
    for (y, x) in [(14, 14), (14, 17), (10, 20)] {
        let expected = weight(y as f64 - 14.0) * weight(x as f64 - 14.0) / (total * total);
        assert!((pixel(&point, y, x) - expected).abs() < 1e-6);
    }
}

#[test]
fn random_maps_are_as_coarse_as_the_maps_they_control() {
    let nearest = Heatmap { upsample: Upsample::Nearest, ..Heatmap::default() };
    let maps = Tensor::try_from(random_maps(3, 7, &nearest, 1).unwrap()).unwrap();
    let patches = maps.reshape([3, 7, 4, 7, 4]);
    assert_eq!(
        largest_difference(&patches.amax([2i64, 4].as_slice(), false), &patches.amin([2i64, 4].as_slice(), false)),
        0.0
    );
}

#[test]
fn bad_arguments_are_named() {
    let (images, maps, model) = bright_patches();
    let options = Faithfulness::default();
    let ask =
        |options: &Faithfulness, maps: &Array3<f32>, target| refusal(options.curve(model, &images, maps, &target));
    assert!(ask(&options, &Array3::zeros([6, 7, 7]), Target::Predicted).contains("give [B, C, I, I] and [B, I, I]"));
    assert!(ask(&options, &maps.mapv(|_| f32::NAN), Target::Predicted).contains("not finite"));
    assert!(ask(&options, &maps, Target::Class(2)).contains("this model has 2 classes, 0 to 1"));
    for steps in [0, 785] {
        let options = Faithfulness { steps, ..Faithfulness::default() };
        assert!(ask(&options, &maps, Target::Predicted).contains("give 1 to 784"));
    }
    assert!(refusal(random_maps(0, 7, &Heatmap::default(), 1)).contains("at least one"));
    assert!(refusal(random_maps(1, 29, &Heatmap::default(), 1)).contains("image size 28"));
}
